"""What training makes small."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mlcalc.generators._flow_data import FlowBatch, FlowCrystal, Scales
from mlcalc.generators._flow_network import CompositionNetwork, GeometryNetwork
from mlcalc.generators._flow_paths import draw_path


def geometry_losses(
    network: GeometryNetwork,
    crystals: list[FlowCrystal],
    batch: FlowBatch,
    conditions: Tensor,
    scales: Scales,
    rng: np.random.Generator,
) -> Tensor:
    """Return squared errors of velocities, (B, 2): of coordinates, in units of what a network at rest has; of lattices.

    Args:
        network: of velocities.
        crystals: those of the batch.
        batch: padded.
        conditions: (B, C).
        scales: of the data.
        rng: draws noise and times.
    """
    path = draw_path(crystals, batch, scales, rng)
    shape = scales.shape(path.lattice, batch.species, batch.atom)
    velocity, lattice = network(batch.species, batch.atom, path.coordinates, path.lattice, shape, path.time, conditions)
    real = batch.atom.to(velocity)
    size = real.sum(dim=1)
    errors = ((velocity - path.velocity) ** 2).sum(dim=-1) * real
    # Uniform on a torus: each of three differences has the variance 1/12.
    coordinates = errors.sum(dim=1) / size * 4.0
    return torch.stack([coordinates, ((lattice - path.lattice_velocity) ** 2).mean(dim=1)], dim=1)


def species_loss(
    network: CompositionNetwork, batch: FlowBatch, conditions: Tensor, n_elements: int, rng: np.random.Generator
) -> Tensor:
    """Return an unbiased estimate of the nats per crystal of its elements, (B,), atoms unmasked in random order.

    This is the bound of masked discrete flows (Shi et al., NeurIPS 2024): with k of N atoms known, drawn uniformly, the
    mean over unknown atoms of −log p, times N.
    """
    b, n = batch.species.shape
    real = batch.atom.numpy()
    size = real.sum(axis=1)
    known_number = (rng.random(b) * size).astype(int)
    rank = np.where(real, rng.random((b, n)), 2.0).argsort(axis=1).argsort(axis=1)
    known = torch.from_numpy((rank < known_number[:, None]) & real).float()
    hidden = batch.atom.float() - known
    counts = torch.zeros(b, n_elements).scatter_add_(1, batch.species, known)
    target = torch.zeros(b, n_elements).scatter_add_(1, batch.species, hidden)
    logits = network(counts, torch.from_numpy(size), conditions)
    nats = -(target * logits.log_softmax(dim=1)).sum(dim=1) / target.sum(dim=1)
    return nats * torch.from_numpy(size).float()
