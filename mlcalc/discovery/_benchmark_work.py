"""What a source of crystals proposed, and what became of it when relaxed; resumable."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import ase.io.jsonio
from ase import Atoms

from mlcalc.crystals.matching import rms_displacement
from mlcalc.discovery._work import check
from mlcalc.discovery.records import Journal
from mlcalc.errors import MlcalcError
from mlcalc.generators import Constraints

#: Gives up to so many crystals for constraints and a seed.
Draw = Callable[[Constraints, int, int], Iterable[Atoms]]


@dataclass(frozen=True)
class Proposed:
    """One crystal that was asked for.

    Attributes:
        condition: number of the condition it was asked for under.
        atoms: as generated; None if there was none.
        relaxed: relaxed and converged; None otherwise.
        energy_ev: of ``relaxed``.
        initial_energy_ev: of ``atoms``, where a relaxation was tried and the calculator could say.
        log_probability: of the generator's model, where it tells.
        tried: whether a relaxation was spent on it.
        problem: why there is no ``atoms`` or no ``relaxed``.
    """

    condition: int
    atoms: Atoms | None
    relaxed: Atoms | None = None
    energy_ev: float = float("nan")
    initial_energy_ev: float = float("nan")
    log_probability: float | None = None
    tried: bool = False
    problem: str | None = None

    @property
    def gain_ev_per_atom(self) -> float:
        """Energy lost in relaxation."""
        return float("nan") if self.relaxed is None else (self.initial_energy_ev - self.energy_ev) / len(self.relaxed)

    @property
    def moved_ang(self) -> float:
        """How far atoms moved in relaxation, Å."""
        if self.relaxed is None or self.atoms is None:
            return float("nan")
        return rms_displacement(self.atoms, self.relaxed)

    @property
    def grown(self) -> float:
        """Relative change of the volume in relaxation."""
        if self.relaxed is None or self.atoms is None:
            return float("nan")
        return float(self.relaxed.get_volume() / self.atoms.get_volume()) - 1.0


@dataclass(frozen=True)
class Worked:
    """All that was asked of one source, and the time it took: generation and relaxation, s."""

    proposed: tuple[Proposed, ...]
    generation_s: float
    relaxation_s: float


def generate(
    journal: Journal, draw: Draw, conditions: Sequence[Constraints], per_condition: int, seed: int
) -> list[Proposed]:
    """Draw what the journal does not hold yet; a condition that fails halfway keeps what came before."""
    done = {record["condition"]: record for record in journal.records if record["stage"] == "generation"}
    for k, constraints in enumerate(conditions):
        if k in done:
            continue
        start, found, reason = time.perf_counter(), [], None
        try:
            for atoms in draw(constraints, per_condition, seed + k):
                found.append(atoms)
        except MlcalcError as error:
            reason = str(error)[:300]
        record = {
            "stage": "generation",
            "condition": k,
            "atoms": [ase.io.jsonio.encode(_bare(atoms)) for atoms in found[:per_condition]],
            "log_probabilities": [atoms.info.get("log_probability") for atoms in found[:per_condition]],
            "reason": reason,
            "seconds": time.perf_counter() - start,
        }
        journal.append(record)
        done[k] = record
    proposed = []
    for k in range(len(conditions)):
        crystals = [ase.io.jsonio.decode(text) for text in done[k]["atoms"]]
        logs = done[k]["log_probabilities"]
        proposed += [Proposed(k, a, log_probability=log) for a, log in zip(crystals, logs, strict=True)]
        missing = per_condition - len(crystals)
        proposed += [Proposed(k, None, problem=f"not generated: {done[k]['reason'] or 'too few'}")] * missing
    return proposed


def relax_all(
    journal: Journal,
    proposed: Sequence[Proposed],
    calculator: Any,
    options: dict[str, Any],
    min_distance: float,
    progress: Callable[[int, int], None],
) -> list[Proposed]:
    """Relax together what is valid and the journal does not hold yet; every failure is kept with its reason."""
    from mlcalc.workflows import relax_many

    done = {record["index"]: record for record in journal.records if record["stage"] == "relaxation"}
    todo: list[int] = []
    for k, item in enumerate(proposed):
        if item.atoms is None or k in done:
            continue
        problem = check(item.atoms, min_distance)
        if problem is None:
            todo.append(k)
        else:
            done[k] = {"problem": problem}
    clock = time.perf_counter()

    def finished(number: int, result: Any) -> None:
        nonlocal clock
        now = time.perf_counter()
        problem = result.error or (None if result.converged else "not converged")
        after = problem is None and check(result.atoms, min_distance)
        record: dict[str, Any] = {
            "stage": "relaxation",
            "index": todo[number],
            "problem": f"{after} after relaxation" if after else problem,
            "initial_energy_ev": result.initial_energy_ev if isfinite(result.initial_energy_ev) else None,
            "seconds": now - clock,  # since the last one: the sum is the time it all took, kills or not
        }
        if record["problem"] is None:
            record |= {"atoms": ase.io.jsonio.encode(_bare(result.atoms)), "energy_ev": result.energy_ev}
        clock = now
        journal.append(record)
        done[todo[number]] = record
        progress(len(done), len(proposed))

    if todo:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # failures are records here
            relax_many([proposed[k].atoms for k in todo], calculator, cell="full", finished=finished, **options)
    return [_with_result(item, done.get(k)) for k, item in enumerate(proposed)]


def seconds(journal: Journal, stage: str, asked: int) -> float:
    """Return the time that a stage took, over all starts, for the first so many crystals asked for."""
    times = [(r.get("index", 0), r["seconds"]) for r in journal.records if r["stage"] == stage]
    return float(sum(time for index, time in times if index < asked))


def _with_result(item: Proposed, record: dict[str, Any] | None) -> Proposed:
    if record is None:
        return item
    initial = record.get("initial_energy_ev")
    item = replace(
        item,
        problem=record["problem"],
        tried="index" in record,
        initial_energy_ev=float("nan") if initial is None else initial,
    )
    if record["problem"] is not None:
        return item
    return replace(item, relaxed=ase.io.jsonio.decode(record["atoms"]), energy_ev=record["energy_ev"])


def _bare(atoms: Atoms) -> Atoms:
    return Atoms(atoms.numbers, cell=atoms.cell, positions=atoms.positions, pbc=atoms.pbc)
