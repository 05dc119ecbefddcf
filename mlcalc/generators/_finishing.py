"""Hard constraints on finished crystals, as generators that draw in space share them."""

from __future__ import annotations

from collections import Counter

from ase import Atoms

from mlcalc.crystals import find_space_group
from mlcalc.generators.base import Constraints


def in_volume(atoms: Atoms, volume_per_atom: tuple[float, float] | None) -> Atoms:
    """Return a copy with its cell scaled so that the volume per atom (Å³) is in the range, if one is given."""
    atoms = atoms.copy()
    if volume_per_atom:
        low, high = volume_per_atom
        volume = atoms.get_volume() / len(atoms)
        if not low <= volume <= high:
            # Not onto the very edge, where rounding decides.
            inside = min(max(volume, low + 1e-6 * (high - low)), high - 1e-6 * (high - low))
            atoms.set_cell(atoms.cell.array * (inside / volume) ** (1 / 3), scale_atoms=True)
    return atoms


def with_group(atoms: Atoms, constraints: Constraints, failed: Counter[str]) -> tuple[Atoms, int | None] | None:
    """Return a crystal and its space group, or None, counted, where the group is not allowed."""
    found = find_space_group(atoms)
    if constraints.space_groups and (found is None or found.number not in constraints.space_groups):
        failed["came out in a space group that is not allowed"] += 1
        return None
    return atoms, found.number if found else None
