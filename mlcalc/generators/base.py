"""The contract between generators and everything that takes candidate crystals."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import reduce
from math import gcd, isfinite
from typing import Any, ClassVar

from ase import Atoms
from ase.data import atomic_numbers
from ase.formula import Formula

from mlcalc.errors import GeneratorError
from mlcalc.records import jsonable

#: Labels as data files name them, of the targets that have a field of their own in ``Constraints``.
LABELS = {
    "formation_energy_ev_per_atom": "formation_energy_per_atom",
    "energy_above_hull_ev_per_atom": "e_above_hull",
    "band_gap_ev": "band_gap",
}


@dataclass(frozen=True)
class Provenance:
    """Where a candidate came from.

    Attributes:
        generator: name of the generator.
        seed: seed of the sampling run; None for structures that were not sampled.
        index: position in that run; ``(generator, model_hash, options, constraints, seed, index)`` fixes the candidate.
        model_hash: hash of the generative model's weights, None without a model.
        requested_space_group: number that was asked for, None if nothing was.
        found_space_group: number found in the finished structure, None if none was.
        log_probability: natural logarithm of the model's probability (density), None without a model.
        details: anything else worth keeping; JSON-ready. Under ``options`` what ``Generator.options`` gave, which
            candidates of earlier versions do not have.
    """

    generator: str
    seed: int | None = None
    index: int = 0
    model_hash: str | None = None
    requested_space_group: int | None = None
    found_space_group: int | None = None
    log_probability: float | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary; ``from_dict`` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Provenance:
        """Build from ``to_dict`` output."""
        return cls(**values)


@dataclass(frozen=True)
class Candidate:
    """A crystal to be tried: atoms and where they came from."""

    atoms: Atoms
    provenance: Provenance


@dataclass(frozen=True)
class Constraints:
    """What every sampled crystal must satisfy, by construction, and what it should aim at.

    Where neither elements, a chemical system nor a formula is named, a generator that has learnt which elements occur
    together chooses among all it knows; others refuse.

    Attributes:
        elements: elements present, each at least once. Not needed with ``formula``.
        formula: the cell holds a whole number of these formula units, e.g. ``"MgAl2O4"`` (reduced first).
        n_atoms: smallest and largest number of atoms in the primitive cell.
        space_groups: numbers allowed; empty means all 230.
        volume_per_atom: smallest and largest volume per atom, Å³; None leaves the range to the generator.
        chemical_system: elements that may occur beside ``elements``; no others do.
        formation_energy_ev_per_atom: range to aim at, eV per atom. Targets are wishes: a generator that has learnt the
            property draws crystals that should lie in the range, and one that has not refuses.
        energy_above_hull_ev_per_atom: range to aim at, eV per atom.
        band_gap_ev: range to aim at, eV.
        properties: ranges to aim at for whatever else a generator was trained on, by label, in the units of its data.
    """

    elements: tuple[str, ...] = ()
    formula: str | None = None
    n_atoms: tuple[int, int] = (1, 8)
    space_groups: tuple[int, ...] = ()
    volume_per_atom: tuple[float, float] | None = None
    chemical_system: tuple[str, ...] = ()
    formation_energy_ev_per_atom: tuple[float, float] | None = None
    energy_above_hull_ev_per_atom: tuple[float, float] | None = None
    band_gap_ev: tuple[float, float] | None = None
    properties: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Reject what no crystal can satisfy."""
        try:
            unit = Formula(self.formula).count() if self.formula else {}
        except ValueError as error:
            raise GeneratorError(f"{self.formula!r} is not a chemical formula") from error
        for symbol in (*self.elements, *self.chemical_system, *unit):
            if atomic_numbers.get(symbol, 0) < 1:
                raise GeneratorError(f"{symbol!r} is not a chemical element")
        for named in (self.elements, self.chemical_system):
            if len(set(named)) < len(named):
                raise GeneratorError(f"elements named twice: {' '.join(named)}")
        outside = sorted((set(self.elements) | set(unit)) - set(self.chemical_system))
        if self.chemical_system and outside:
            raise GeneratorError(
                f"{' '.join(outside)} must be present, but the chemical system {'-'.join(self.chemical_system)} "
                "does not hold it"
            )
        if self.elements and unit and set(self.elements) != set(unit):
            raise GeneratorError(f"formula {self.formula} does not hold exactly the elements {' '.join(self.elements)}")
        low, high = self.n_atoms
        if not 1 <= low <= high:
            raise GeneratorError(f"the range of atoms per cell must satisfy 1 <= {low} <= {high}")
        wrong = [number for number in self.space_groups if not 1 <= number <= 230]
        if wrong:
            raise GeneratorError(f"space group numbers go from 1 to 230, not {wrong}")
        if self.volume_per_atom and not 0 < self.volume_per_atom[0] <= self.volume_per_atom[1]:
            raise GeneratorError(f"impossible range of volumes per atom: {self.volume_per_atom} Å³")
        for name, label in LABELS.items():
            if label in self.properties:
                raise GeneratorError(f"{label} has a field of its own among the constraints: {name}")
        for name, target in self.targets().items():
            if not target[0] <= target[1]:
                raise GeneratorError(f"impossible range of {name}: {target}")
            if not (isfinite(target[0]) and isfinite(target[1])):
                raise GeneratorError(f"a range to aim at has two ends, unlike {name}: {target}")

    def targets(self) -> dict[str, tuple[float, float]]:
        """Return the ranges to aim at, by name, where given."""
        names = ("formation_energy_ev_per_atom", "energy_above_hull_ev_per_atom", "band_gap_ev")
        named = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return {**named, **self.properties}

    def species(self) -> tuple[str, ...]:
        """Elements that candidates may hold, in the order of ``compositions``; empty where nothing names any."""
        if self.formula:
            return tuple(Formula(self.formula).count())
        return (*self.elements, *(e for e in self.chemical_system if e not in self.elements))

    def compositions(self) -> list[tuple[int, ...]]:
        """Return every allowed number of atoms of each element in the primitive cell.

        Raises:
            GeneratorError: nothing fits the range of atoms, or no elements are named.
        """
        if not self.species():
            raise GeneratorError("constraints name neither elements nor a formula")
        low, high = self.n_atoms
        species = self.species()
        if self.formula:
            counts = tuple(Formula(self.formula).count().values())
            unit = [c // reduce(gcd, counts) for c in counts]
            found = [
                tuple(z * c for c in unit) for z in range(1, high // sum(unit) + 1) if low <= z * sum(unit) <= high
            ]
        else:
            least = [1 if e in self.elements else 0 for e in species]
            found = [c for n in range(low, high + 1) for c in _parts(n, least)]
        if not found:
            what = (
                f"whole formula units of {self.formula}"
                if self.formula
                else f"one atom of each of {len(self.elements)} elements"
            )
            raise GeneratorError(f"no cell of {low} to {high} atoms holds {what}; widen n_atoms")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)


def _parts(total: int, least: list[int]) -> Iterator[tuple[int, ...]]:
    """Every way to write ``total`` as an ordered sum of whole numbers, none below its least value."""
    if len(least) == 1:
        if total >= least[0]:
            yield (total,)
        return
    for first in range(least[0], total - sum(least[1:]) + 1):
        for rest in _parts(total - first, least[1:]):
            yield (first, *rest)


class Generator(ABC):
    """Something that proposes crystals."""

    name: str
    #: Attributes that change what is drawn, beside model, constraints and seed.
    option_names: ClassVar[tuple[str, ...]] = ()

    @property
    def model_hash(self) -> str | None:
        """Hash of the model, None without one."""
        return None

    def options(self) -> dict[str, Any]:
        """Return the values of ``option_names``, JSON-ready."""
        return {name: jsonable(getattr(self, name)) for name in self.option_names}

    @abstractmethod
    def sample(self, n: int, constraints: Constraints, seed: int) -> Iterator[Candidate]:
        """Yield ``n`` candidates that satisfy ``constraints``.

        The same seed gives the same candidates, and the first m of n are those that ``sample(m, …)`` gives.

        Raises:
            GeneratorError: the constraints cannot be met, or were not met within a bounded number of attempts.
        """
