"""From records to a result: counts, hull, novelty, ranking; and the files that say so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms

from mlcalc.crystals.charges import is_charge_balanced
from mlcalc.discovery._campaign_result import CampaignResult, Gathered, RankedCrystal
from mlcalc.discovery._campaign_settings import CampaignSettings
from mlcalc.discovery.funnel import Stage
from mlcalc.discovery.hull import Hull, Phase
from mlcalc.discovery.novelty import judge_novelty
from mlcalc.discovery.references import References
from mlcalc.environment import machine, versions
from mlcalc.files import atomic_path
from mlcalc.records import write_json

# What a crystal may go on to once it is relaxed.
LATE = ("phonons", "phonons on a mesh", "dynamics", "free energy")
# Rounding of hulls, eV per atom.
_ON_HULL = 1e-9
CALCULATED = ("single points", "relaxation with symmetry", "relaxation", *LATE)


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
    of_references: dict[str, float] = {}
    for phase in references.phases:  # names may occur twice
        of_references[phase.name] = min(phase.enthalpy_ev_per_atom, of_references.get(phase.name, float("inf")))
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
        # Copies differ by what relaxations leave; the lowest of them, references too, is on the hull or not.
        copies = [enthalpies[k] for k in places] + [of_references[name] for name in known]
        among_all = everyone.energy_above_hull(finals[best], min(copies), scale)
        on_hull = None if among_all is None else bool(among_all < _ON_HULL)
        crystals.append(_crystal(gathered, relaxed[best], who, finals[best], enthalpies[best], hull, on_hull, known))
    _compare_free_energies(crystals)
    lowest = float("inf")
    crystals.sort(
        key=lambda c: (
            lowest if c["energy_above_hull_ev_per_atom"] is None else c["energy_above_hull_ev_per_atom"],
            c["index"],
        )
    )
    ranked = tuple(RankedCrystal(rank=k, **values) for k, values in enumerate(crystals, start=1))
    stages = _stages(gathered, ranked, settings)
    unreadable = tuple(record["message"] for _, record in sorted(gathered.of("unreadable").items()))
    cost = _cost(gathered, references)
    return CampaignResult(len(gathered.pool), unreadable, stages, ranked, references, cost, settings)


def _compare_free_energies(crystals: list[dict[str, Any]]) -> None:
    """Put each free energy in relation to the lowest of its composition."""
    known = [c for c in crystals if c["free_energy_ev_per_atom"] is not None]
    for crystal in known:
        same = [c["free_energy_ev_per_atom"] for c in known if c["formula"] == crystal["formula"]]
        crystal["free_energy_above_lowest_ev_per_atom"] = crystal["free_energy_ev_per_atom"] - min(same)


def _behind(gathered: Gathered, index: int) -> int:
    return sum(index not in gathered.of(stage) for stage in LATE)


def _crystal(
    gathered: Gathered,
    index: int,
    members: list[int],
    atoms: Atoms,
    enthalpy: float,
    hull: Hull,
    on_hull: bool | None,
    known_as: tuple[str, ...],
) -> dict[str, Any]:
    vibrated, moved = gathered.of("phonons").get(index), gathered.of("dynamics").get(index)
    mesh, free = gathered.of("phonons on a mesh").get(index, {}), gathered.of("free energy").get(index, {})
    last = gathered.last(index)
    has_modes = vibrated is not None and "imaginary_modes" in vibrated
    return {
        "index": index,
        "members": tuple(members),
        "formula": str(atoms.symbols.formula.reduce()[0].format("hill")),
        "n_atoms": len(atoms),
        "energy_ev_per_atom": enthalpy,
        "formation_energy_ev_per_atom": hull.formation_energy(atoms, enthalpy, hull.scale),
        "energy_above_hull_ev_per_atom": hull.energy_above_hull(atoms, enthalpy, hull.scale),
        "on_hull": on_hull,
        "known_as": known_as,
        "space_group": last["space_group"],
        "space_group_symbol": last["space_group_symbol"],
        "charge_balanced": is_charge_balanced(atoms),
        "followed_mode": bool(vibrated and vibrated.get("followed")),
        "dynamically_stable": vibrated["imaginary_modes"] == 0 if vibrated is not None and has_modes else None,
        "min_frequency_thz": vibrated["min_frequency_thz"] if vibrated is not None and has_modes else None,
        "dynamically_stable_mesh": None if "imaginary_modes" not in mesh else mesh["imaginary_modes"] == 0,
        "min_frequency_mesh_thz": mesh.get("min_frequency_thz"),
        "imaginary_qpoint": tuple(mesh["imaginary_qpoint"]) if mesh.get("imaginary_qpoint") else None,
        "held_in_dynamics": None if moved is None else moved["status"] == "ok",
        "free_energy_ev_per_atom": free.get("free_energy_ev_per_atom"),
        "free_energy_above_lowest_ev_per_atom": None,
        "free_energy_refused": free["message"] if free.get("status") == "failed" else None,
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
    ranking = [] if settings.rank is None else ["ranking"]
    for stage in ("distances", "uniqueness", *ranking, "relaxation"):
        alive = of(stage, alive, "not tried")
    stand_for = {c.index: c for c in ranked}
    copies = sorted(alive - set(stand_for))
    add("unique after relaxation", set(stand_for), {"duplicate": copies})
    unknown = [i for i, c in stand_for.items() if c.energy_above_hull_ev_per_atom is None]
    limit = settings.above_hull_ev_per_atom
    high = [i for i, c in stand_for.items() if (c.energy_above_hull_ev_per_atom or 0.0) > limit]
    alive = set(stand_for) - set(unknown) - set(high)
    add("energy above hull", alive, {"no reference of an element": unknown, f"more than {limit:g} eV/atom": high})
    for stage in ("phonons", *(["phonons on a mesh"] if settings.mesh_phonons else []), "dynamics"):
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


def write_files(folder: Path, result: CampaignResult, description: dict[str, Any]) -> None:
    """Write ``report.json`` and ``ranked.extxyz``, each whole or not at all."""
    with atomic_path(folder / "ranked.extxyz") as path, path.open("w", encoding="utf-8") as file:
        for atoms in ranked_frames(result.ranked):
            ase.io.write(file, atoms, format="extxyz")
    write_json(
        folder / "report.json",
        {"description": description, **result.to_dict(), "versions": versions(), "machine": machine()},
    )
