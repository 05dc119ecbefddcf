"""Weights files: safetensors with a JSON document, which cannot run code when loaded."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mlcalc.deploy import _document
from mlcalc.deploy._reference import Reference, make_reference
from mlcalc.errors import ModelFileError
from mlcalc.files import atomic_path
from mlcalc.potentials.base import Potential, PotentialInfo
from mlcalc.potentials.neural import NeuralPotential
from mlcalc.potentials.precision import parse_dtype
from mlcalc.potentials.registry import build

METADATA_KEY = "mlcalc"
_REQUIRED = ("architecture", "config", "info", "sha256", "reference")


def save_weights(potential: Potential, path: str | os.PathLike[str]) -> None:
    """Write the weights of one neural potential, what rebuilds it and what it must then give, atomically.

    Args:
        potential: a ``NeuralPotential``.
        path: by convention ``NAME.safetensors``.

    Raises:
        ValueError: if the potential is not a ``NeuralPotential`` (of a family of potentials, save each member), or a
            weight is NaN or infinite, or the potential gives NaN or infinity on its reference structure.
        FileNotFoundError: if the folder does not exist.
    """
    if not isinstance(potential, NeuralPotential):
        raise ValueError(
            f"weights files hold one NeuralPotential, not a {type(potential).__name__}; "
            "save its members one by one, or export a model file"
        )
    tensors = {name: value.detach().cpu().contiguous() for name, value in potential.state_dict().items()}
    bad = [name for name, value in tensors.items() if not torch.isfinite(value).all()]
    if bad:
        raise ValueError(f"weights are NaN or infinite in {', '.join(bad)}; nothing written")
    document = _document.weights_document(potential.config, potential.info, _checksum(tensors))
    exact = _rebuild(potential.config, potential.info, torch.float64, tensors)
    document["reference"] = make_reference(exact, exact, torch.float64).to_dict()
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={METADATA_KEY: _document.dump(document)})


def load_weights(path: str | os.PathLike[str], dtype: str | torch.dtype | None = None) -> NeuralPotential:
    """Rebuild a potential from a weights file, in evaluation mode, and check that it reproduces its reference.

    The check is in float64, whatever the dtype asked for: it is about the code of the network, not about rounding.

    Args:
        path: written by ``save_weights``.
        dtype: float32 or float64; None keeps that of the file.

    Raises:
        ModelFileError: if the file is missing, damaged, not ours, does not fit its architecture, or no longer gives
            the numbers it gave where it was written.
    """
    file = Path(path)
    document, tensors = _open(file)
    if _checksum(tensors) != document["sha256"]:
        raise ModelFileError(f"{file}: the weights do not match their checksum; get the file again")
    info = _document.read_info(document, file)
    wanted = next((t.dtype for t in tensors.values() if t.is_floating_point()), torch.float32)
    kind = parse_dtype(dtype) if dtype is not None else wanted
    try:
        exact = _rebuild(document["config"], info, torch.float64, tensors)
        potential = exact if kind == torch.float64 else _rebuild(document["config"], info, kind, tensors)
    except (ValueError, RuntimeError, AttributeError) as error:
        raise ModelFileError(
            f"{file}: does not fit architecture {document['architecture']!r} of this mlcalc ({error})"
        ) from error
    _check(exact, document, file)
    return potential


def _rebuild(
    config: dict[str, Any], info: PotentialInfo, dtype: torch.dtype, tensors: dict[str, Tensor]
) -> NeuralPotential:
    potential = build(config, info, dtype)
    potential.load_state_dict(tensors)
    return potential.eval()


def _check(potential: NeuralPotential, document: dict[str, Any], file: Path) -> None:
    try:
        complaint = Reference(**document["reference"]).complaint(potential, torch.float64)
    except (TypeError, ValueError, RuntimeError, IndexError, KeyError) as error:
        raise ModelFileError(f"{file}: its reference cannot be evaluated ({error}); get the file again") from error
    if complaint:
        raise ModelFileError(
            f"{file}: does not reproduce its own reference: {complaint}. This mlcalc computes architecture "
            f"{document['architecture']!r} differently from the one that wrote the file: use that version, or get or "
            "train the potential again for this one"
        )


def read_weights_info(path: str | os.PathLike[str]) -> PotentialInfo:
    """Return what a weights file declares, without reading its weights.

    Raises:
        ModelFileError: as ``load_weights``, the weights apart.
    """
    file = Path(path)
    return _document.read_info(_open(file, weights=False)[0], file)


def _open(file: Path, weights: bool = True) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the document and, if wanted, the tensors."""
    if not file.is_file():
        raise ModelFileError(f"{file}: no such file")
    try:
        with safe_open(file, framework="pt") as reader:
            metadata = reader.metadata() or {}
            names = reader.keys() if weights else []
            tensors = {name: reader.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(f"{file}: not a whole safetensors file ({error}); get the file again") from error
    if METADATA_KEY not in metadata:
        raise ModelFileError(f"{file}: safetensors without an mlcalc document; mlcalc reads what save_weights wrote")
    return _document.read(metadata[METADATA_KEY], file, _REQUIRED), tensors


def _checksum(tensors: dict[str, Tensor]) -> str:
    """Return a hash of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
