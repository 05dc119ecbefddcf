"""Structures that are evaluated together, again and again, while some leave and others come."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor

from mlcalc.calculators import _blocks
from mlcalc.calculators._batch_size import BatchSize, is_out_of_memory
from mlcalc.calculators._checks import OVERLAP, check_distances, check_finite, check_mixture, read_inputs
from mlcalc.calculators._members import Members, as_array
from mlcalc.errors import MlcalcError, NonFiniteError, OutOfMemoryError, SettingsError
from mlcalc.graphs import BatchedEdges, BatchedVerletList, Graph, index_tables, species_indices
from mlcalc.potentials.base import Potential
from mlcalc.potentials.derivatives import forces, strain_derivative

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Entrant:
    """A structure that a potential knows: species (n,) and inputs, for each member."""

    n_atoms: int
    pbc: NDArray[np.bool_]
    species: list[NDArray[np.int64]]
    inputs: list[dict[str, float]]


@dataclass
class BatchValues:
    """What an evaluation gave; of committees, means over the members.

    Attributes:
        energies: (B,) eV.
        atomic_energies: (N,) eV.
        forces: (N, 3) eV/Å, zero if not wanted.
        strain: (B, 3, 3) ∂E/∂ε, eV, zero if not wanted.
        grades: (N,) largest extrapolation grade of the members, None if they have none.
        shortest: (B,) shortest edge, Å, infinite where there is none.
        errors: what went wrong, by place; the numbers of these structures mean nothing.
    """

    energies: Array
    atomic_energies: Array
    forces: Array
    strain: Array
    grades: Array | None
    shortest: Array
    errors: dict[int, Exception] = field(default_factory=dict)


class Batch:
    """Structures side by side, with their Verlet lists.

    Args:
        members: the potentials.
        skin: of the Verlet lists, Å.
        size: how much of the batch goes through the potential at once.

    Attributes:
        verlet: the lists; ``verlet.starts`` (B + 1,) says where the atoms of each structure begin.
        n_edges: (B,) edges of each structure at the last evaluation.
    """

    def __init__(self, members: Members, skin: float, size: BatchSize) -> None:
        self.members, self.size = members, size
        self.verlet = BatchedVerletList(members.info.cutoff, skin, members.device)
        self.n_edges: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._entrants: list[Entrant] = []
        self._species: list[Tensor] = []
        self._inputs: list[dict[str, Tensor]] = []

    def admit(self, atoms: Atoms) -> Entrant:
        """Return a structure ready for ``replace``.

        Raises:
            MlcalcError: the potential does not know it, it lacks an input, or it has no atoms.
        """
        return self.admit_numbers(atoms.numbers, atoms.pbc, atoms.info)

    def admit_numbers(self, numbers: NDArray[np.int64], pbc: NDArray[np.bool_], values: Mapping[str, Any]) -> Entrant:
        """Return what ``admit`` does, of atomic numbers (n,), pbc (3,) and per-structure inputs."""
        if len(numbers) == 0:
            raise SettingsError("the structure has no atoms")
        species_indices(numbers, self.members.info.elements)
        check_mixture(numbers, self.members.info)
        infos = [potential.info for potential in self.members.potentials]
        return Entrant(
            len(numbers),
            np.array(pbc, dtype=bool),
            [species_indices(numbers, info.elements) for info in infos],
            [read_inputs(info, values) for info in infos],
        )

    def replace(self, keep: Sequence[int] | NDArray[np.int64], new: Sequence[Entrant]) -> None:
        """Keep the structures at these places, in this order, and put new ones behind them."""
        self._entrants = [self._entrants[place] for place in keep] + list(new)
        self.verlet.replace(keep, [item.n_atoms for item in new], [item.pbc for item in new])
        device = self.members.device
        self._species, self._inputs = [], []
        for k, potential in enumerate(self.members.potentials):
            species = [item.species[k] for item in self._entrants] or [np.zeros(0, dtype=np.int64)]
            self._species.append(torch.from_numpy(np.concatenate(species)).to(device))
            self._inputs.append(
                {
                    name: torch.tensor([item.inputs[k][name] for item in self._entrants], dtype=torch.float64).to(
                        device
                    )
                    for name in potential.info.inputs
                }
            )

    def evaluate(self, positions: Array, cells: Array, with_forces: bool = True) -> BatchValues:
        """Return energies, and forces and strain derivatives if wanted, of all structures.

        Args:
            positions: (N, 3) Å, structure by structure.
            cells: (B, 3, 3) cell vectors as rows, Å.
            with_forces: compute the derivative.
        """
        edges = self.verlet.update(positions, cells)
        starts, count = self.verlet.starts, len(self._entrants)
        self.n_edges = np.diff(edges.bounds)
        values = BatchValues(
            energies=np.zeros(count),
            atomic_energies=np.zeros(starts[-1]),
            forces=np.zeros((starts[-1], 3)),
            strain=np.zeros((count, 3, 3)),
            grades=np.zeros(starts[-1]) if "grade" in self.members.info.outputs else None,
            shortest=np.full(count, np.inf),
            errors=dict(edges.errors),
        )
        self._check_edges(edges, values)
        todo = [(0, count)]
        while todo:
            first, last = todo.pop()
            middle = self._middle(edges.bounds, first, last)
            if edges.bounds[last] - edges.bounds[first] > self.size.limit and middle:
                todo += [(middle, last), (first, middle)]
                continue
            failure = self._attempt(edges, first, last, with_forces, values)
            if failure is None:
                continue
            if middle:
                todo += [(middle, last), (first, middle)]
            else:
                values.errors.setdefault(first, failure)
        values.energies[:] = np.add.reduceat(values.atomic_energies, starts[:-1]) if count else 0.0
        self._check_values(values, with_forces)
        return values

    @staticmethod
    def _middle(bounds: NDArray[np.int64], first: int, last: int) -> int | None:
        """Return the place that parts structures into halves of about as many edges; None if there is but one."""
        if last - first < 2:
            return None
        half = int(np.searchsorted(bounds[first : last + 1], (bounds[first] + bounds[last]) // 2)) + first
        return min(max(half, first + 1), last - 1)

    def _attempt(
        self, edges: BatchedEdges, first: int, last: int, with_forces: bool, values: BatchValues
    ) -> Exception | None:
        """Evaluate structures ``first`` to before ``last``; return what went wrong."""
        n_edges = int(edges.bounds[last] - edges.bounds[first])
        try:
            self.size.begin()
            start = time.perf_counter()
            self._evaluate(edges, first, last, with_forces, values)
            self.size.record(n_edges, time.perf_counter() - start)
            return None
        except Exception as error:
            # Whatever it was: others in this batch shall not share its fate. It is evaluated in halves down to the one.
            failure: Exception = error.with_traceback(None)  # frames would keep tensors alive
        if is_out_of_memory(failure):
            self.size.halve(n_edges)
            if self.members.device.type == "cuda":
                torch.cuda.empty_cache()
            return OutOfMemoryError(
                f"memory ran out on {self.members.device} for {n_edges} edges of one structure: fewer atoms, float32, "
                "or another device"
            )
        if isinstance(failure, MlcalcError):
            return failure
        return MlcalcError(f"the potential failed on the structure: {type(failure).__name__}: {failure}")

    def _evaluate(self, edges: BatchedEdges, first: int, last: int, with_forces: bool, values: BatchValues) -> None:
        begin, end = (int(edges.bounds[place]) for place in (first, last))
        low, high = (int(self.verlet.starts[place]) for place in (first, last))
        device = self.members.device
        batch = torch.from_numpy(self.verlet.batch[low:high] - first).to(device)
        atoms, places = slice(low, high), slice(first, last)
        found: list[tuple[Array, Array, Array, list[Array]]] = []
        for k, (potential, dtype) in enumerate(self.members.pairs()):
            index, vectors, shifts = (
                edges.edge_index[:, begin:end] - low,
                edges.vectors[begin:end],
                edges.shifts[begin:end],
            )
            if potential.info.cutoff < self.verlet.cutoff:
                near = torch.nonzero(edges.squared_lengths[begin:end] < potential.info.cutoff**2).flatten()
                index, vectors, shifts = index[:, near], vectors[near], shifts[near]
            tables = {name: values_[places].to(dtype) for name, values_ in self._inputs[k].items()}
            if potential.info.needs:
                made = index_tables(index.cpu(), shifts.cpu(), potential.info.needs)
                tables |= {name: table.to(device) for name, table in made.items()}
            graph = Graph(self._species[k][atoms], index, vectors, batch, last - first, tables)
            found.append(_member(potential, graph, dtype, with_forces))
        values.atomic_energies[atoms] = np.mean([item[0] for item in found], axis=0)
        if with_forces:
            values.forces[atoms] = np.mean([item[1] for item in found], axis=0)
            values.strain[places] = np.mean([item[2] for item in found], axis=0)
        grades = [grade for item in found for grade in item[3]]
        if values.grades is not None and grades:
            values.grades[atoms] = np.max(grades, axis=0)

    def _check_edges(self, edges: BatchedEdges, values: BatchValues) -> None:
        """Note the shortest edge of each structure, and what lies on top of each other."""
        some = np.flatnonzero(self.n_edges)
        if not len(some):
            return
        squared = as_array(edges.squared_lengths)
        values.shortest[some] = np.sqrt(np.minimum.reduceat(squared, edges.bounds[:-1][some]))
        for place in np.flatnonzero(values.shortest < OVERLAP):
            part = slice(edges.bounds[place], edges.bounds[place + 1])
            local = edges.edge_index[:, part].cpu().numpy() - self.verlet.starts[place]
            try:
                check_distances(local, squared[part], self.members.info, warn=False)
            except MlcalcError as error:
                values.errors.setdefault(int(place), error)

    def _check_values(self, values: BatchValues, with_forces: bool) -> None:
        bad = ~np.isfinite(values.atomic_energies)
        if with_forces:
            bad |= ~np.isfinite(values.forces).all(axis=1)
        for place in np.unique(self.verlet.batch[bad]):
            atoms = slice(self.verlet.starts[place], self.verlet.starts[place + 1])
            try:
                check_finite("energies", values.atomic_energies[atoms])
                check_finite("forces", values.forces[atoms])
            except NonFiniteError as error:
                values.errors.setdefault(int(place), error)


def _member(
    potential: Potential, graph: Graph, dtype: torch.dtype, with_forces: bool
) -> tuple[Array, Array, Array, list[Array]]:
    """Return energies (N,), forces (N, 3), strain derivatives (B, 3, 3) and grades of one potential."""
    device = graph.species.device
    outputs = {"grade": torch.empty(0, device=device)} if "grade" in potential.info.outputs else {}
    energies, gradients = _blocks.evaluate(potential, graph.to(dtype=dtype), outputs, with_forces)
    grades = [as_array(grade) for grade in outputs.values()]
    if not with_forces:
        return as_array(energies), np.zeros((0, 3)), np.zeros((0, 3, 3)), grades
    gradients = gradients.to(torch.float64)
    pull = forces(gradients, graph.edge_index, graph.n_atoms)
    return as_array(energies), as_array(pull), as_array(strain_derivative(gradients, graph)), grades
