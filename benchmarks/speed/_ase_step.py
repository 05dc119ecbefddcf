"""One velocity Verlet step in ASE, whole and in parts."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from ase.units import fs

from mlcalc import MLCalculator
from mlcalc.graphs import VerletList, species_indices
from mlcalc.graphs.build import assemble
from mlcalc.potentials.base import Potential
from mlcalc.potentials.derivatives import energies_and_gradients, forces

WARM_UP = 3


def ase_step(
    atoms: Atoms, potential: Potential | Path, dtype: str, steps: int, repeats: int, skin: float
) -> dict[str, float]:
    """Return the times of ``StepCost``, ms per atom, ``edges_per_atom`` and ``cpu_share``.

    After each step of the dynamics its parts are run again on the new positions, by themselves.
    """
    atoms = atoms.copy()
    atoms.calc = calculator = MLCalculator(potential, dtype=dtype, skin=skin)
    MaxwellBoltzmannDistribution(atoms, temperature_K=300.0, rng=np.random.default_rng(0))
    dynamics = VelocityVerlet(atoms, timestep=1.0 * fs)
    dynamics.run(WARM_UP)
    medians: dict[str, list[float]] = defaultdict(list)
    for _ in range(repeats):
        times: dict[str, float] = defaultdict(float)
        verlet = VerletList(calculator.info.cutoff, skin)
        start = time.perf_counter()
        verlet.update(atoms.positions, atoms.cell.array, atoms.pbc)
        medians["rebuild_ms"].append(1e3 * (time.perf_counter() - start) / len(atoms))
        wall, processor = time.perf_counter(), time.process_time()
        for _ in range(steps):
            start = time.perf_counter()
            dynamics.run(1)
            times["total_ms"] += time.perf_counter() - start
            edges = _parts(atoms, calculator, verlet, times)
        medians["cpu_share"].append((time.process_time() - processor) / (time.perf_counter() - wall))
        for name, value in times.items():
            medians[name].append(1e3 * value / (steps * len(atoms)))
        medians["edges_per_atom"].append(edges / len(atoms))
    result = {name: float(np.median(values)) for name, values in medians.items()}
    result["rest_ms"] = result["total_ms"] - sum(result[name] for name in ("list_ms", "edges_ms", "model_ms"))
    return result


def _parts(atoms: Atoms, calculator: MLCalculator, verlet: VerletList, times: dict[str, float]) -> int:
    clock = [time.perf_counter()]
    edge_index, vectors, shifts = verlet.update(atoms.positions, atoms.cell.array, atoms.pbc)
    clock.append(time.perf_counter())
    species = species_indices(atoms.numbers, calculator.info.elements)
    graph = assemble(species, edge_index, vectors, shifts, calculator.info.needs, torch.float64)
    graph = graph.to(dtype=calculator.potential.dtype)
    clock.append(time.perf_counter())
    energies, gradients = energies_and_gradients(calculator.potential, graph)
    energies.double().sum(), forces(gradients.double(), graph.edge_index, graph.n_atoms)
    clock.append(time.perf_counter())
    for name, spent in zip(("list_ms", "edges_ms", "model_ms"), np.diff(clock), strict=True):
        times[name] += float(spent)
    return edge_index.shape[1]
