"""What is done with a crystal that was read off an image: constraints, distances, symmetry."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from functools import reduce
from math import gcd

from ase import Atoms
from ase.formula import Formula
from ase.geometry import minkowski_reduce

from mlcalc.crystals import closest_pair
from mlcalc.crystals.encoding import encode
from mlcalc.errors import CrystalError
from mlcalc.generators._finishing import in_volume, with_group
from mlcalc.generators.base import Constraints


class Finish:
    """Finishes crystals, and rejects those that do not obey.

    Args:
        constraints: hard ones.
        min_distance: smallest allowed distance in units of the sum of covalent radii, own images included.
        symprec: tolerance within which atoms and cell are moved onto the symmetry found, Å; 0 leaves them.
    """

    def __init__(self, constraints: Constraints, min_distance: float, symprec: float) -> None:
        self.constraints, self.min_distance, self.symprec = constraints, min_distance, symprec

    def __call__(self, atoms: Atoms, failed: Counter[str]) -> tuple[Atoms, int | None] | None:
        """Return the crystal and its space group, or None with a reason counted."""
        atoms = in_volume(atoms, self.constraints.volume_per_atom)
        if self.symprec:
            with suppress(CrystalError):  # where no symmetry is found, it stays as it is
                atoms = in_volume(encode(atoms, self.symprec).atoms(), self.constraints.volume_per_atom)
        atoms.set_cell(minkowski_reduce(atoms.cell)[0])  # the same crystal, in a cell that is good to relax
        atoms.wrap()
        reason = broken(atoms, self.constraints)
        if reason is None and closest_pair(atoms, self.min_distance) is not None:
            reason = "atoms too close"
        if reason is not None:
            failed[reason] += 1
            return None
        return with_group(atoms, self.constraints, failed)


def broken(atoms: Atoms, constraints: Constraints, volume: bool = True) -> str | None:
    """Return which hard constraint on composition, number of atoms or (if asked) volume is broken; None for none."""
    count = atoms.symbols.formula.count()
    low, high = constraints.n_atoms
    if not low <= len(atoms) <= high:
        return "number of atoms not allowed"
    if constraints.species() and not set(constraints.elements) <= set(count) <= set(constraints.species()):
        return "elements not allowed"
    if constraints.formula and _unit(count) != _unit(Formula(constraints.formula).count()):
        return "another formula"
    if volume and constraints.volume_per_atom:
        least, most = constraints.volume_per_atom
        if not least * (1 - 1e-9) <= atoms.get_volume() / len(atoms) <= most * (1 + 1e-9):
            return "volume not allowed"
    return None


def _unit(count: dict[str, int]) -> dict[str, int]:
    common = reduce(gcd, count.values())
    return {symbol: n // common for symbol, n in count.items()}
