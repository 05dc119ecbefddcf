"""Straight paths from noise to crystals, on a torus for fractional coordinates (flow matching).

Lipman et al., ICLR 2023, for the idea; Chen and Lipman, ICLR 2024, on manifolds. Coordinates start uniform. Which
noisy atom becomes which atom of an element, and where the origin of the crystal lies, is of no consequence; both are
chosen so that atoms have a short way (an optimal assignment within each element), which makes paths straighter and
leaves the noise uniform.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mlcalc.generators._flow_data import FlowBatch, FlowCrystal, Scales


def wrapped(difference: np.ndarray) -> np.ndarray:
    """Return the shortest of the equivalent differences of fractional coordinates."""
    return difference - np.round(difference)


def displacements(
    crystal: FlowCrystal, start: np.ndarray, rng: np.random.Generator, origins: int = 12, rounds: int = 2
) -> np.ndarray:
    """Return where each noisy atom has to go, (N, 3), after assignment and without the motion of all together.

    Args:
        crystal: the goal.
        start: (N, 3) noisy coordinates, in the order of the crystal's species.
        rng: draws origins.
        origins: how many are tried.
        rounds: of assigning atoms and moving the origin in turn.
    """
    edges = np.flatnonzero(np.diff(crystal.species)) + 1
    groups = [g for g in np.split(np.arange(len(start)), edges) if len(g) > 1]
    goal = crystal.coordinates + _origin(crystal, start, rng.random((origins, 3)))
    for _ in range(rounds):
        for group in groups:
            away = wrapped(goal[group][None] - start[group][:, None])
            _, chosen = linear_sum_assignment((away * away).sum(axis=-1))
            goal[group] = goal[group][chosen]
        goal -= wrapped(goal - start).mean(axis=0)
    away = wrapped(goal - start)
    moved: np.ndarray = away - away.mean(axis=0)
    return moved


def _origin(crystal: FlowCrystal, start: np.ndarray, origins: np.ndarray) -> np.ndarray:
    """Return the best of several origins, (O, 3), after a few steps of each towards the nearest equal atoms."""
    other = np.where(crystal.species[:, None] == crystal.species[None], 0.0, 9.0)
    between = crystal.coordinates[None] - start[:, None]
    for _ in range(2):
        away = wrapped(between[None] + origins[:, None, None])
        chosen = ((away * away).sum(axis=-1) + other).argmin(axis=-1)
        origins = origins - np.take_along_axis(away, chosen[..., None, None], axis=2)[:, :, 0].mean(axis=1)
    away = wrapped(between[None] + origins[:, None, None])
    squares = (away * away).sum(axis=-1) + other
    best: np.ndarray = origins[(squares.min(axis=-1).sum(axis=-1) + squares.min(axis=-2).sum(axis=-1)).argmin()]
    return best


@dataclass(frozen=True)
class Path:
    """Where crystals are at some time, and which way they move.

    Attributes:
        time: (B,).
        coordinates, velocity: (B, N, 3); of mean zero.
        lattice, lattice_velocity: (B, 6), in units of the data's spread.
    """

    time: Tensor
    coordinates: Tensor
    velocity: Tensor
    lattice: Tensor
    lattice_velocity: Tensor


def draw_path(crystals: list[FlowCrystal], batch: FlowBatch, scales: Scales, rng: np.random.Generator) -> Path:
    """Draw noise and a time for each crystal of a batch."""
    b, n = batch.species.shape
    start, velocity = np.zeros((b, n, 3), np.float32), np.zeros((b, n, 3), np.float32)
    for k, crystal in enumerate(crystals):
        m = len(crystal.species)
        start[k, :m] = rng.random((m, 3))
        velocity[k, :m] = displacements(crystal, start[k, :m], rng)
    # Stratified: the times of a batch are spread evenly, which makes gradients less noisy.
    time = torch.from_numpy((rng.permutation(b) + rng.random(b)) / b).float()
    goal = scales.scaled(batch.shape, batch.species, batch.atom)
    noise = torch.from_numpy(rng.standard_normal((b, 6))).float()
    moved, away = torch.from_numpy(start), torch.from_numpy(velocity)
    return Path(
        time,
        moved + time[:, None, None] * away,
        away,
        noise + time[:, None] * (goal - noise),
        goal - noise,
    )
