"""From records to a result: counts, hull, novelty, ranking; and the files that say so."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.db
import ase.io
import ase.io.jsonio
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlcalc.crystals.charges import is_charge_balanced
from mlcalc.discovery._campaign_settings import CampaignSettings
from mlcalc.discovery.funnel import Stage
from mlcalc.discovery.hull import Hull, Phase
from mlcalc.discovery.novelty import judge_novelty
from mlcalc.discovery.references import References
from mlcalc.environment import machine, versions
from mlcalc.files import atomic_path
from mlcalc.records import Record, jsonable, write_json

CALCULATED = ("relaxation with symmetry", "relaxation", "phonons", "dynamics")


@dataclass(frozen=True)
class Gathered:
    """Candidates, and all records by stage and candidate."""

    pool: list[Atoms]
    records: dict[str, dict[int, dict[str, Any]]]

    def of(self, stage: str) -> dict[int, dict[str, Any]]:
        """Return the records of a stage by candidate."""
        return self.records.get(stage, {})

    def last(self, index: int) -> dict[str, Any]:
        """Return the record with a candidate's final structure and energy."""
        vibrated = self.of("phonons").get(index, {})
        return vibrated if "energy_ev" in vibrated else self.of("relaxation")[index]

    def final(self, index: int) -> Atoms:
        """Return a relaxed candidate, after modes were followed."""
        atoms = ase.io.jsonio.decode(self.last(index)["atoms"])
        assert isinstance(atoms, Atoms)
        return atoms


@dataclass(frozen=True)
class RankedCrystal(Record):
    """A distinct crystal of a campaign.

    Attributes:
        rank: 1 is the lowest above the hull; crystals without a place on the hull come last.
        index: of the candidate that stands for it.
        members: all candidates that ended there.
        formula: reduced.
        n_atoms: in the cell.
        energy_ev_per_atom: eV per atom, or enthalpy at the campaign's pressure.
        formation_energy_ev_per_atom: relative to the elements' references; None if one is missing.
        energy_above_hull_ev_per_atom: relative to the references alone, negative: below all of them; None if unknown.
        on_hull: still on the hull when all candidates are on it too; None if unknown.
        known_as: names of references that are the same crystal; empty: not among the references given.
        space_group: number, and ``space_group_symbol``.
        charge_balanced: see ``is_charge_balanced``; one in five known crystals is not.
        followed_mode: an imaginary mode at Γ was followed to here.
        dynamically_stable: no imaginary modes at Γ; None without phonons.
        min_frequency_thz: at Γ.
        held_in_dynamics: None without dynamics.
        atoms: the relaxed structure.
    """

    rank: int
    index: int
    members: tuple[int, ...]
    formula: str
    n_atoms: int
    energy_ev_per_atom: float
    formation_energy_ev_per_atom: float | None
    energy_above_hull_ev_per_atom: float | None
    on_hull: bool | None
    known_as: tuple[str, ...]
    space_group: int | None
    space_group_symbol: str | None
    charge_balanced: bool
    followed_mode: bool
    dynamically_stable: bool | None
    min_frequency_thz: float | None
    held_in_dynamics: bool | None
    atoms: Atoms


@dataclass(frozen=True)
class CampaignResult(Record):
    """What a campaign found.

    Attributes:
        candidates: how many there were; every one is counted below.
        stages: entered, passed, and who was stopped why; ``not tried`` counts those beyond the numbers of the settings.
        ranked: distinct crystals, lowest above the hull first.
        references: what the hull is made of.
        cost: by stage, seconds, optimiser steps and candidates.
        settings: what decided.
    """

    candidates: int
    stages: tuple[Stage, ...]
    ranked: tuple[RankedCrystal, ...]
    references: References
    cost: dict[str, dict[str, float]]
    settings: CampaignSettings

    def rows(self) -> list[dict[str, Any]]:
        """Return the ranked crystals as plain dictionaries."""
        return [crystal.to_dict() for crystal in self.ranked]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            **super().to_dict(),
            "stages": [jsonable(vars(stage)) for stage in self.stages],
            "settings": self.settings.flat(),
            "hull": self.references.hull().to_dict(),
        }


