"""Structures in flight: evaluated together, each on its own way to a minimum."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlcalc.calculators._batch import BatchValues, Entrant
from mlcalc.calculators.batched import BatchedCalculator, voigt
from mlcalc.workflows._batched_coordinates import Coordinates
from mlcalc.workflows._batched_optimizers import Array, BatchedOptimizer
from mlcalc.workflows._relax_parts import Criteria, RelaxResult, symmetry_error
from mlcalc.workflows.relax_lists import given


@dataclass
class _Flying:
    """A structure on its way."""

    number: int
    work: Atoms
    before: str | None
    start: float
    entrant: Entrant
    steps: int = 0
    initial_energy: float = float("nan")


class Flight:
    """Relaxes a list of structures, as many at a time as the calculator takes in one evaluation.

    Args:
        calculator: evaluates.
        asked: what is free, and when a structure is done.
        optimizer: a fresh one.
        progress: called with (number of the structure, step, largest force).
        finish: called with (number, result) as soon as there is one.
    """

    def __init__(
        self,
        calculator: BatchedCalculator,
        asked: Criteria,
        optimizer: BatchedOptimizer,
        progress: Callable[[int, int, float], None] | None,
        finish: Callable[[int, RelaxResult], None],
    ) -> None:
        self.calculator, self.asked, self.optimizer = calculator, asked, optimizer
        self.progress, self.finish = progress, finish
        self.batch = calculator.new_batch()
        self.coordinates = Coordinates(asked)
        self.flying: list[_Flying] = []

    def run(self, structures: Sequence[Any]) -> None:
        """Relax all; results go to ``finish`` in the order in which they come."""
        self.waiting = list(enumerate(structures))[::-1]
        self._refill([])
        while self.flying:
            values = self.batch.evaluate(self.coordinates.positions, self.coordinates.cells)
            forces, stress = self._constrained(values)
            on_atoms = self.coordinates.atoms.longest(forces)
            on_cells = self.asked.stress_residual_gpa(stress) if self.coordinates.free else None
            stays: list[int] = []
            for b, item in enumerate(self.flying):
                if b in values.errors:
                    self._fail(item, b, values.errors[b])
                    continue
                if item.steps == 0:
                    item.initial_energy = self._energy(item, b, values)
                if self.progress is not None:
                    self.progress(item.number, item.steps, float(on_atoms[b]))
                met = self.asked.is_met(float(on_atoms[b]), None if on_cells is None else float(on_cells[b]))
                if met or item.steps >= self.asked.max_steps:
                    self._land(item, b, values)
                else:
                    stays.append(b)
            self._go_on(stays, forces, stress)

    def _go_on(self, stays: list[int], forces: Array, stress: Array) -> None:
        """Take a step with those that stay, and fill up with new ones."""
        if len(stays) < len(self.flying):
            forces, stress = forces[self.coordinates.atoms.of(np.array(stays, dtype=np.int64))], stress[stays]
            self._replace(stays, [])
        refused: dict[int, RuntimeError] = {}
        if self.flying:
            on_rows = self.coordinates.forces(forces, stress)
            refused = self.coordinates.move(self.optimizer.step(self.coordinates.rows(), on_rows))
        for b, error in refused.items():
            self._fail(self.flying[b], b, symmetry_error(error, self.flying[b].steps))
        for item in self.flying:
            item.steps += 1
        self._refill([b for b in range(len(self.flying)) if b not in refused])

    def _refill(self, stays: Sequence[int]) -> None:
        """Admit the next ones as long as an evaluation has room for them."""
        new: list[_Flying] = []
        limit = self.calculator.edges_at_once
        room = limit - int(self.batch.n_edges[list(stays)].sum()) if len(self.batch.n_edges) else limit
        while self.waiting and (room > 0 or not (stays or new)):
            number, structure = self.waiting.pop()
            start = time.perf_counter()
            try:
                work, before = self.asked.begin(structure)
                item = _Flying(number, work, before, start, self.batch.admit(work))
            except Exception as error:  # spglib, pymatgen and constraints have errors of their own
                self.finish(number, self.asked.failure(error, given(structure)))
                continue
            edges = _expected_edges(work, self.calculator.info.cutoff)
            if edges > room and (stays or new):
                self.waiting.append((number, structure))
                break
            room -= edges
            new.append(item)
        if new or len(stays) < len(self.flying):
            self._replace(stays, new)

    def _replace(self, stays: Sequence[int], new: Sequence[_Flying]) -> None:
        keep = np.array(stays, dtype=np.int64)
        self.flying = [self.flying[b] for b in stays] + list(new)
        self.batch.replace(keep, [item.entrant for item in new])
        self.batch.n_edges = np.concatenate([self.batch.n_edges[keep], np.zeros(len(new), dtype=np.int64)])
        counts = np.array([self.coordinates.rows_of(len(item.work)) for item in new], dtype=np.int64)
        self.optimizer.replace(keep, counts)
        self.coordinates.replace(keep, [item.work for item in new])

    def _constrained(self, values: BatchValues) -> tuple[Array, Array]:
        """Return forces (N, 3) and stresses (B, 6) after constraints; stress is zero where cells are fixed."""
        forces, starts = values.forces.copy(), self.coordinates.atoms.starts
        stress = np.zeros((len(self.flying), 6))
        if self.coordinates.free:
            with np.errstate(all="ignore"):
                stress = voigt(values.strain) / np.abs(np.linalg.det(self.coordinates.cells))[:, None]
        for b, item in enumerate(self.flying):
            for constraint in item.work.constraints:
                constraint.adjust_forces(item.work, forces[starts[b] : starts[b + 1]])
                if self.coordinates.free and hasattr(constraint, "adjust_stress"):
                    constraint.adjust_stress(item.work, stress[b])
        return forces, stress

    def _energy(self, item: _Flying, b: int, values: BatchValues) -> float:
        energy = float(values.energies[b])
        for constraint in item.work.constraints:
            if hasattr(constraint, "adjust_potential_energy"):
                energy += constraint.adjust_potential_energy(item.work)
        return energy

    def _land(self, item: _Flying, b: int, values: BatchValues) -> None:
        work = self.coordinates.settle(b)
        starts = self.coordinates.atoms.starts
        found: dict[str, Any] = {
            "energy": float(values.energies[b]),
            "forces": values.forces[starts[b] : starts[b + 1]],
        }
        if work.pbc.all():
            found["stress"] = voigt(values.strain[b]) / work.get_volume()
        work.calc = SinglePointCalculator(work, **found)
        seconds = time.perf_counter() - item.start
        self.finish(item.number, self.asked.result(work, item.before, item.initial_energy, item.steps, seconds))

    def _fail(self, item: _Flying, b: int, error: Exception) -> None:
        seconds = time.perf_counter() - item.start
        work = self.coordinates.settle(b)
        failure = self.asked.failure(error, work, item.before, item.initial_energy, item.steps, seconds)
        self.finish(item.number, failure)


def _expected_edges(atoms: Atoms, cutoff: float) -> int:
    """Return about how many edges a structure will have."""
    most = len(atoms) * (len(atoms) - 1)
    if not atoms.pbc.all():
        return most + len(atoms)
    return int(len(atoms) ** 2 * 4.19 * cutoff**3 / max(atoms.get_volume(), 1e-3)) + 1
