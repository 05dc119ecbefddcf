"""How far a crystal is from another: a predicted one from the true one, a generated one from what it relaxes to."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from pymatgen.analysis.structure_matcher import StructureMatcher

from mlcalc.crystals.structures import structure_of


def match_error(atoms: Atoms, target: Atoms) -> float | None:
    """Return the RMS distance of a match, in units of (volume per atom)^(1/3), or None where there is none.

    The tolerances are those usual in crystal structure prediction: lengths 0.3, sites 0.5, angles 10°.
    """
    matcher = StructureMatcher(ltol=0.3, stol=0.5, angle_tol=10.0)
    found = matcher.get_rms_dist(structure_of(target), structure_of(atoms))
    return None if found is None else float(found[0])


def rms_displacement(start: Atoms, end: Atoms) -> float:
    """Return how far atoms moved, Å, while the cell changed too: root mean square over atoms, without a common drift.

    Displacements are differences of fractional coordinates, taken to the nearest image in the cell at the end.

    Args:
        start: a crystal.
        end: the same atoms in the same order.
    """
    steps = end.get_scaled_positions(wrap=False) - start.get_scaled_positions(wrap=False)
    vectors, _ = find_mic((steps - steps[0]) @ end.cell.array, end.cell, pbc=True)
    vectors -= vectors.mean(axis=0)
    return float(np.sqrt((vectors**2).sum(axis=1).mean()))
