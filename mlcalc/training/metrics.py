"""Errors of a potential on labelled structures, in the units people quote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase.units import GPa
from numpy.typing import NDArray

from mlcalc.graphs import build_graph
from mlcalc.potentials.base import Potential
from mlcalc.potentials.derivatives import energies_and_gradients, forces, strain_derivative
from mlcalc.training.dataset import Labelled


@dataclass(frozen=True)
class Predictions:
    """Predictions beside labels, structure by structure (eV, eV/Å, eV/Å³; extrapolation grades if there are any)."""

    data: tuple[Labelled, ...]
    energies: NDArray[np.float64]
    forces: tuple[NDArray[np.float64], ...]
    stresses: tuple[NDArray[np.float64] | None, ...]
    grades: tuple[NDArray[np.float64], ...] | None = None


def predict(potential: Potential, data: Sequence[Labelled]) -> Predictions:
    """Evaluate energies, forces, stresses of cells with three lattice vectors, and grades where there are any."""
    energies, force_list, stresses, grades = [], [], [], []
    info = potential.info
    wanted = [name for name in info.outputs if name == "grade"]
    for item in data:
        graph = build_graph(item.atoms, info.elements, info.cutoff, needs=info.needs, dtype=potential.dtype)
        outputs = dict.fromkeys(wanted, torch.empty(0))
        atomic, gradients = energies_and_gradients(potential, graph, outputs=outputs)
        grades += [outputs[name].double().numpy() for name in wanted]
        energies.append(float(atomic.double().sum()))
        force_list.append(forces(gradients, graph.edge_index, graph.n_atoms).double().numpy())
        volume = item.atoms.cell.volume if item.atoms.cell.rank == 3 else 0.0
        strain = strain_derivative(gradients, graph)[0].double().numpy()
        stresses.append(strain / volume if volume else None)
    found = tuple(grades) if wanted else None
    return Predictions(tuple(data), np.array(energies), tuple(force_list), tuple(stresses), found)


def _rms(x: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(np.square(x))))


def errors(predictions: Predictions, indices: Sequence[int] | None = None) -> dict[str, Any]:
    """Return error figures of the chosen structures (default: all).

    Keys: ``energy_rmse_mev_per_atom``, ``energy_mae_mev_per_atom``, ``forces_rmse_ev_per_ang``,
    ``forces_mae_ev_per_ang``, ``stress_rmse_gpa`` (over the nine components; None without labels), ``n_structures``,
    ``n_atoms``.
    """
    chosen = range(len(predictions.data)) if indices is None else indices
    de = np.array(
        [(predictions.energies[k] - predictions.data[k].energy) / len(predictions.data[k].atoms) for k in chosen]
    )
    df = np.concatenate([(predictions.forces[k] - predictions.data[k].forces).ravel() for k in chosen])
    ds = []
    for k in chosen:
        label, value = predictions.data[k].stress, predictions.stresses[k]
        if label is not None and value is not None:
            ds.append((value - label).ravel() / GPa)
    return {
        "n_structures": len(de),
        "n_atoms": len(df) // 3,
        "energy_rmse_mev_per_atom": _rms(de) * 1e3,
        "energy_mae_mev_per_atom": float(np.abs(de).mean()) * 1e3,
        "forces_rmse_ev_per_ang": _rms(df),
        "forces_mae_ev_per_ang": float(np.abs(df).mean()),
        "stress_rmse_gpa": _rms(np.concatenate(ds)) if ds else None,
    }


def errors_by_group(predictions: Predictions) -> dict[str, Any]:
    """Return ``{"overall": …, "groups": {name: …}}`` with the figures of ``errors``."""
    groups: dict[str, list[int]] = {}
    for k, item in enumerate(predictions.data):
        groups.setdefault(item.group, []).append(k)
    return {
        "overall": errors(predictions),
        "groups": {name: errors(predictions, members) for name, members in sorted(groups.items())},
    }
