"""Weights files of trained generators: safetensors with one JSON document. Reading them runs no code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mlcalc.errors import ModelFileError
from mlcalc.files import write_atomic


def weights_hash(description: Any, state: Mapping[str, Tensor]) -> str:
    """Return a digest of an architecture (JSON-ready) and its weights."""
    digest = hashlib.sha256(json.dumps(description).encode())
    for name, tensor in sorted(state.items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def stamped(path: str | Path) -> tuple[Path, int, int]:
    """Return a path with when it was changed, ns, and its size: what is cached by these is read again once overwritten.

    What is no file gets zeros; reading it says what is wrong.
    """
    path = Path(path)
    try:
        found = path.stat()
    except OSError:
        return path, 0, 0
    return path, found.st_mtime_ns, found.st_size


def save_weights(path: str | Path, generator: str, document: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Write weights and what is needed to rebuild their network, whole or not at all."""
    full = {"format": _format(generator), **document}
    tensors = {name: tensor.detach().contiguous() for name, tensor in state.items()}
    write_atomic(path, save(tensors, metadata={"mlcalc": json.dumps(full)}))


def read_weights(path: str | Path, generator: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the document and the tensors of a weights file.

    Raises:
        ModelFileError: missing, damaged, or not of this generator.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"no weights file {path}")
    try:
        with safe_open(path, "pt") as file:
            document = json.loads((file.metadata() or {}).get("mlcalc", "{}"))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ModelFileError(f"{path} is damaged: {error}") from error
    if document.get("format") != _format(generator):
        raise ModelFileError(f"{path} holds no weights of the generator `{generator}` ({document.get('format')!r})")
    return document, state


def load_state(network: torch.nn.Module, state: Mapping[str, Tensor], path: str | Path) -> None:
    """Put the tensors of a file into a network.

    Raises:
        ModelFileError: they do not fit.
    """
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ModelFileError(f"{path} is damaged: {error}") from error
    network.eval()


def _format(generator: str) -> str:
    return f"mlcalc-{generator}-1"
