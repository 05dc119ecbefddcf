"""Is a crystal in a set, and does it match a target: pymatgen's StructureMatcher behind buckets of formulas."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import cache

from ase import Atoms
from ase.formula import Formula
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor


class KnownCrystals:
    """Crystals that are not new.

    A crystal is known if pymatgen's ``StructureMatcher`` with its default tolerances (lengths 0.2, sites 0.3, angles
    5°, volumes scaled) matches it to one of the same reduced formula.

    Args:
        crystals: of the reference.
    """

    def __init__(self, crystals: Iterable[Atoms]):
        self._by_formula: dict[str, list[Atoms]] = defaultdict(list)
        for atoms in crystals:
            self._by_formula[reduced_formula(atoms)].append(atoms)
        self._matcher = StructureMatcher()
        self._structures = cache(self._convert)

    def __contains__(self, atoms: Atoms) -> bool:
        formula = reduced_formula(atoms)
        if formula not in self._by_formula:
            return False
        structure = _structure(atoms)
        return any(self._matcher.fit(known, structure) for known in self._structures(formula))

    def _convert(self, formula: str) -> list[Structure]:
        return [_structure(atoms) for atoms in self._by_formula[formula]]


def reduced_formula(atoms: Atoms) -> str:
    """Return the reduced formula in Hill's order."""
    return str(Formula.from_list(atoms.get_chemical_symbols()).reduce()[0].format("hill"))


def match_error(atoms: Atoms, target: Atoms) -> float | None:
    """Return the RMS distance of a match, in units of (volume per atom)^(1/3), or None where there is none.

    The tolerances are those usual in crystal structure prediction: lengths 0.3, sites 0.5, angles 10°.
    """
    matcher = StructureMatcher(ltol=0.3, stol=0.5, angle_tol=10.0)
    found = matcher.get_rms_dist(_structure(target), _structure(atoms))
    return None if found is None else float(found[0])


def _structure(atoms: Atoms) -> Structure:
    return AseAtomsAdaptor.get_structure(Atoms(atoms.numbers, cell=atoms.cell, positions=atoms.positions, pbc=True))
