"""From candidates to a ranked list of distinct relaxed crystals, resumable."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ase.io.jsonio
from ase import Atoms

from mlcalc.crystals.duplicates import cluster_duplicates
from mlcalc.discovery._work import relax_one, start_worker, work
from mlcalc.discovery.records import Journal, claim_folder
from mlcalc.errors import WorkflowError
from mlcalc.generators import Candidate, read_candidates, write_candidates


@dataclass(frozen=True)
class FunnelSettings:
    """What decides over a candidate.

    Attributes:
        min_distance: smallest allowed distance, own images included, in units of the sum of covalent radii.
        trusted_neighbors_ang: relaxed structures are stopped where some atom has its k-th nearest neighbour closer
            than entry k − 1 of this list, the closest in the potential's training data (``closest_neighbors``): more
            crowded than anything it was shown, its energies are extrapolations, and often far too low. Empty trusts
            all.
        largest_grade: relaxed structures are stopped where some atom's extrapolation grade is above this; None, or a
            calculator without grades, stops none.
        fmax: largest force left after relaxation, eV/Å.
        stress_tolerance_gpa: largest stress left after relaxation, GPa.
        max_steps: optimiser steps allowed.
        pressure_gpa: external pressure, GPa; ranking is by enthalpy.
        symprec: tolerance with which the symmetry of relaxed structures is found, Å.
        energy_window_ev: largest energy difference between duplicates, eV per atom.
        volume_window: largest relative volume difference between duplicates.
    """

    min_distance: float = 0.6
    trusted_neighbors_ang: tuple[float, ...] = ()
    largest_grade: float | None = None
    fmax: float = 0.02
    stress_tolerance_gpa: float = 0.1
    max_steps: int = 300
    pressure_gpa: float = 0.0
    symprec: float = 0.05
    energy_window_ev: float = 0.01
    volume_window: float = 0.05


@dataclass(frozen=True)
class Stage:
    """One step of the funnel.

    Attributes:
        name: what was done.
        entered: candidates that came in.
        passed: candidates that went on.
        failures: reason → indices of the candidates it stopped.
    """

    name: str
    entered: int
    passed: int
    failures: dict[str, list[int]]


@dataclass(frozen=True)
class Relaxed:
    """A relaxed candidate; energies in eV, volume in Å³, per atom; the largest extrapolation grade of its atoms."""

    index: int
    atoms: Atoms
    energy_ev_per_atom: float
    enthalpy_ev_per_atom: float
    volume_ang3_per_atom: float
    space_group: int | None
    space_group_symbol: str | None
    steps: int
    wall_time_s: float
    grade: float | None


@dataclass(frozen=True)
class Extrapolated:
    """A relaxed candidate outside what the potential was trained on: listed, not ranked."""

    candidate: Relaxed
    reason: str
    message: str


@dataclass(frozen=True)
class Ranked:
    """A distinct crystal.

    Attributes:
        rank: 1 is lowest in enthalpy per atom.
        best: the lowest member.
        members: indices of all candidates that ended here, ``best`` among them.
        above_best_ev_per_atom: enthalpy above rank 1, eV per atom.
    """

    rank: int
    best: Relaxed
    members: tuple[int, ...]
    above_best_ev_per_atom: float


@dataclass(frozen=True)
class FunnelResult:
    """What came through, and what did not.

    Attributes:
        stages: in order; every candidate is in the first one's ``entered``.
        relaxed: all that were relaxed, by candidate index.
        ranked: distinct crystals, lowest first.
        extrapolated: relaxed, but beyond the potential's data, lowest first; their energies mean little.
        settings: what decided.
    """

    stages: tuple[Stage, ...]
    relaxed: tuple[Relaxed, ...]
    ranked: tuple[Ranked, ...]
    extrapolated: tuple[Extrapolated, ...]
    settings: FunnelSettings

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""

        def row(r: Relaxed) -> dict[str, Any]:
            values = {k: v for k, v in vars(r).items() if k != "atoms"}
            return {
                **values,
                "formula": r.atoms.get_chemical_formula(),
                "n_atoms": len(r.atoms),
                "cell_ang": r.atoms.cell.array.tolist(),
                "scaled_positions": r.atoms.get_scaled_positions().tolist(),
                "symbols": r.atoms.get_chemical_symbols(),
            }

        return {
            "settings": asdict(self.settings),
            "stages": [asdict(stage) for stage in self.stages],
            "relaxed": [row(r) for r in self.relaxed],
            "extrapolated": [{"reason": e.reason, "message": e.message, **row(e.candidate)} for e in self.extrapolated],
            "ranked": [
                {
                    "rank": r.rank,
                    "members": list(r.members),
                    "above_best_ev_per_atom": r.above_best_ev_per_atom,
                    **row(r.best),
                }
                for r in self.ranked
            ],
        }


def run_funnel(
    candidates: Callable[[], Iterable[Candidate]],
    factory: Callable[[], Any],
    folder: str | Path,
    *,
    settings: FunnelSettings | None = None,
    description: dict[str, Any] | None = None,
    workers: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> FunnelResult:
    """Check, relax, deduplicate and rank candidates.

    The folder holds ``campaign.json`` (description and settings), ``candidates.extxyz`` and ``records.jsonl`` (one
    line a finished candidate). Killed anywhere, the same call goes on where it stopped; nothing is done twice.

    Args:
        candidates: gives the candidates; called only if the folder does not hold them yet.
        factory: builds the ASE calculator, once a worker; must be picklable for ``workers`` > 1.
        folder: made if missing.
        settings: thresholds; defaults if None.
        description: what the campaign is (JSON-ready); must be the same when it goes on.
        workers: processes; 1 works in this process.
        progress: called with (stage, done, total).

    Raises:
        WorkflowError: the folder holds another campaign or is in use, or workers die again and again.
        GeneratorError: the generator could not make the candidates.
    """
    settings = settings or FunnelSettings()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tell = progress or (lambda stage, done, total: None)
    with Journal(folder / "records.jsonl") as journal:
        claim_folder(folder, {"description": description or {}, "settings": asdict(settings)})
        pool = stored_candidates(folder, candidates)
        done = {record["index"] for record in journal.records}
        tell("relax", len(done), len(pool))
        todo = [(k, c.atoms) for k, c in enumerate(pool) if k not in done]
        for record in _relax_all(todo, asdict(settings), factory, workers):
            journal.append(record)
            tell("relax", len(journal.records), len(pool))
        return _summarise(journal.records, len(pool), settings)


def stored_candidates(folder: Path, make: Callable[[], Iterable[Candidate]]) -> list[Candidate]:
    """Return the candidates of a folder, made and written first if it does not hold them yet."""
    path = folder / "candidates.extxyz"
    if not path.exists():
        write_candidates(path, make())
    return list(read_candidates(path)) if path.stat().st_size else []


def _relax_all(
    todo: Sequence[tuple[int, Atoms]], settings: dict[str, Any], factory: Callable[[], Any], workers: int
) -> Iterator[dict[str, Any]]:
    """Yield one record a candidate, in the order in which they finish."""
    if not todo:
        return
    calculator = factory()  # here first, also for workers: its errors are clearer than those of a dying worker
    if workers <= 1:
        for index, atoms in todo:
            yield relax_one(index, atoms, settings, calculator)
        return
    # A crash of the calculator (a segmentation fault, out of memory) breaks the whole pool and does not say who did
    # it. Those that were at work then run alone, and who breaks a pool alone is the culprit.
    suspects: list[tuple[int, Atoms]] = []
    waiting = list(todo)
    while waiting:
        yield from _pool_run(waiting, suspects, settings, factory, workers)
        for index, atoms in suspects:
            left: list[tuple[int, Atoms]] = []
            yield from _pool_run([(index, atoms)], left, settings, factory, 1)
            if left:
                yield {"index": index, "stage": "relaxation", "status": "failed", "reason": "worker died"}
        suspects = []


def _pool_run(
    waiting: list[tuple[int, Atoms]],
    suspects: list[tuple[int, Atoms]],
    settings: dict[str, Any],
    factory: Callable[[], Any],
    workers: int,
) -> Iterator[dict[str, Any]]:
    """Work off ``waiting`` until it is empty or the pool breaks; then ``suspects`` holds what was in flight."""
    # Spawned, not forked: a fork of a process with threads (torch, BLAS) can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=start_worker, initargs=(factory,)) as pool:
        flying: dict[Future[dict[str, Any]], tuple[int, Atoms]] = {}
        try:
            while waiting or flying:
                while waiting and len(flying) < workers:
                    flying[pool.submit(work, *waiting[0], settings)] = waiting[0]
                    waiting.pop(0)
                for future in wait(flying, return_when=FIRST_COMPLETED).done:
                    record = future.result()
                    del flying[future]
                    yield record
        except BrokenProcessPool:
            suspects.extend(flying.values())
            if not suspects:
                raise WorkflowError("worker processes die at their start; try workers=1") from None


def _summarise(records: Sequence[dict[str, Any]], generated: int, settings: FunnelSettings) -> FunnelResult:
    """Count, deduplicate and rank; depends on the records only, not on their order."""
    records = sorted(records, key=lambda record: record["index"])
    failed: dict[str, dict[str, list[int]]] = {"validity": {}, "relaxation": {}, "trust": {}}
    for record in records:
        if record["status"] != "ok":
            failed[record["stage"]].setdefault(record["reason"], []).append(record["index"])
    relaxed = tuple(_relaxed(record) for record in records if record["status"] == "ok")
    clusters = cluster_duplicates(
        [r.atoms for r in relaxed],
        [r.enthalpy_ev_per_atom for r in relaxed],
        energy_window_ev=settings.energy_window_ev,
        volume_window=settings.volume_window,
    )
    groups: dict[int, list[Relaxed]] = {}
    for r, cluster in zip(relaxed, clusters, strict=True):
        groups.setdefault(cluster, []).append(r)
    best = sorted(
        (sorted(group, key=lambda r: (r.enthalpy_ev_per_atom, r.index)) for group in groups.values()),
        key=lambda group: (group[0].enthalpy_ev_per_atom, group[0].index),
    )
    lowest = best[0][0].enthalpy_ev_per_atom if best else 0.0
    ranked = tuple(
        Ranked(k, g[0], tuple(sorted(r.index for r in g)), g[0].enthalpy_ev_per_atom - lowest)
        for k, g in enumerate(best, start=1)
    )
    invalid = sum(len(v) for v in failed["validity"].values())
    extrapolated = sorted(
        (Extrapolated(_relaxed(r), r["reason"], r["message"]) for r in records if r["stage"] == "trust"),
        key=lambda e: (e.candidate.enthalpy_ev_per_atom, e.candidate.index),
    )
    untrusted = len(extrapolated)
    duplicates = sorted(set(r.index for r in relaxed) - {r.best.index for r in ranked})
    stages = (
        Stage("generated", generated, generated, {}),
        Stage("valid distances", generated, generated - invalid, failed["validity"]),
        Stage("relaxed", generated - invalid, len(relaxed) + untrusted, failed["relaxation"]),
        Stage("within the potential's data", len(relaxed) + untrusted, len(relaxed), failed["trust"]),
        Stage("distinct", len(relaxed), len(ranked), {"duplicate": duplicates} if duplicates else {}),
    )
    return FunnelResult(stages, relaxed, ranked, tuple(extrapolated), settings)


def _relaxed(record: dict[str, Any]) -> Relaxed:
    atoms = ase.io.jsonio.decode(record["atoms"])
    return Relaxed(
        index=record["index"],
        atoms=atoms,
        energy_ev_per_atom=record["energy_ev"] / len(atoms),
        enthalpy_ev_per_atom=record["enthalpy_ev"] / len(atoms),
        volume_ang3_per_atom=atoms.get_volume() / len(atoms),
        space_group=record["space_group"],
        space_group_symbol=record["space_group_symbol"],
        steps=record["steps"],
        wall_time_s=record["wall_time_s"],
        grade=record["grade"],
    )
