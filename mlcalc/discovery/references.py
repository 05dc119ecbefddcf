"""Reference phases of a hull, relaxed with the potential that is judged by them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ase import Atoms

from mlcalc.crystals.io import read_crystals
from mlcalc.discovery._reference_cache import ReferenceCache, Relaxer, relax_cached
from mlcalc.discovery.hull import Hull, Phase
from mlcalc.discovery.identity import EnergyScale, energy_scale
from mlcalc.discovery.prototypes import decorated_prototypes
from mlcalc.errors import WorkflowError
from mlcalc.records import Record

PROTOTYPES = "AFLOW prototypes in pymatgen"
DATABASE = "Materials Project"


@dataclass(frozen=True)
class ReferenceSettings:
    """How references are made; the same for all of a hull.

    Attributes:
        max_atoms: of the primitive cell of a prototype; larger ones are left out.
        fmax: largest force left, eV/Å.
        stress_tolerance_gpa: largest stress left, GPa.
        max_steps: optimiser steps allowed.
        pressure_gpa: external pressure, GPa; the hull is then one of enthalpies.
        min_distance: smallest distance after relaxation, in units of the sum of covalent radii.
        symprec: tolerance of the space group, Å.
        largest_grade: references with an atom of a larger extrapolation grade are left out; None keeps all.
        trusted_neighbors_ang: as in ``FunnelSettings``.
    """

    max_atoms: int = 8
    fmax: float = 0.02
    stress_tolerance_gpa: float = 0.1
    max_steps: int = 300
    pressure_gpa: float = 0.0
    min_distance: float = 0.6
    symprec: float = 0.05
    largest_grade: float | None = None
    trusted_neighbors_ang: tuple[float, ...] = ()


@dataclass(frozen=True)
class ReferenceStructure:
    """A structure that is to become a reference: its name, where it is from, and published numbers about it."""

    name: str
    source: str
    atoms: Atoms
    labels: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ReferencePhase(Record):
    """A relaxed reference; energies in eV per atom, the enthalpy at the pressure of the settings."""

    name: str
    source: str
    formula: str
    energy_ev_per_atom: float
    enthalpy_ev_per_atom: float
    space_group: int | None
    atoms: Atoms
    labels: dict[str, float]


@dataclass(frozen=True)
class SourceCount(Record):
    """What became of the structures of one source.

    Attributes:
        source: where they are from.
        offered: structures.
        relaxed: that became references.
        failures: reason → names of those that did not.
    """

    source: str
    offered: int
    relaxed: int
    failures: dict[str, list[str]]


@dataclass(frozen=True)
class References(Record):
    """The references of a chemical system, on one potential's scale.

    Attributes:
        elements: of the system.
        phases: relaxed references, by source in the order given.
        missing: elements of which no reference was found; nothing can be said about compounds with them.
        sources: what was used, and how much of it came through. A hull is as complete as its sources: a phase that no
            source holds is not on it.
        scale: what energies mean.
        settings: how they were relaxed.
        wall_time_s: seconds of this call; little where the cache knew.
    """

    elements: tuple[str, ...]
    phases: tuple[ReferencePhase, ...]
    missing: tuple[str, ...]
    sources: tuple[SourceCount, ...]
    scale: EnergyScale
    settings: ReferenceSettings
    wall_time_s: float

    def hull(self) -> Hull:
        """Return the hull of these references: of energies, or of enthalpies at a pressure."""
        return Hull((Phase(p.name, p.formula, p.enthalpy_ev_per_atom) for p in self.phases), self.scale)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; of each phase all but its atoms."""
        rows = [{k: v for k, v in phase.to_dict().items() if k != "atoms"} for phase in self.phases]
        return {**super().to_dict(), "settings": vars(self.settings), "phases": rows}


def prototype_structures(elements: Sequence[str], max_atoms: int = 8) -> Iterator[ReferenceStructure]:
    """Yield the prototypes of a chemical system, elements and compounds."""
    for name, atoms in decorated_prototypes(elements, max_atoms):
        yield ReferenceStructure(name, PROTOTYPES, atoms)


def file_structures(path: str | Path, elements: Sequence[str]) -> Iterator[ReferenceStructure]:
    """Yield the structures of a file that hold no elements outside the chemical system.

    Args:
        path: JSON lines of crystals (``.jsonl``, ``.jsonl.gz``), or whatever ASE reads.
        elements: symbols.

    Raises:
        CrystalError: no such file, or one that cannot be read.
    """
    for crystal in read_crystals(path):
        if set(crystal.atoms.get_chemical_symbols()) <= set(elements):
            formula = crystal.atoms.get_chemical_formula(empirical=True)
            yield ReferenceStructure(f"{formula} {crystal.name}", str(path), crystal.atoms, crystal.labels)