def summarise(gathered: Gathered, references: References, settings: CampaignSettings) -> CampaignResult:
    """Count, compare and rank; depends on the records only, not on their order."""
    relaxed = sorted(i for i, r in gathered.of("relaxation").items() if r["status"] == "ok")
    finals = [gathered.final(i) for i in relaxed]
    enthalpies = [gathered.last(i)["enthalpy_ev"] / len(a) for i, a in zip(relaxed, finals, strict=True)]
    hull, scale = references.hull(), references.scale
    found = judge_novelty(
        finals,
        enthalpies,
        [(p.name, p.atoms, p.enthalpy_ev_per_atom) for p in references.phases],
        energy_window_ev=settings.relaxation.energy_window_ev,
        volume_window=settings.relaxation.volume_window,
        symprec=settings.relaxation.symprec,
    )
    everyone = hull.with_phases(
        [Phase(str(i), str(a.symbols), e) for i, a, e in zip(relaxed, finals, enthalpies, strict=True)], scale
    )
    clusters: dict[int, list[int]] = {}
    for place, novelty in enumerate(found):
        clusters.setdefault(novelty.same_as, []).append(place)
    crystals = []
    for places in clusters.values():
        # The one that came furthest stands for a crystal, so that what was found out about it is on its row.
        best = min(places, key=lambda k: (_behind(gathered, relaxed[k]), enthalpies[k], relaxed[k]))
        who = sorted(relaxed[k] for k in places)
        known = found[best].known_as
        crystals.append(_crystal(gathered, relaxed[best], who, finals[best], enthalpies[best], hull, everyone, known))
    lowest = float("inf")
    crystals.sort(
        key=lambda c: (
            lowest if c["energy_above_hull_ev_per_atom"] is None else c["energy_above_hull_ev_per_atom"],
            c["index"],
        )
    )
    ranked = tuple(RankedCrystal(rank=k, **values) for k, values in enumerate(crystals, start=1))
    stages = _stages(gathered, ranked, settings)
    return CampaignResult(len(gathered.pool), stages, ranked, references, _cost(gathered, references), settings)


def _behind(gathered: Gathered, index: int) -> int:
    return sum(index not in gathered.of(stage) for stage in ("phonons", "dynamics"))


def _crystal(
    gathered: Gathered,
    index: int,
    members: list[int],
    atoms: Atoms,
    enthalpy: float,
    hull: Hull,
    everyone: Hull,
    known_as: tuple[str, ...],
) -> dict[str, Any]:
    vibrated, moved = gathered.of("phonons").get(index), gathered.of("dynamics").get(index)
    last = gathered.last(index)
    among_all = everyone.energy_above_hull(atoms, enthalpy, everyone.scale)
    has_modes = vibrated is not None and "imaginary_modes" in vibrated
    return {
        "index": index,
        "members": tuple(members),
        "formula": str(atoms.symbols.formula.reduce()[0].format("hill")),
        "n_atoms": len(atoms),
        "energy_ev_per_atom": enthalpy,
        "formation_energy_ev_per_atom": hull.formation_energy(atoms, enthalpy, hull.scale),
        "energy_above_hull_ev_per_atom": hull.energy_above_hull(atoms, enthalpy, hull.scale),
        "on_hull": None if among_all is None else among_all < 1e-9,
        "known_as": known_as,
        "space_group": last["space_group"],
        "space_group_symbol": last["space_group_symbol"],
        "charge_balanced": is_charge_balanced(atoms),
        "followed_mode": bool(vibrated and vibrated.get("followed")),
        "dynamically_stable": vibrated["imaginary_modes"] == 0 if vibrated is not None and has_modes else None,
        "min_frequency_thz": vibrated["min_frequency_thz"] if vibrated is not None and has_modes else None,
        "held_in_dynamics": None if moved is None else moved["status"] == "ok",
        "atoms": atoms,
    }


def _stages(gathered: Gathered, ranked: tuple[RankedCrystal, ...], settings: CampaignSettings) -> tuple[Stage, ...]:
    """Every stage takes what the one before let through."""
    stages = [Stage("candidates", len(gathered.pool), len(gathered.pool), {})]

    def add(name: str, passed: set[int], failures: dict[str, list[int]]) -> None:
        stages.append(Stage(name, stages[-1].passed, len(passed), {k: sorted(v) for k, v in failures.items() if v}))

    def of(stage: str, among: set[int], default: str) -> set[int]:
        records, failures = gathered.of(stage), dict[str, list[int]]()
        for index in among:
            record = records.get(index, {"status": "failed", "reason": default})
            if record["status"] != "ok":
                failures.setdefault(record["reason"], []).append(index)
        good = {i for i in among if records.get(i, {}).get("status") == "ok"}
        add(stage, good, failures)
        return good

    alive = set(range(len(gathered.pool)))
    for stage in ("distances", "uniqueness", "relaxation"):
        alive = of(stage, alive, "not tried")
    stand_for = {c.index: c for c in ranked}
    copies = sorted(alive - set(stand_for))
    add("unique after relaxation", set(stand_for), {"duplicate": copies})
    unknown = [i for i, c in stand_for.items() if c.energy_above_hull_ev_per_atom is None]
    limit = settings.above_hull_ev_per_atom
    high = [i for i, c in stand_for.items() if (c.energy_above_hull_ev_per_atom or 0.0) > limit]
    alive = set(stand_for) - set(unknown) - set(high)
    add("energy above hull", alive, {"no reference of an element": unknown, f"more than {limit:g} eV/atom": high})
    for stage in ("phonons", "dynamics"):
        alive = of(stage, alive, "not tried")
    return tuple(stages)


