"""The loss: weighted mean squared errors of energy per atom, forces and strain derivative per atom."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mlcalc.potentials.base import Potential
from mlcalc.potentials.derivatives import energies_and_gradients, forces, strain_derivative
from mlcalc.training.dataset import Batch
from mlcalc.training.settings import LossSettings


@dataclass(frozen=True)
class Weights:
    """Weights of the three terms at one moment of training; units as in ``LossSettings``."""

    energy: float
    forces: float
    stress: float


def weights_at(settings: LossSettings, progress: float) -> Weights:
    """Interpolate geometrically between the weights at the start (progress 0) and at the end (1)."""

    def at(pair: tuple[float, float]) -> float:
        start, end = pair
        if start <= 0.0 or end <= 0.0:
            return start + (end - start) * progress
        return float(start ** (1.0 - progress) * end**progress)

    return Weights(at(settings.energy), at(settings.forces), at(settings.stress))


@dataclass(frozen=True)
class Errors:
    """Residuals of a batch: energy per atom (B,) eV, forces (N, 3) eV/Å, ∂E/∂ε per atom (S, 3, 3) eV of S labelled."""

    energy: Tensor
    forces: Tensor
    stress: Tensor

    def loss(self, weights: Weights) -> Tensor:
        """Return the weighted sum of mean squares; a term without labels counts zero."""
        total = weights.energy * self.energy.square().mean() + weights.forces * self.forces.square().mean()
        if self.stress.shape[0]:
            total = total + weights.stress * self.stress.square().mean()
        return total


def residuals(
    potential: Potential, batch: Batch, create_graph: bool = False, stress_offset: Tensor | None = None
) -> Errors:
    """Return prediction minus label.

    Args:
        potential: the potential, in the batch's dtype.
        batch: structures with labels.
        create_graph: keep what a gradient with respect to the weights needs.
        stress_offset: () constant isotropic stress in eV/Å³ that the labels carry on top of the energies' derivative.
    """
    graph = batch.graph
    atomic, gradients = energies_and_gradients(potential, graph, create_graph=create_graph)
    energies = torch.zeros(graph.n_structures, dtype=torch.float64).index_add(0, graph.batch, atomic.double())
    strain = strain_derivative(gradients, graph)
    if stress_offset is not None:
        eye = torch.eye(3, dtype=strain.dtype)
        strain = strain + (stress_offset * batch.volumes)[:, None, None] * eye
    per_atom = (strain - batch.strain) / batch.sizes[:, None, None]
    return Errors(
        energy=((energies - batch.energies) / batch.sizes.double()).to(strain.dtype),
        forces=forces(gradients, graph.edge_index, graph.n_atoms) - batch.forces,
        stress=per_atom[batch.has_stress],
    )