def materials_project_structures(elements: Sequence[str], key: str | None = None) -> Iterator[ReferenceStructure]:
    """Yield the structures of the Materials Project for a chemical system and all its parts (network; the user's key).

    Args:
        elements: symbols.
        key: of the API; None takes ``$MP_API_KEY``.

    Raises:
        WorkflowError: mp-api is not installed, there is no key, or the service does not answer.
    """
    try:
        from mp_api.client import MPRester
    except ImportError as error:
        raise WorkflowError(
            "references from the Materials Project need mp-api: pip install 'mlcalc[materials-project]'"
        ) from error
    key = key or os.environ.get("MP_API_KEY")
    if not key:
        raise WorkflowError("references from the Materials Project need your API key: set MP_API_KEY")
    from itertools import combinations

    from pymatgen.io.ase import AseAtomsAdaptor

    systems = ["-".join(sorted(part)) for n in range(1, len(elements) + 1) for part in combinations(elements, n)]
    names = ["material_id", "structure", "formation_energy_per_atom", "energy_above_hull"]
    try:
        with MPRester(key) as client:
            rows = client.materials.summary.search(chemsys=systems, fields=names)
    except Exception as error:  # the client has errors of its own, and of the network
        raise WorkflowError(f"the Materials Project did not answer: {type(error).__name__}: {error}") from error
    for row in rows:
        atoms = AseAtomsAdaptor.get_atoms(row.structure, msonable=False)
        bare = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
        labels = {
            "formation_energy_per_atom": row.formation_energy_per_atom,
            "e_above_hull": row.energy_above_hull,
        }
        numbers = {name: float(value) for name, value in labels.items() if value is not None}
        formula = bare.get_chemical_formula(empirical=True)
        yield ReferenceStructure(f"{formula} {row.material_id}", DATABASE, bare, numbers)


def offered_structures(
    elements: Sequence[str], structures: Iterable[ReferenceStructure] = (), max_atoms: int = 8
) -> list[ReferenceStructure]:
    """Return what is to become references: the prototypes of a chemical system, and further structures.

    Args:
        elements: symbols of the chemical system.
        structures: further references.
        max_atoms: of the primitive cell of a prototype.

    Raises:
        WorkflowError: no elements, or structures with others.
    """
    if not elements or len(set(elements)) < len(elements):
        raise WorkflowError(f"references need the elements of a chemical system, each once; got {list(elements)}")
    offered = [*prototype_structures(elements, max_atoms), *structures]
    for item in offered:
        outside = set(item.atoms.get_chemical_symbols()) - set(elements)
        if outside:
            raise WorkflowError(
                f"reference {item.name} holds {', '.join(sorted(outside))}: not in {'-'.join(elements)}"
            )
    return offered


def make_references(
    elements: Sequence[str],
    calculator: Any,
    structures: Iterable[ReferenceStructure] = (),
    *,
    settings: ReferenceSettings | None = None,
    folder: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    relaxer: Relaxer | None = None,
) -> References:
    """Relax the prototypes of a chemical system, and further structures, with one calculator.

    What was relaxed before with the same weights, settings and structure is taken from a cache. A potential's is in
    mlcalc's own cache folder and serves every chemical system; a calculator whose weights cannot be hashed has one in
    ``folder`` only, since its name does not say what it computes.

    Args:
        elements: symbols of the chemical system.
        calculator: an ASE calculator, or a ``BatchedCalculator``.
        structures: further references; those with other elements are an error.
        settings: how; defaults if None.
        folder: for the cache of a calculator without known weights; None keeps none.
        progress: called with (done, total).
        relaxer: whoever relaxes what the cache does not know; None does it here, with ``calculator``.

    Raises:
        WorkflowError: no elements, or structures with others.
    """
    start = time.perf_counter()
    settings = settings or ReferenceSettings()
    offered = offered_structures(elements, structures, settings.max_atoms)
    cache = ReferenceCache.of(calculator, settings, None if folder is None else Path(folder))
    records = relax_cached([item.atoms for item in offered], calculator, vars(settings), cache, progress, relaxer)
    phases: list[ReferencePhase] = []
    counts: dict[str, SourceCount] = {}
    for item, record in zip(offered, records, strict=True):
        count = counts.setdefault(item.source, SourceCount(item.source, 0, 0, {}))
        good = record["status"] == "ok"
        if good:
            phases.append(_phase(item, record))
        else:
            count.failures.setdefault(record["reason"], []).append(item.name)
        counts[item.source] = SourceCount(item.source, count.offered + 1, count.relaxed + good, count.failures)
    pure = {next(iter(set(p.atoms.get_chemical_symbols()))) for p in phases if len(set(p.atoms.numbers)) == 1}
    return References(
        tuple(elements),
        tuple(phases),
        tuple(e for e in elements if e not in pure),
        tuple(counts.values()),
        energy_scale(calculator, settings.pressure_gpa),
        settings,
        time.perf_counter() - start,
    )


def _phase(item: ReferenceStructure, record: dict[str, Any]) -> ReferencePhase:
    import ase.io.jsonio

    atoms = ase.io.jsonio.decode(record["atoms"])
    return ReferencePhase(
        name=item.name,
        source=item.source,
        formula=str(atoms.symbols.formula.reduce()[0].format("hill")),
        energy_ev_per_atom=record["energy_ev"] / len(atoms),
        enthalpy_ev_per_atom=record["enthalpy_ev"] / len(atoms),
        space_group=record["space_group"],
        atoms=atoms,
        labels=item.labels,
    )
