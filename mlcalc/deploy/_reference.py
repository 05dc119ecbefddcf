"""The small structure inside every file of a potential, with the numbers the file must reproduce wherever loaded."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from ase.data import atomic_numbers, covalent_radii
from torch import Tensor

from mlcalc.graphs.graph import Graph, collate
from mlcalc.graphs.neighbors import neighbor_list
from mlcalc.graphs.tables import index_tables
from mlcalc.potentials.base import Potential, PotentialInfo
from mlcalc.potentials.derivatives import energies_and_gradients, forces, strain_derivative

QUANTITIES = {"energy": "eV/atom", "forces": "eV/Å", "virial": "eV", "grade": ""}
# What rounding may cost, relative to the larger of 1 and the size of the quantity. Within float32 different machines
# differ by a few times what this machine differs from float64, so the tolerance also scales with that, up to a cap.
_FLOOR = {torch.float64: 1e-8, torch.float32: 2e-6}
_MARGIN = 10.0
_CAP = {torch.float64: 1e-7, torch.float32: 1e-3}


@dataclass(frozen=True)
class Reference:
    """Edges of a small structure and what they must give.

    Attributes:
        species: (N,) indices into the potential's elements.
        edge_index: (2, E) centres and neighbours.
        edge_vectors: (E, 3) Å, exact in the file's dtype.
        energies: (N,) eV.
        forces: (N, 3) eV/Å.
        virial: (9,) eV, row-major, W = −Σ r ⊗ g.
        tolerance: ``{"energy": eV/atom, "forces": eV/Å, "virial": eV, "grade": –}``, largest allowed absolute
            difference.
        tables: index tables and inputs the potential needs, by name; usually none.
        grade: (N,) extrapolation grades; empty if the potential has none.
    """

    species: list[int]
    edge_index: list[list[int]]
    edge_vectors: list[list[float]]
    energies: list[float]
    forces: list[list[float]]
    virial: list[float]
    tolerance: dict[str, float]
    tables: dict[str, Any] = field(default_factory=dict)
    grade: list[float] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary; ``Reference(**…)`` reads it back."""
        return asdict(self)

    def graph(self, dtype: torch.dtype) -> Graph:
        """Return the structure as the graph of one structure."""
        edges = len(self.edge_vectors)
        return Graph(
            species=torch.tensor(self.species, dtype=torch.int64),
            edge_index=torch.tensor(self.edge_index, dtype=torch.int64).reshape(2, edges),
            edge_vectors=torch.tensor(self.edge_vectors, dtype=dtype).reshape(edges, 3),
            batch=torch.zeros(len(self.species), dtype=torch.int64),
            tables={name: _tensor(values, dtype) for name, values in self.tables.items()},
        )

    def deviations(self, potential: Potential, dtype: torch.dtype) -> dict[str, float]:
        """Return the largest absolute differences, by quantity; NaN counts as infinite."""
        results = _evaluate(potential, self.graph(dtype))
        kept = (self.energies, self.forces, self.virial, self.grade)
        expected = [torch.tensor(x, dtype=torch.float64) for x in kept]
        out = {}
        for name, got, wanted in zip(QUANTITIES, results, expected, strict=True):
            largest = float((got - wanted.reshape(got.shape)).abs().max()) if got.numel() else 0.0
            out[name] = largest if math.isfinite(largest) else math.inf
        return out

    def complaint(self, potential: Potential, dtype: torch.dtype) -> str:
        """Return what is out of tolerance, or an empty string if nothing is."""
        found = self.deviations(potential, dtype)
        return "; ".join(
            f"{name} off by {found[name]:.3g} {unit} (tolerance {self.tolerance[name]:.3g})".replace("  ", " ")
            for name, unit in QUANTITIES.items()
            if not found[name] <= self.tolerance.get(name, 0.0)
        )


