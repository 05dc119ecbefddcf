"""Published potentials that users install with their authors' packages, by name."""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass, replace
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mlcalc.errors import ModelFileError
from mlcalc.potentials.base import PotentialInfo
from mlcalc.potentials.neural import NeuralPotential
from mlcalc.potentials.precision import parse_dtype

_EXTRA = "pip install 'mlcalc[foundation]'"
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
        info: what it declares; the licence text is in its provenance.
        package: distribution that carries the weights.
        file: path of the checkpoint in its installed files.
        sha256: of the checkpoint.
        builder: ``"module:function"`` that makes a potential of checkpoint, info and dtype; imported when it is used.
    """

    info: PotentialInfo
    package: str
    file: str
    sha256: str
    builder: str

    @property
    def name(self) -> str:
        """What ``load`` takes."""
        return self.info.name

    def version(self) -> str | None:
        """Return the version of the installed package, None if it is not installed."""
        try:
            return metadata.version(self.package)
        except metadata.PackageNotFoundError:
            return None


_ELEMENTS_OF_MPTRJ = (
    "Ac Ag Al Ar As Au B Ba Be Bi Br C Ca Cd Ce Cl Co Cr Cs Cu Dy Er Eu F Fe Ga Gd Ge H He Hf Hg Ho I In Ir K "
    "Kr La Li Lu Mg Mn Mo N Na Nb Nd Ne Ni Np O Os P Pa Pb Pd Pm Pr Pt Pu Rb Re Rh Ru S Sb Sc Se Si Sm Sn Sr "
    "Ta Tb Tc Te Th Ti Tl Tm U V W Xe Y Yb Zn Zr"
)
_SEVENNET = PotentialInfo(
    elements=tuple(_ELEMENTS_OF_MPTRJ.split()),
    cutoff=5.0,
    layers=5,
    energy_scale="PBE and PBE+U (VASP, Materials Project), uncorrected total energies",
    licence="MIT, Copyright (c) 2024 Yutack Park",
    training_data="MPtrj: relaxations of the Materials Project (Deng et al., Nat. Mach. Intell. 5, 1031 (2023))",
    provenance={
        "source": "https://github.com/MDIL-SNU/SevenNet; Park et al., J. Chem. Theory Comput. 20, 4857 (2024)",
        "licence_text": (Path(__file__).parent / "licences" / "sevennet.txt").read_text(encoding="utf-8"),
    },
)
_CHGNET = PotentialInfo(
    elements=tuple(_ELEMENTS_OF_MPTRJ.split()),
    cutoff=6.0,
    layers=4,
    name="chgnet-0.3.0",
    needs=("reverse_edge",),
    energy_scale="PBE and PBE+U (VASP, Materials Project), total energies with MP2020 corrections",
    licence="BSD-3-Clause-LBNL, Copyright (c) 2023, The Regents of the University of California",
    training_data=_SEVENNET.training_data,
    provenance={
        "source": "https://github.com/CederGroupHub/chgnet; Deng et al., Nat. Mach. Intell. 5, 1031 (2023)",
        "licence_text": (Path(__file__).parent / "licences" / "chgnet.txt").read_text(encoding="utf-8"),
    },
)
_KNOWN = (
    Published(
        info=_CHGNET,
        package="chgnet",
        file="chgnet/pretrained/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar",
        sha256="d14ab7c0f093efe64b60a7bcd540bca10e74fb7f46c86108a079af60524659d1",
        builder="mlcalc.foundation.chgnet:from_checkpoint",
    ),
    Published(
        info=replace(_SEVENNET, name="sevennet-0"),
        package="sevenn",
        file="sevenn/pretrained_potentials/SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
        sha256="7052cb42b7b3be42b40b97fa0d21077a48c54b5548948fc4dcf346629f813c36",
        builder="mlcalc.foundation.sevennet:from_checkpoint",
    ),
    Published(
        info=replace(_SEVENNET, name="sevennet-l3i5"),
        package="sevenn",
        file="sevenn/pretrained_potentials/SevenNet_l3i5/checkpoint_l3i5.pth",
        sha256="a7ff190d41efe5b8317a03d20a468e4036a1a3e64e0b14fdbab64ac3f4bfc09d",
        builder="mlcalc.foundation.sevennet:from_checkpoint",
    ),
)


def published() -> dict[str, Published]:
    """Return the published potentials that can be loaded, by name, installed or not."""
    return {entry.name: entry for entry in _KNOWN}


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
    origin = {"checkpoint": Path(entry.file).name, "sha256": digest}
    info = replace(entry.info, provenance={**entry.info.provenance, **origin})
    module, _, function = entry.builder.partition(":")
    build = getattr(import_module(module), function)
    potential: NeuralPotential = build(checkpoint, info, None if dtype is None else parse_dtype(dtype))
    return potential
