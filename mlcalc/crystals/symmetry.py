"""Space groups of structures, through spglib."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import spglib
from ase import Atoms
from ase.spacegroup.symmetrize import refine_symmetry


@dataclass(frozen=True)
class SpaceGroup:
    """A space group found in a structure.

    Attributes:
        number: number in the International Tables, 1 to 230.
        symbol: short Hermann-Mauguin symbol.
        symprec: distance tolerance it was found with, Å.
    """

    number: int
    symbol: str
    symprec: float


def spglib_cell(atoms: Atoms) -> Any:
    """Return cell, fractional coordinates and atomic numbers, as spglib takes them."""
    return atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers


def find_space_group(atoms: Atoms, symprec: float = 1e-3) -> SpaceGroup | None:
    """Return the space group of a fully periodic structure, or None where spglib finds none.

    Args:
        atoms: structure with a three-dimensional cell.
        symprec: distance tolerance, Å.

    Returns:
        The space group; None for a structure that spglib cannot handle (overlapping atoms).

    Raises:
        ValueError: the structure is not periodic in three directions.
    """
    if not atoms.pbc.all() or atoms.cell.rank < 3:
        raise ValueError("a space group needs a structure that is periodic in three directions")
    try:
        dataset = spglib.get_symmetry_dataset(spglib_cell(atoms), symprec=symprec)
    except Exception as error:  # spglib >= 2.7 raises its own error class instead of returning None
        if type(error).__module__.split(".")[0] != "spglib":
            raise
        return None
    if dataset is None:
        return None
    return SpaceGroup(int(dataset.number), str(dataset.international), symprec)


def symmetrized(atoms: Atoms, symprec: float) -> Atoms:
    """Return a structure moved onto the symmetry that it has within a tolerance; a copy where it has none.

    Args:
        atoms: fully periodic; number and order of atoms stay.
        symprec: distance tolerance, Å.
    """
    copy = atoms.copy()
    found = find_space_group(copy, symprec)
    if found is not None and found.number > 1:
        refine_symmetry(copy, symprec)
    return copy


def conventional_cell(atoms: Atoms, symprec: float = 1e-2) -> Atoms:
    """Return the standardised, idealised conventional cell (International Tables setting).

    Raises:
        ValueError: spglib finds no symmetry at this tolerance.
    """
    return _standardized(atoms, symprec, primitive=False)


def primitive_cell(atoms: Atoms, symprec: float = 1e-2) -> Atoms:
    """Return the standardised, idealised primitive cell.

    Raises:
        ValueError: spglib finds no symmetry at this tolerance.
    """
    return _standardized(atoms, symprec, primitive=True)


def _standardized(atoms: Atoms, symprec: float, primitive: bool) -> Atoms:
    result = None
    if find_space_group(atoms, symprec) is not None:
        result = spglib.standardize_cell(spglib_cell(atoms), to_primitive=primitive, symprec=symprec)
    if result is None:
        raise ValueError(f"no symmetry found at symprec={symprec} Å; try another tolerance")
    cell, scaled, numbers = result
    return Atoms(numbers=numbers, cell=cell, scaled_positions=scaled, pbc=True)
