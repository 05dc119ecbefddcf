"""Which candidates are the same crystal, and which are already known.

Two questions, two measures. ``judge_novelty`` tells crystals of one potential apart, at their own volumes and energies,
and names what they are. ``KnownCrystals`` asks of a large set, whose volumes are another method's, whether it holds a
crystal at all: volumes are scaled, as is usual where generators are compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from ase import Atoms
from ase.formula import Formula
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from mlcalc.crystals.duplicates import cluster_duplicates
from mlcalc.crystals.structures import structure_of
from mlcalc.records import Record


@dataclass(frozen=True)
class Novelty(Record):
    """How a candidate compares with the others and with the references.

    Attributes:
        same_as: position of the candidate that stands for this crystal, the lowest in energy; its own if it does.
        known_as: names of the references that are this crystal; empty for a new one. New means: not among the
            references that were given.
    """

    same_as: int
    known_as: tuple[str, ...]


def judge_novelty(
    candidates: Sequence[Atoms],
    energies_ev_per_atom: Sequence[float] | None = None,
    references: Sequence[tuple[str, Atoms, float]] = (),
    *,
    energy_window_ev: float = 0.01,
    volume_window: float = 0.05,
    symprec: float | None = 0.05,
) -> list[Novelty]:
    """Compare candidates with each other and with references, see ``cluster_duplicates``.

    Only crystals of the same composition, space group and occupied positions are matched.

    Args:
        candidates: periodic structures.
        energies_ev_per_atom: of the candidates, on the references' scale; None compares structures alone, and the first
            of equal candidates stands for them.
        references: name, structure, energy per atom in eV.
        energy_window_ev: largest difference between duplicates, eV per atom.
        volume_window: largest relative difference of volumes per atom.
        symprec: tolerance of the symmetry, Å; None does without symmetry.
    """
    known = [atoms for _, atoms, _ in references]
    energies = None
    if energies_ev_per_atom is not None:
        energies = [*(energy for _, _, energy in references), *energies_ev_per_atom]
    clusters = cluster_duplicates(
        [*known, *candidates],
        energies,
        energy_window_ev=energy_window_ev,
        volume_window=volume_window,
        symprec=symprec,
    )
    names: dict[int, list[str]] = {}
    for (name, _, _), cluster in zip(references, clusters, strict=False):
        names.setdefault(cluster, []).append(name)
    own = clusters[len(known) :]
    best: dict[int, int] = {}
    for k, cluster in enumerate(own):
        if cluster not in best or (
            energies_ev_per_atom is not None and energies_ev_per_atom[k] < energies_ev_per_atom[best[cluster]]
        ):
            best[cluster] = k
    return [Novelty(best[cluster], tuple(names.get(cluster, ()))) for cluster in own]


class KnownCrystals:
    """Crystals that are not new.

    A crystal is known if pymatgen's ``StructureMatcher`` with its default tolerances (lengths 0.2, sites 0.3, angles
    5°, volumes scaled) matches it to one of the same reduced formula.

    Args:
        crystals: of any volume.
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
        structure = structure_of(atoms)
        return any(self._matcher.fit(known, structure) for known in self._structures(formula))

    def _convert(self, formula: str) -> list[Structure]:
        return [structure_of(atoms) for atoms in self._by_formula[formula]]


def reduced_formula(atoms: Atoms) -> str:
    """Return the reduced formula in Hill's order."""
    return str(Formula.from_list(atoms.get_chemical_symbols()).reduce()[0].format("hill"))
