"""Whether symmetry leaves atoms anything to relax."""

from __future__ import annotations

import numpy as np
import spglib
from ase import Atoms


def free_internal_coordinates(atoms: Atoms, symprec: float = 1e-3) -> int:
    """Return how many internal coordinates the space group leaves free (translations of the whole not counted).

    It is the multiplicity of the identity in the representation of the displacements, by characters: an operation
    contributes the trace of its rotation for each atom that it leaves in place.

    Args:
        atoms: periodic in three directions.
        symprec: tolerance of the symmetry search, Å.
    """
    scaled = atoms.get_scaled_positions()
    try:
        found = spglib.get_symmetry((atoms.cell.array, scaled, atoms.numbers), symprec=symprec)
    except Exception as error:  # spglib >= 2.7 raises its own error class instead of returning None
        if type(error).__module__.split(".")[0] != "spglib":
            raise
        found = None
    if found is None:
        return 3 * len(atoms) - 3
    total = 0.0
    for rotation, translation in zip(found["rotations"], found["translations"], strict=True):
        moved = scaled @ rotation.T + translation - scaled
        moved -= np.round(moved)
        in_place = int((np.linalg.norm(moved @ atoms.cell.array, axis=1) < 2 * symprec).sum())
        total += (in_place - 1) * np.trace(rotation)  # the trace is the same in any basis
    return round(total / len(found["rotations"]))
