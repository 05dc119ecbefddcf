"""From atoms to a ``WyckoffCrystal``, and from one description of a crystal to the others."""

from __future__ import annotations

import numpy as np
import spglib
from ase import Atoms
from ase.data import chemical_symbols
from ase.geometry.cell import cell_to_cellpar

from mlcalc.crystals._equivalents import canonical_description, equivalent_descriptions
from mlcalc.crystals._tables import Tables, tables
from mlcalc.crystals.description import Orbit, WyckoffCrystal, reduced_cell
from mlcalc.crystals.symmetry import find_space_group, spglib_cell
from mlcalc.errors import CrystalError

#: Distance tolerance of symmetry by default, Å: that of the Materials Project.
SYMPREC = 0.1


def encode(atoms: Atoms, symprec: float = SYMPREC) -> WyckoffCrystal:
    """Describe a crystal by its space group, Wyckoff positions and free parameters, in canonical form.

    Atoms are moved onto the symmetry that is found, by no more than about ``symprec``.

    Args:
        atoms: fully periodic structure, any cell of it.
        symprec: distance tolerance of the symmetry, Å.

    Raises:
        CrystalError: not periodic in three directions, or no symmetry can be found.
    """
    try:
        found = find_space_group(atoms, symprec)
    except ValueError as error:
        raise CrystalError(str(error)) from error
    if found is None:
        raise CrystalError(
            f"{atoms.get_chemical_formula()}: no symmetry found at symprec={symprec} Å (do atoms overlap?); "
            "try a smaller symprec"
        )
    table = tables(found.number)
    standard = spglib.get_symmetry_dataset(spglib_cell(atoms), symprec=symprec, hall_number=table.hall)
    if standard is None or int(standard.number) != found.number:
        raise CrystalError(
            f"{atoms.get_chemical_formula()}: space group {found.number} cannot be brought to its standard setting "
            f"at symprec={symprec} Å; try another"
        )
    cell = np.array(standard.std_lattice)
    orbits = _orbits(table, cell, np.array(standard.std_positions), np.array(standard.std_types), symprec)
    rough = WyckoffCrystal(found.number, orbits, reduced_cell(found.number, cell_to_cellpar(cell)))
    return canonical_description(rough)


def canonical(crystal: WyckoffCrystal) -> WyckoffCrystal:
    """Return the one of all equivalent descriptions that ``encode`` would choose."""
    return canonical_description(crystal)


def equivalents(crystal: WyckoffCrystal) -> list[WyckoffCrystal]:
    """Return the other descriptions of the same crystal that a change of origin or axes leads to, itself first.

    The cosets of the affine normaliser that keep the handedness: shifts and rotations that map the space group onto
    itself but not every Wyckoff position. Along polar axes the origin is that of the canonical description.
    """
    return equivalent_descriptions(crystal)


def _orbits(
    table: Tables, cell: np.ndarray, scaled: np.ndarray, numbers: np.ndarray, symprec: float
) -> tuple[Orbit, ...]:
    """Collect the atoms of the conventional cell into orbits and read off letters and free coordinates."""
    left = np.ones(len(scaled), dtype=bool)
    orbits = []
    for k in range(len(scaled)):
        if not left[k]:
            continue
        images = table.images(scaled[k])
        difference = images[:, None] - scaled[None]
        difference -= np.rint(difference)
        distance = np.linalg.norm(difference @ cell, axis=2)
        distance[:, numbers != numbers[k]] = np.inf
        nearest = distance.argmin(axis=1)
        members = np.unique(nearest)
        symbol = chemical_symbols[int(numbers[k])]
        if distance.min(axis=1).max() > symprec or not left[members].all():
            raise CrystalError(
                f"atoms {symbol} do not form an orbit of space group {table.number}; try another symprec"
            )
        left[members] = False
        best: tuple[float, str, np.ndarray] | None = None
        for letter, position in table.positions.items():
            if len(position.rotations) != len(members):
                continue
            free, unexplained = position.solve(images)
            off = np.linalg.norm((unexplained - np.rint(unexplained)) @ cell, axis=1)
            at = int(off.argmin())
            if best is None or off[at] < best[0]:
                best = (float(off[at]), letter, free[at])
        if best is None or best[0] > symprec:
            raise CrystalError(
                f"atoms {symbol} fit no Wyckoff position of space group {table.number}; try another symprec"
            )
        orbits.append(Orbit(symbol, best[1], tuple(float(v) for v in best[2])))
    return tuple(orbits)
