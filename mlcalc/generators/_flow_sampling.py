"""Drawing from the networks of the generator `flow`: elements one atom after another, then geometry along a flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mlcalc.errors import GeneratorError
from mlcalc.generators._flow_data import Scales
from mlcalc.generators._flow_network import CompositionNetwork, GeometryNetwork
from mlcalc.generators.base import Constraints

# Lattices further out than this many spreads of the data are not what any crystal has.
_FURTHEST = 5.0


@dataclass(frozen=True)
class Schedule:
    """How a flow is followed.

    Attributes:
        steps: of Euler's method.
        slope: coordinates move 1 + slope × time as fast as the network says, but never past where it sees the end:
            late in time positions settle faster than straight paths would have them (FlowMM, Miller et al., ICML 2024,
            calls it anti-annealing).
        guidance: of conditions; 1 follows the network that is told them.
    """

    steps: int = 30
    slope: float = 10.0
    guidance: float = 1.0


class CompositionSampler:
    """Draws which elements a crystal has.

    The elements that must be present come first, one atom each: a network that has learnt to go on from any known part
    may start from a known part. Those that are not allowed are masked.

    Args:
        network: of elements.
        scales: knows how many atoms crystals have.
        elements: symbols.
        constraints: to be met by all crystals.
        temperature: below 1 what is likely becomes likelier.

    Raises:
        GeneratorError: an element is unknown, or nothing fits the range of atoms.
    """

    def __init__(
        self,
        network: CompositionNetwork,
        scales: Scales,
        elements: Sequence[str],
        constraints: Constraints,
        temperature: float = 1.0,
    ) -> None:
        self.network, self.elements, self.temperature = network, elements, temperature
        unknown = [e for e in constraints.species() if e not in elements]
        if unknown:
            raise GeneratorError(f"{unknown[0]} is none of the elements the model knows: {' '.join(sorted(elements))}")
        low, high = constraints.n_atoms
        self.fixed: dict[int, np.ndarray] = {}
        self.first = np.zeros(len(elements))
        self.allowed = np.ones(len(elements), bool)
        if constraints.formula:
            at = [elements.index(e) for e in constraints.species()]
            for counts in constraints.compositions():
                self.fixed[sum(counts)] = np.bincount(np.repeat(at, counts), minlength=len(elements))
        elif constraints.species():
            self.allowed[:] = False
            self.allowed[[elements.index(e) for e in constraints.species()]] = True
            self.first[[elements.index(e) for e in constraints.elements]] = 1
        least = max(low, int(self.first.sum()))
        sizes = [n for n in range(least, high + 1) if not self.fixed or n in self.fixed]
        if not sizes:
            raise GeneratorError(
                f"no cell of {low} to {high} atoms holds one atom of each of {len(constraints.elements)} elements; "
                "widen n_atoms"
            )
        share = np.array([scales.sizes[n - 1] if n <= len(scales.sizes) else 0.0 for n in sizes])
        # No crystal that the networks know is of these sizes: they must guess.
        self.sizes, self.share = sizes, (share if share.sum() > 0 else np.ones(len(sizes)))

    @torch.no_grad()
    def draw(
        self, conditions: Tensor, without: Tensor | None, guidance: float, rngs: Sequence[np.random.Generator]
    ) -> list[np.ndarray]:
        """Return how many atoms of each element there are, (K,) a crystal.

        Args:
            conditions: (B, C) what the network is told.
            without: (B, C) what it is told without targets; None without guidance.
            guidance: of logits.
            rngs: one a crystal.
        """
        totals = np.array([rng.choice(self.sizes, p=self.share / self.share.sum()) for rng in rngs])
        if self.fixed:
            return [self.fixed[n] for n in totals.tolist()]
        counts = np.tile(self.first, (len(rngs), 1))
        while (going := np.flatnonzero(counts.sum(axis=1) < totals)).size:
            so_far, n = torch.from_numpy(counts[going]).float(), torch.from_numpy(totals[going])
            logits = self.network(so_far, n, conditions[going])
            if without is not None:
                plain = self.network(so_far, n, without[going])
                logits = plain + guidance * (logits - plain)
            logits = (logits / self.temperature).masked_fill(~torch.from_numpy(self.allowed), -torch.inf)
            sums = logits.double().softmax(dim=1).cumsum(dim=1).numpy()
            for row, k in enumerate(going.tolist()):
                at = int(np.searchsorted(sums[row], rngs[k].random() * sums[row, -1], side="right"))
                counts[k, min(at, int(np.flatnonzero(self.allowed)[-1]))] += 1
        return [c.astype(int) for c in counts]


@dataclass(frozen=True)
class Drawn:
    """A crystal as numbers.

    Attributes:
        species: (N,) indices of elements, ascending.
        coordinates: (N, 3) fractional.
        shape: (6,) of the lattice.
    """

    species: np.ndarray
    coordinates: np.ndarray
    shape: np.ndarray


class GeometrySampler:
    """Moves noise to crystals of given elements.

    Args:
        network: of velocities.
        scales: of the data.
        schedule: how the flow is followed.
        volume_per_atom: range that holds for every crystal, Å³.
    """

    def __init__(
        self,
        network: GeometryNetwork,
        scales: Scales,
        schedule: Schedule,
        volume_per_atom: tuple[float, float] | None = None,
    ) -> None:
        self.network, self.scales, self.schedule = network, scales, schedule
        self.volumes = None if volume_per_atom is None else tuple(np.log(volume_per_atom))

    @torch.no_grad()
    def draw(
        self,
        counts: Sequence[np.ndarray],
        conditions: Tensor,
        without: Tensor | None,
        rngs: Sequence[np.random.Generator],
    ) -> list[Drawn]:
        """Return a crystal for each composition.

        Args:
            counts: (K,) atoms of each element.
            conditions, without: as in ``CompositionSampler.draw``.
            rngs: one a crystal.
        """
        sizes = [int(c.sum()) for c in counts]
        b, n = len(counts), max(sizes)
        species, atom = np.zeros((b, n), np.int64), np.zeros((b, n), bool)
        start = np.zeros((b, n, 3), np.float32)
        for k, (c, m, rng) in enumerate(zip(counts, sizes, rngs, strict=True)):
            species[k, :m], atom[k, :m] = np.repeat(np.arange(len(c)), c), True
            start[k, :m] = rng.random((m, 3))
        lattice = torch.from_numpy(np.stack([rng.standard_normal(6) for rng in rngs])).float()
        kinds, real, coordinates = torch.from_numpy(species), torch.from_numpy(atom), torch.from_numpy(start)
        low, high = self._bounds(kinds, real)
        step = 1.0 / self.schedule.steps
        for k in range(self.schedule.steps):
            now = k * step
            velocity, change = self._velocity(kinds, real, coordinates, lattice, now, conditions, without)
            faster = min(1.0 + self.schedule.slope * now, (1.0 - now) / step)
            coordinates = coordinates + step * faster * velocity
            # Where the lattice is heading for, kept within bounds.
            end = torch.minimum(torch.maximum(lattice + (1.0 - now) * change, low), high)
            lattice = lattice + step / (1.0 - now) * (end - lattice)
        shape = self.scales.shape(lattice, kinds, real).double().numpy()
        if self.volumes is not None:
            shape[:, 0] = np.clip(shape[:, 0], *self.volumes)  # the last digits
        found = coordinates.double().numpy() % 1.0
        return [Drawn(species[k, :m], found[k, :m], shape[k]) for k, m in enumerate(sizes)]

    def _bounds(self, species: Tensor, atom: Tensor) -> tuple[Tensor, Tensor]:
        """Return the smallest and largest lattices allowed, (B, 6)."""
        ends = [torch.full((len(species), 6), sign * _FURTHEST) for sign in (-1, 1)]
        if self.volumes is not None:
            for end, volume in zip(ends, self.volumes, strict=True):
                shape = torch.zeros(len(species), 6)
                shape[:, 0] = volume
                end[:, 0] = self.scales.scaled(shape, species, atom)[:, 0]
        return ends[0], ends[1]

    def _velocity(
        self,
        species: Tensor,
        atom: Tensor,
        coordinates: Tensor,
        lattice: Tensor,
        now: float,
        conditions: Tensor,
        without: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        shape = self.scales.shape(lattice, species, atom)
        time = torch.full((len(species),), now)
        arguments = (species, atom, coordinates, lattice, shape, time)
        velocity, change = self.network(*arguments, conditions)
        if without is not None:
            plain, plain_change = self.network(*arguments, without)
            velocity = plain + self.schedule.guidance * (velocity - plain)
            change = plain_change + self.schedule.guidance * (change - plain_change)
        return velocity, change