def make_reference(potential: Potential, program: Potential, dtype: torch.dtype) -> Reference:
    """Return a reference: expected values from ``potential`` in float64, tolerances from what ``program`` gives.

    Args:
        potential: float64, with exactly the weights of ``program``.
        program: what the file becomes, of type ``dtype``.
        dtype: float32 or float64.

    Raises:
        ValueError: if the potential gives NaN or infinity on the reference, or the two differ by more than rounding.
    """
    graph = reference_graph(potential.info, dtype)
    values = energies, force, virial, grade = _evaluate(potential, graph.to(dtype=torch.float64))
    if not all(torch.isfinite(x).all() for x in values):
        raise ValueError("the potential gives NaN or infinity on its reference structure; it cannot be exported")
    draft: dict[str, Any] = {
        "species": graph.species.tolist(),
        "edge_index": graph.edge_index.tolist(),
        "edge_vectors": graph.edge_vectors.double().tolist(),
        "energies": energies.tolist(),
        "forces": force.tolist(),
        "virial": virial.reshape(9).tolist(),
        "tables": {name: value.tolist() for name, value in graph.tables.items()},
        "grade": grade.tolist(),
    }
    size = {
        name: max(1.0, float(x.abs().max()) if x.numel() else 0.0) for name, x in zip(QUANTITIES, values, strict=True)
    }
    found = Reference(**draft, tolerance={}).deviations(program, dtype)
    for name, unit in QUANTITIES.items():
        allowed = _CAP[dtype] / _MARGIN * size[name]
        if not found[name] <= allowed:
            advice = "; export it in float64" if dtype == torch.float32 else ""
            raise ValueError(
                f"the exported program differs from the potential: {name} by {found[name]:.3g} {unit}, more than the "
                f"{allowed:.3g} that rounding may cost; nothing written{advice}"
            )
    tolerance = {name: max(_FLOOR[dtype] * size[name], _MARGIN * found[name]) for name in QUANTITIES}
    return Reference(**draft, tolerance=tolerance)


def reference_graph(info: PotentialInfo, dtype: torch.dtype) -> Graph:
    """Return, as one graph, a shaken, sheared crystal and a lone atom for each set of elements.

    Nearest neighbours lie about a tenth beyond the sum of covalent radii, and not closer than the training data did.
    The same potential always gets the same structure.
    """
    rng = np.random.default_rng(20260101)
    sets = info.element_sets or (info.elements,)
    graphs = [_crystal([info.elements.index(symbol) for symbol in group], info, rng, dtype) for group in sets]
    joined = collate(graphs)
    inputs = {name: torch.zeros(1, dtype=dtype) for name in info.inputs}
    return Graph(
        joined.species,
        joined.edge_index,
        joined.edge_vectors,
        torch.zeros_like(joined.batch),
        1,
        {**joined.tables, **inputs},
    )


def _crystal(species: list[int], info: PotentialInfo, rng: np.random.Generator, dtype: torch.dtype) -> Graph:
    repeats = math.ceil(len(species) / 4)
    sites = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    fractional = np.concatenate([(sites + np.array([n, 0, 0])) / [repeats, 1, 1] for n in range(repeats)])
    kinds = rng.permutation([species[n % len(species)] for n in range(len(fractional))])
    radius = float(np.mean([covalent_radii[atomic_numbers[info.elements[s]]] for s in species]))
    spacing = max(2.2 * radius, 1.2 * info.min_distance)
    cell = math.sqrt(2.0) * spacing * (np.diag([repeats, 1.0, 1.0]) @ (np.eye(3) + rng.uniform(-0.04, 0.04, (3, 3))))
    positions = fractional @ cell + rng.uniform(-0.04, 0.04, (len(fractional), 3)) * spacing
    edge_index, shifts = neighbor_list(positions, cell, [True] * 3, info.cutoff)
    vectors = positions[edge_index[1]] + shifts @ cell - positions[edge_index[0]]
    atoms = np.append(kinds, species[0])  # the lone atom has no edges
    return Graph(
        species=torch.tensor(atoms, dtype=torch.int64),
        edge_index=torch.tensor(edge_index),
        edge_vectors=torch.tensor(vectors).to(dtype),
        batch=torch.zeros(len(atoms), dtype=torch.int64),
        tables=index_tables(edge_index, shifts, info.needs),
    )


def _tensor(values: Any, dtype: torch.dtype) -> Tensor:
    tensor = torch.tensor(values)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _evaluate(potential: Potential, graph: Graph) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return energies (N,), forces (N, 3), virial (3, 3) and grades (N,) or (0,), float64."""
    outputs = {name: torch.empty(0) for name in potential.info.outputs if name == "grade"}
    energies, gradients = energies_and_gradients(potential, graph, outputs=outputs)
    gradients = gradients.double()
    force = forces(gradients, graph.edge_index, graph.n_atoms)
    virial = -strain_derivative(gradients, graph.to(dtype=torch.float64))[0]
    return energies.detach().double(), force, virial, outputs.get("grade", torch.empty(0)).double()
