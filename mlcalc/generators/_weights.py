"""Weights files of trained generators: safetensors with one JSON document. Reading them runs no code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mlcalc.errors import ModelFileError
from mlcalc.files import write_atomic

#: Folder of the weights that ship.
WEIGHTS = Path(__file__).parent / "weights"
_SUFFIX = ".safetensors"
# What stands before and behind the generator's name in a file.
_FORMAT = ("mlcalc-", "-1")


def weights_hash(description: Any, state: Mapping[str, Tensor]) -> str:
    """Return a digest of an architecture (JSON-ready) and its weights."""
    digest = hashlib.sha256(json.dumps(description).encode())
    for name, tensor in sorted(state.items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def find_weights(generator: str, weights: str | Path | None = None) -> Path:
    """Return the weights file that is meant: one of the user's, or one that ships, by name.

    Args:
        generator: its name.
        weights: a file, or the name of weights that ship: that of their file without the suffix. A file goes before a
            name. None takes the weights that are called as the generator.

    Raises:
        ModelFileError: neither a file nor such a name, or the name of another generator's weights.
    """
    if weights is None:
        return WEIGHTS / f"{generator}{_SUFFIX}"
    if Path(weights).is_file():
        return Path(weights)
    owners = _owners()
    owner = owners.get(str(weights))
    if owner == generator:
        return WEIGHTS / f"{weights}{_SUFFIX}"
    mine = ", ".join(name for name, other in owners.items() if other == generator) or "none"
    if owner:
        raise ModelFileError(
            f"the weights {weights} are those of the generator `{owner}`; of `{generator}` there are: {mine}"
        )
    raise ModelFileError(f"no weights file {weights}; weights of the generator `{generator}` that ship: {mine}")


def owner_of(weights: str | Path) -> str:
    """Return the generator whose weights a file holds, or some that ship, by name; see ``find_weights``.

    Raises:
        ModelFileError: neither a file nor such a name, or a file that is damaged or holds something else.
    """
    if Path(weights).is_file():
        return _owner(Path(weights))
    owners = _owners()
    if str(weights) not in owners:
        raise ModelFileError(f"no weights file {weights}; weights that ship: {', '.join(owners)}")
    return owners[str(weights)]


def _owners() -> dict[str, str]:
    """Return the generator of each of the weights that ship, by name."""
    return {path.stem: _owner(path) for path in sorted(WEIGHTS.glob(f"*{_SUFFIX}"), key=lambda path: path.stem)}


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
    with _opened(path) as (file, document):
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
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


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yield a file, and its document, empty where it holds none."""
    try:
        with safe_open(path, "pt") as file:
            yield file, json.loads((file.metadata() or {}).get("mlcalc", "{}"))
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ModelFileError(f"{path} is damaged: {error}") from error


def _owner(path: Path) -> str:
    with _opened(path) as (_, document):
        written = str(document.get("format"))
    owner = written.removeprefix(_FORMAT[0]).removesuffix(_FORMAT[1])
    if written != _format(owner):
        raise ModelFileError(f"{path} holds no weights of a generator ({written!r})")
    return owner


def _format(generator: str) -> str:
    return generator.join(_FORMAT)
