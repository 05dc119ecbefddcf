"""How far a predicted crystal is from the true one."""

from __future__ import annotations

from ase import Atoms
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor


def match_error(atoms: Atoms, target: Atoms) -> float | None:
    """Return the RMS distance of a match, in units of (volume per atom)^(1/3), or None where there is none.

    The tolerances are those usual in crystal structure prediction: lengths 0.3, sites 0.5, angles 10°.
    """
    matcher = StructureMatcher(ltol=0.3, stol=0.5, angle_tol=10.0)
    found = matcher.get_rms_dist(_structure(target), _structure(atoms))
    return None if found is None else float(found[0])


def _structure(atoms: Atoms) -> Structure:
    return AseAtomsAdaptor.get_structure(Atoms(atoms.numbers, cell=atoms.cell, positions=atoms.positions, pbc=True))
