"""The convex hull of formation energies, on one energy scale."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import isfinite
from typing import Any, cast

from ase import Atoms
from ase.data import atomic_numbers
from ase.formula import Formula
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from mlcalc.discovery.identity import EnergyScale
from mlcalc.errors import WorkflowError
from mlcalc.records import Record


@dataclass(frozen=True)
class Phase(Record):
    """A compound on a hull, or one to be compared with it.

    Attributes:
        name: what to call it.
        formula: e.g. ``"MgO"``; only ratios count.
        energy_ev_per_atom: energy, enthalpy or formation energy, whatever the hull is made of, eV per atom.
    """

    name: str
    formula: str
    energy_ev_per_atom: float


class Hull:
    """Lower convex hull of energy per atom over composition (pymatgen's ``PhaseDiagram``).

    All phases share one energy scale: one potential's energies, its enthalpies at one pressure, or one database's
    formation energies. What is compared says its scale, and another one is an error.

    A reference for every element is what makes a hull. Phases with an element that has none cannot be placed and are
    left out, by name, in ``unplaced``; of a compound with such an element nothing is known, and ``None`` says so.

    Args:
        phases: the references.
        scale: what their energies are.

    Attributes:
        phases: those on or above the hull.
        unplaced: those with an element without a reference.
        elements: symbols of the elements with a reference.

    Raises:
        WorkflowError: an energy that is not finite, or a formula that is none.
    """

    def __init__(self, phases: Iterable[Phase], scale: EnergyScale) -> None:
        given = list(phases)
        for phase in given:
            if not isfinite(phase.energy_ev_per_atom):
                raise WorkflowError(f"reference {phase.name}: its energy is {phase.energy_ev_per_atom}")
        counts = [_counts(phase.formula) for phase in given]
        self.scale = scale
        self.elements: tuple[str, ...] = tuple(sorted({next(iter(c)) for c in counts if len(c) == 1}))
        placed = [set(c) <= set(self.elements) for c in counts]
        self.phases = tuple(phase for phase, ok in zip(given, placed, strict=True) if ok)
        self.unplaced = tuple(phase for phase, ok in zip(given, placed, strict=True) if not ok)
        entries = []
        for phase in self.phases:
            composition = Composition(_counts(phase.formula))
            entries.append(PDEntry(composition, phase.energy_ev_per_atom * composition.num_atoms, name=phase.name))
        self._entries = entries
        self._diagram = PhaseDiagram(entries) if entries else None

    def hull_energy(self, what: str | Atoms) -> float | None:
        """Return the energy of the hull at a composition, eV per atom; None where an element has no reference."""
        counts = _counts(what)
        if self._diagram is None or not set(counts) <= set(self.elements):
            return None
        return float(self._diagram.get_hull_energy_per_atom(Composition(counts)))

    def energy_above_hull(self, what: str | Atoms, energy_ev_per_atom: float, scale: EnergyScale) -> float | None:
        """Return how far an energy lies above the hull, eV per atom; negative: below all references.

        Args:
            what: formula or structure.
            energy_ev_per_atom: its energy on the hull's scale.
            scale: the scale it is on.

        Returns:
            None where an element has no reference.

        Raises:
            WorkflowError: the scales differ, or the energy is not finite.
        """
        self._same(scale)
        if not isfinite(energy_ev_per_atom):
            raise WorkflowError(f"the energy of {_name(what)} is {energy_ev_per_atom}")
        lowest = self.hull_energy(what)
        return None if lowest is None else energy_ev_per_atom - lowest

    def formation_energy(self, what: str | Atoms, energy_ev_per_atom: float, scale: EnergyScale) -> float | None:
        """Return an energy relative to the elements' lowest references, eV per atom; None where one is missing."""
        self._same(scale)
        counts = _counts(what)
        if not set(counts) <= set(self.elements):
            return None
        lowest = {element: self.hull_energy(element) for element in counts}
        total = sum(counts.values())
        return energy_ev_per_atom - sum(n * (lowest[element] or 0.0) for element, n in counts.items()) / total

    def decomposition(self, what: str | Atoms) -> dict[str, float] | None:
        """Return into what a composition decomposes: names of phases to shares of atoms; None if that is unknown."""
        counts = _counts(what)
        if self._diagram is None or not set(counts) <= set(self.elements):
            return None
        found = self._diagram.get_decomposition(Composition(counts))
        return {cast(PDEntry, entry).name: float(share) for entry, share in found.items()}

    def stable(self) -> tuple[Phase, ...]:
        """Return the phases on the hull."""
        if self._diagram is None:
            return ()
        on_hull = {id(entry) for entry in self._diagram.stable_entries}
        return tuple(phase for phase, entry in zip(self.phases, self._entries, strict=True) if id(entry) in on_hull)

    def tie_lines(self) -> list[tuple[Phase, Phase]]:
        """Return the pairs of phases that are stable together: the edges of the hull's facets."""
        if self._diagram is None:
            return []
        place = {id(entry): phase for entry, phase in zip(self._entries, self.phases, strict=True)}
        corners = [place[id(entry)] for entry in self._diagram.qhull_entries]
        edges = {pair for facet in self._diagram.facets for pair in combinations(sorted(map(int, facet)), 2)}
        return [(corners[a], corners[b]) for a, b in sorted(edges)]

    def with_phases(self, phases: Sequence[Phase], scale: EnergyScale) -> Hull:
        """Return the hull of these phases too.

        Raises:
            WorkflowError: the scales differ.
        """
        self._same(scale)
        return Hull([*self.phases, *self.unplaced, *phases], self.scale)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        stable = self.stable()
        return {
            "scale": self.scale.to_dict(),
            "elements": list(self.elements),
            "stable": [phase.to_dict() for phase in stable],
            "above": len(self.phases) - len(stable),
            "unplaced": [phase.name for phase in self.unplaced],
        }

    def _same(self, scale: EnergyScale) -> None:
        if scale != self.scale:
            raise WorkflowError(f"energies of two scales: the hull is made of {self.scale}; compared is {scale}")


class Hulls:
    """Hulls of many chemical systems of one set of phases, each made when it is first asked for.

    Args:
        phases: of any elements.
        scale: of their energies.
    """

    def __init__(self, phases: Iterable[Phase], scale: EnergyScale) -> None:
        self.scale = scale
        self._by_system: dict[frozenset[str], list[Phase]] = {}
        for phase in phases:
            self._by_system.setdefault(frozenset(Formula(phase.formula).count()), []).append(phase)
        self._made: dict[frozenset[str], Hull] = {}

    def of(self, what: str | Atoms) -> Hull:
        """Return the hull of the chemical system of a formula or structure."""
        formula = what.symbols.formula if isinstance(what, Atoms) else Formula(what)
        system = frozenset(formula.count())
        if system not in self._made:
            parts = [phases for elements, phases in self._by_system.items() if elements <= system]
            self._made[system] = Hull([phase for phases in parts for phase in phases], self.scale)
        return self._made[system]

    def covers(self, what: str | Atoms) -> bool:
        """Return whether there is a phase of exactly these elements."""
        formula = what.symbols.formula if isinstance(what, Atoms) else Formula(what)
        return frozenset(formula.count()) in self._by_system

    def above(self, what: str | Atoms, energy_ev_per_atom: float) -> float | None:
        """Return how far an energy lies above the hull, eV per atom; None where an element has no reference."""
        return self.of(what).energy_above_hull(what, energy_ev_per_atom, self.scale)


def _counts(what: str | Atoms) -> dict[str, int]:
    try:
        formula = what.symbols.formula if isinstance(what, Atoms) else Formula(what)
        reduced = formula.reduce()[0].count()
    except ValueError as error:
        raise WorkflowError(f"{what!r} is not a chemical formula") from error
    if not reduced or any(atomic_numbers.get(element, 0) < 1 for element in reduced):
        raise WorkflowError(f"{what!r} is not a chemical formula of elements")
    return dict(reduced)


def _name(what: str | Atoms) -> str:
    return what if isinstance(what, str) else str(what.symbols)
