"""The contract of codecs: crystals as arrays of one shape, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, ClassVar

import numpy as np
from ase import Atoms

from mlcalc.errors import CodecError


class Codec(ABC):
    """Writes crystals as arrays that networks can read, and reads arrays as crystals.

    A codec is fixed by ``to_dict()``, so that weights can say which codec they were trained on.

    Attributes:
        name: by which ``make_codec`` finds the class.
        shape: of every array.
    """

    name: ClassVar[str]
    shape: tuple[int, ...]

    @abstractmethod
    def encode(self, atoms: Atoms) -> np.ndarray:
        """Return the array of a crystal, float32, of shape ``self.shape``.

        Raises:
            CodecError: the crystal is larger than the codec holds, has species it does not know or partly occupied
                sites, or is not periodic along three axes.
        """

    @abstractmethod
    def decode(self, array: np.ndarray) -> Atoms:
        """Return the crystal of an array.

        Raises:
            CodecError: the array has another shape, or describes no crystal.
        """

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return the arguments that make an equal codec, JSON-ready."""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary; ``make_codec`` reads it back."""
        return {"name": self.name, **self.options()}

    def _check(self, array: np.ndarray) -> np.ndarray:
        """Return the array in float64 if its shape is right and everything in it a number."""
        values = np.asarray(array, dtype=float)
        if values.shape != self.shape:
            raise CodecError(f"the codec {self.name!r} reads arrays of shape {self.shape}, not {values.shape}")
        if not np.isfinite(values).all():
            raise CodecError(
                f"{int((~np.isfinite(values)).sum())} of {values.size} numbers of the array are not finite"
            )
        return values


def full_sites(atoms: Atoms) -> None:
    """Make sure that a structure is a crystal whose sites are fully occupied.

    Raises:
        CodecError: it is not periodic along three axes, has no volume or no atoms, or partly occupied sites (ASE keeps
            these in ``info["occupancy"]``, by the kinds in the array ``spacegroup_kinds``).
    """
    if not len(atoms):
        raise CodecError("a crystal without atoms has no array")
    if not atoms.pbc.all() or atoms.cell.rank < 3:
        raise CodecError("codecs hold crystals: periodic along three axes, with a cell of some volume")
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise CodecError("positions and cell must be finite numbers")
    occupancy: Mapping[Any, Mapping[str, float]] = atoms.info.get("occupancy") or {}
    partial = [kind for kind, shares in occupancy.items() if len(shares) != 1 or min(shares.values()) < 1.0]
    if partial:
        shares = occupancy[partial[0]]
        raise CodecError(
            f"site kind {partial[0]} is partly occupied ({', '.join(f'{e} {s:g}' for e, s in shares.items())}); "
            "make an ordered cell of it first"
        )


#: Where each codec's class is: a new codec is one file and one line here.
CODECS: dict[str, tuple[str, str]] = {
    "bond": ("mlcalc.crystals.bond_image", "BondImage"),
    "density": ("mlcalc.crystals.density_voxels", "DensityVoxels"),
    "coordinate": ("mlcalc.crystals.coordinate_image", "CoordinateImage"),
}


def make_codec(description: Mapping[str, Any]) -> Codec:
    """Build a codec from what ``to_dict`` gave.

    Raises:
        CodecError: unknown name, or options that the codec does not take.
    """
    options = dict(description)
    name = options.pop("name", None)
    if not isinstance(name, str) or name not in CODECS:
        raise CodecError(f"unknown codec {name!r}; there are: {', '.join(sorted(CODECS))}")
    module, cls = CODECS[name]
    made: Callable[..., Codec] = getattr(import_module(module), cls)
    try:
        return made(**options)
    except TypeError as error:
        raise CodecError(f"the codec {name!r} cannot be made of {options}: {error}") from error
