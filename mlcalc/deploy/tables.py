"""Radial tables: polynomials in the place of radial networks, as fine as a bound on forces asks."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from mlcalc.deploy._reference import reference_graph
from mlcalc.errors import SettingsError
from mlcalc.graphs.graph import Graph
from mlcalc.potentials.base import Potential, PotentialInfo
from mlcalc.potentials.derivatives import energies_and_gradients, forces
from mlcalc.potentials.nequip import NequIPNetwork
from mlcalc.potentials.precision import in_dtype

BOUND = 1e-4
_INTERVALS = (200, 400, 800)
_STRETCHES = (0.75, 0.87, 1.0, 1.1)  # of the reference structure


@dataclass(frozen=True)
class Tables:
    """Radial tables of a potential.

    Attributes:
        intervals: polynomials from 0 to the cutoff.
        force_deviation: largest change of a force component that they make on the reference set, eV/Å, in float64.
        bound: what it had to stay below, eV/Å.
    """

    intervals: int
    force_deviation: float
    bound: float

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)


def with_tables(potential: Potential, bound: float = BOUND) -> tuple[Potential, Tables | None]:
    """Return a copy with radial tables, which only the compiled operators read, and what they cost in accuracy.

    Where there is nothing to tabulate, or nothing that reads tables, the potential comes back as it is, and None.

    Args:
        potential: it is not changed.
        bound: largest allowed change of a force component on the reference set, eV/Å: a shaken crystal of all elements,
            at four densities.

    Raises:
        SettingsError: if the bound is not positive, or the finest table does not meet it.
    """
    if not bound > 0.0:
        raise SettingsError(f"the bound on what tables change must be a positive number in eV/Å, not {bound}")
    if not any(isinstance(module, NequIPNetwork) for module in potential.modules()):
        return potential, None
    graphs = _reference_set(potential.info)
    exact = [_forces(in_dtype(potential, torch.float64), graph) for graph in graphs]
    deviation = float("inf")
    for intervals in _INTERVALS:
        trial = in_dtype(potential, torch.float64)
        if not _tabulate(trial, intervals):
            return potential, None
        found = [_forces(trial, graph) for graph in graphs]
        deviation = max(float((a - b).abs().max()) for a, b in zip(exact, found, strict=True))
        if deviation <= bound:
            made = Tables(intervals, deviation, bound)
            return with_intervals(potential, made), made
    raise SettingsError(
        f"radial tables of {_INTERVALS[-1]} intervals change forces by {deviation:.2g} eV/Å, more than the {bound:g} "
        "allowed; go without them (--no-tables, tables=False)"
    )


def with_intervals(potential: Potential, tables: Tables | None) -> Potential:
    """Return a copy with the tables that another copy got, or the potential if it got none."""
    if tables is None:
        return potential
    result = in_dtype(potential, potential.dtype)
    _tabulate(result, tables.intervals)
    return result


def _tabulate(potential: Potential, intervals: int) -> bool:
    return all([module.tabulate(intervals) for module in potential.modules() if isinstance(module, NequIPNetwork)])


def _reference_set(info: PotentialInfo) -> list[Graph]:
    graph = reference_graph(info, torch.float64)
    return [replace(graph, edge_vectors=graph.edge_vectors * stretch) for stretch in _STRETCHES]


def _forces(potential: Potential, graph: Graph) -> torch.Tensor:
    _, gradients = energies_and_gradients(potential, graph)
    return forces(gradients, graph.edge_index, graph.n_atoms)