def _cost(gathered: Gathered, references: References) -> dict[str, dict[str, float]]:
    cost: dict[str, dict[str, float]] = {"references": {"wall_time_s": references.wall_time_s}}
    for stage in CALCULATED:
        records = gathered.of(stage).values()
        cost[stage] = {
            "candidates": float(len(records)),
            "wall_time_s": sum(r.get("wall_time_s", 0.0) for r in records),
            "steps": float(sum(r.get("steps", 0) for r in records)),
        }
    return cost


def ranked_frames(crystals: Iterable[RankedCrystal]) -> Iterator[Atoms]:
    """Yield crystals with what their row says, as ``ranked.extxyz`` has them."""
    plain = {"index", "rank", "formula", "energy_above_hull_ev_per_atom", "known_as", "space_group_symbol"}
    for crystal in crystals:
        atoms = crystal.atoms.copy()
        values = {k: v for k, v in crystal.to_dict().items() if k in plain and v is not None and v != []}
        atoms.info = {k: "; ".join(v) if isinstance(v, list) else v for k, v in values.items()}
        yield atoms


def write_files(folder: Path, result: CampaignResult, gathered: Gathered, description: dict[str, Any]) -> None:
    """Write ``report.json``, ``ranked.extxyz`` and ``campaign.db``, each whole or not at all."""
    with atomic_path(folder / "ranked.extxyz") as path, path.open("w", encoding="utf-8") as file:
        for atoms in ranked_frames(result.ranked):
            ase.io.write(file, atoms, format="extxyz")
    _write_database(folder / "campaign.db", result, gathered)
    write_json(
        folder / "report.json",
        {"description": description, **result.to_dict(), "versions": versions(), "machine": machine()},
    )


def _write_database(path: Path, result: CampaignResult, gathered: Gathered) -> None:
    """Make the database anew from the records; a row a candidate, whatever became of it."""
    ranks = {member: crystal for crystal in result.ranked for member in crystal.members}
    with atomic_path(path) as temporary, ase.db.connect(temporary, type="db", use_lock_file=False) as database:
        for index, given in enumerate(gathered.pool):
            stage, record = reached(gathered, index)
            relaxed = gathered.of("relaxation").get(index, {}).get("status") == "ok"
            atoms = gathered.final(index) if relaxed else given.copy()
            atoms.info = {}
            keys: dict[str, Any] = {"candidate": index, "stage": stage, "ok": record["status"] == "ok"}
            if record["status"] != "ok":
                keys["reason"] = record["reason"]
            if relaxed:
                atoms.calc = SinglePointCalculator(atoms, energy=gathered.last(index)["energy_ev"])
            if index in ranks:
                crystal = ranks[index]
                keys |= {"crystal_rank": crystal.rank, "known": bool(crystal.known_as)}
                if crystal.energy_above_hull_ev_per_atom is not None:
                    keys["above_hull"] = crystal.energy_above_hull_ev_per_atom
            stories = {stage: _story(gathered, stage, index) for stage in gathered.records}
            database.write(atoms, key_value_pairs=keys, data={k: v for k, v in stories.items() if v})


def reached(gathered: Gathered, index: int) -> tuple[str, dict[str, Any]]:
    """Return the last stage with a record of this candidate, and the record."""
    for stage in ("dynamics", "phonons", "relaxation", "uniqueness", "distances"):
        if index in gathered.of(stage):
            return stage, gathered.of(stage)[index]
    return "candidates", {"status": "ok"}


def _story(gathered: Gathered, stage: str, index: int) -> dict[str, Any]:
    record = gathered.of(stage).get(index, {})
    return json.loads(json.dumps({k: v for k, v in record.items() if k not in ("atoms", "index", "stage")}))
