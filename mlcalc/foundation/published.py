"""Published potentials that users install with their authors' packages, by name."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mlcalc.errors import ModelFileError
from mlcalc.foundation import sevennet
from mlcalc.potentials.neural import NeuralPotential
from mlcalc.potentials.precision import parse_dtype

_EXTRA = "pip install 'mlcalc[foundation]'"
_MPTRJ = "MPtrj: relaxations of the Materials Project (Deng et al., Nat. Mach. Intell. 5, 1031 (2023))"
_PBE = "PBE and PBE+U (VASP, Materials Project), uncorrected total energies"
# What the checkpoints hold beside tensors and plain Python objects: arrays, under the names they have in numpy 1.
_SAFE: list[Any] = [
    (import_module("numpy._core.multiarray")._reconstruct, "numpy.core.multiarray._reconstruct"),
    (np.ndarray, "numpy.ndarray"),
    (np.dtype, "numpy.dtype"),
    np.dtypes.Float32DType,
]


@dataclass(frozen=True)
class Published:
    """A potential whose weights are in another package.

    Attributes:
        name: what ``load`` takes.
        package: distribution that carries the weights.
        file: path of the checkpoint in its installed files.
        sha256: of the checkpoint.
        licence: of the weights.
        energy_scale: what the energies mean.
        training_data: where the data came from.
        source: home page.
        citation: paper.
        build: what makes a potential of the checkpoint.
    """

    name: str
    package: str
    file: str
    sha256: str
    licence: str
    energy_scale: str
    training_data: str
    source: str
    citation: str
    build: Callable[[dict[str, Any], dict[str, Any], torch.dtype | None], NeuralPotential]


_SEVENNET = {
    "package": "sevenn",
    "licence": "MIT, Copyright (c) 2024 Yutack Park",
    "energy_scale": _PBE,
    "training_data": _MPTRJ,
    "source": "https://github.com/MDIL-SNU/SevenNet",
    "citation": "Park et al., J. Chem. Theory Comput. 20, 4857 (2024)",
}
_KNOWN = (
    Published(
        name="sevennet-0",
        file="sevenn/pretrained_potentials/SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
        sha256="7052cb42b7b3be42b40b97fa0d21077a48c54b5548948fc4dcf346629f813c36",
        build=sevennet.from_checkpoint,
        **_SEVENNET,
    ),
    Published(
        name="sevennet-l3i5",
        file="sevenn/pretrained_potentials/SevenNet_l3i5/checkpoint_l3i5.pth",
        sha256="a7ff190d41efe5b8317a03d20a468e4036a1a3e64e0b14fdbab64ac3f4bfc09d",
        build=sevennet.from_checkpoint,
        **_SEVENNET,
    ),
)


def published() -> dict[str, Published]:
    """Return the published potentials that can be loaded, by name, installed or not."""
    return {entry.name: entry for entry in _KNOWN}


def is_installed(entry: Published) -> bool:
    """Return whether the package with the weights is installed."""
    try:
        metadata.distribution(entry.package)
    except metadata.PackageNotFoundError:
        return False
    return True


def load_published(name: str, dtype: str | torch.dtype | None = None) -> NeuralPotential:
    """Return a published potential, its weights read from the installed package of its authors.

    None of that package's code runs, and loading cannot run code from the checkpoint.

    Args:
        name: one of ``published()``.
        dtype: float32 or float64; None is float32, that of the checkpoints.

    Raises:
        ModelFileError: the package is missing or carries other bytes than those published.
        KeyError: no such name.
    """
    entry = published()[name]
    try:
        distribution = metadata.distribution(entry.package)
    except metadata.PackageNotFoundError as error:
        raise ModelFileError(
            f"the weights of {name} come with the package {entry.package}, which is not installed: {_EXTRA}"
        ) from error
    path = Path(str(distribution.locate_file(entry.file)))
    if not path.is_file():
        raise ModelFileError(
            f"{entry.package} {distribution.version} is installed, but not its {entry.file}; install another version: "
            f"{_EXTRA} --force-reinstall"
        )
    return _load(path, dtype, expected=entry)


def load_checkpoint(path: str | os.PathLike[str], dtype: str | torch.dtype | None = None) -> NeuralPotential:
    """Return the published potential that a checkpoint file holds.

    Args:
        path: a copy of one of the checkpoints of ``published()``, recognised by its hash.
        dtype: as for ``load_published``.

    Raises:
        ModelFileError: no such file, or none of the known ones.
    """
    return _load(Path(path), dtype)


def _load(path: Path, dtype: str | torch.dtype | None, expected: Published | None = None) -> NeuralPotential:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror})") from error
    digest = hashlib.sha256(content).hexdigest()
    entry = next((entry for entry in _KNOWN if entry.sha256 == digest), None)
    if entry is None or (expected is not None and entry != expected):
        known = "; ".join(f"{e.name} is {e.sha256[:12]}…" for e in _KNOWN if expected in (None, e))
        raise ModelFileError(
            f"{path}: {len(content)} bytes with SHA-256 {digest[:12]}…, which is no published checkpoint that mlcalc "
            f"knows ({known}): truncated, changed, or another model. Get it again ({_EXTRA} --force-reinstall)"
        )
    try:
        with torch.serialization.safe_globals(_SAFE):
            checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # pickle and zip raise all sorts
        raise ModelFileError(f"{path}: torch {torch.__version__} cannot read it: {error}") from error
    info = {
        "name": entry.name,
        "energy_scale": entry.energy_scale,
        "licence": entry.licence,
        "training_data": entry.training_data,
        "provenance": {
            "source": entry.source,
            "citation": entry.citation,
            "checkpoint": Path(entry.file).name,
            "sha256": digest,
            **_licence(entry),
        },
    }
    return entry.build(checkpoint, info, None if dtype is None else parse_dtype(dtype))


def _licence(entry: Published) -> dict[str, str]:
    """Return version and full licence text of the installed package, if it is installed."""
    if not is_installed(entry):
        return {}
    distribution = metadata.distribution(entry.package)
    texts = [file.read_text() for file in distribution.files or [] if file.name.upper().startswith("LICENSE")]
    return {"package": f"{entry.package} {distribution.version}", "licence_text": "\n".join(texts)}
