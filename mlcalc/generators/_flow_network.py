"""The two networks of the generator `flow`: which element comes next, and where atoms and cell move.

Dense padded tensors, (B, N) atoms and (B, N, N) pairs; no graph library. Translations of all atoms and the order of the
atoms change nothing, since atoms see one another by differences of fractional coordinates alone, which are periodic
(CSPNet of DiffCSP, Jiao et al., NeurIPS 2023, has these symmetries too); rotations change nothing, since a lattice is
six invariant numbers (``_flow_lattice.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlcalc.generators._flow_elements import ElementEmbedding
from mlcalc.generators._flow_lattice import to_cells

_TIMES, _RADII = 12, 16


@dataclass(frozen=True)
class FlowNetworkSettings:
    """Size of the networks.

    Attributes:
        width: of an atom's features.
        messages: width of what a pair of atoms says.
        layers: of the geometry network.
        feedforward: width inside each layer.
        frequencies: of the Fourier series of differences of fractional coordinates.
        composition: width of the network of elements.
    """

    width: int = 128
    messages: int = 96
    layers: int = 5
    feedforward: int = 256
    frequencies: int = 8
    composition: int = 192


class CompositionNetwork(nn.Module):
    """Which element the next atom is, given how many atoms of each element there are so far and how many will be.

    Args:
        elements: symbols.
        n_conditions: numbers that it is told.
        settings: its size.
    """

    def __init__(self, elements: Sequence[str], n_conditions: int, settings: FlowNetworkSettings):
        super().__init__()
        width = settings.composition
        self.embedding = ElementEmbedding(elements, width)
        self.presence = ElementEmbedding(elements, width)
        self.numbers = nn.Linear(4 + n_conditions, width)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(3)
        )
        self.norm, self.out = nn.LayerNorm(width), ElementEmbedding(elements, width)
        self.bias = nn.Parameter(torch.zeros(len(elements)))

    def forward(self, counts: Tensor, n_atoms: Tensor, conditions: Tensor) -> Tensor:
        """Return logits (B, K).

        Args:
            counts: (B, K) atoms of each element so far.
            n_atoms: (B,) atoms that there will be.
            conditions: (B, C).
        """
        so_far, total = counts.sum(dim=1), n_atoms.to(counts)
        numbers = torch.stack([so_far / 10, total / 10, so_far / total, 1 / total], dim=1)
        x = self.numbers(torch.cat([numbers, conditions], dim=1))
        x = x + counts / total[:, None] * 4 @ self.embedding() + (counts > 0).to(counts) @ self.presence()
        for layer in self.layers:
            x = x + layer(x)
        logits: Tensor = self.norm(x) @ self.out().T / math.sqrt(x.shape[1]) + self.bias
        return logits


class _Layer(nn.Module):
    """Messages between all atoms of a crystal, then a step of each atom by itself."""

    def __init__(self, settings: FlowNetworkSettings, pair_features: int):
        super().__init__()
        width, messages = settings.width, settings.messages
        self.norm, self.norm_own = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_pairs = nn.Linear(width, 5 * messages)
        self.pair = nn.Linear(pair_features, messages, bias=False)
        with torch.no_grad():
            self.pair.weight.mul_(2.0)  # sines are small beside what norms leave
        self.from_pairs = nn.Linear(messages, width)
        self.own = nn.Sequential(
            nn.Linear(width, settings.feedforward), nn.SiLU(), nn.Linear(settings.feedforward, width)
        )
        self.globals = nn.Linear(width, 2 * width)

    def forward(self, x: Tensor, pairs: Tensor, weight: Tensor, whole: Tensor) -> Tensor:
        """Return atoms (B, N, W) after the layer; ``weight`` (B, N, N) averages over partners, ``whole`` is (B, W)."""
        shift, shift_own = self.globals(whole)[:, None].chunk(2, dim=-1)
        centre, partner, stretch, other, factor = self.to_pairs(self.norm(x) + shift).chunk(5, dim=-1)
        # What the elements are decides which waves of the difference matter: hence products, not sums alone, with which
        # training is far slower.
        waves = self.pair(pairs) * (1 + stretch[:, :, None] + other[:, None])
        message = functional.silu(waves + centre[:, :, None] + partner[:, None]) * (1 + factor)[:, None]
        x = x + self.from_pairs(torch.einsum("bij,bijm->bim", weight, message))
        moved: Tensor = x + self.own(self.norm_own(x) + shift_own)
        return moved


class GeometryNetwork(nn.Module):
    """Velocities of fractional coordinates and of the lattice.

    Args:
        elements: symbols.
        n_conditions: numbers that it is told.
        settings: its size.
    """

    def __init__(self, elements: Sequence[str], n_conditions: int, settings: FlowNetworkSettings):
        super().__init__()
        width = settings.width
        self.register_buffer("shifts", torch.tensor(list(product((-1.0, 0.0, 1.0), repeat=3))), persistent=False)
        self.frequencies = settings.frequencies
        self.embedding = ElementEmbedding(elements, width)
        self.whole = nn.Sequential(
            nn.Linear(2 * _TIMES + 1 + 6 + 2 + n_conditions, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.layers = nn.ModuleList(_Layer(settings, 6 * settings.frequencies + _RADII) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(width)
        ends = nn.Linear(width, 3, bias=False), nn.Linear(width, 6)
        for end in ends:
            nn.init.zeros_(end.weight)  # at rest at first
        nn.init.zeros_(ends[1].bias)
        self.coordinates = nn.Sequential(nn.Linear(width, width), nn.SiLU(), ends[0])
        self.lattice = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), ends[1])

    shifts: Tensor

    def forward(
        self,
        species: Tensor,
        atom: Tensor,
        coordinates: Tensor,
        lattice: Tensor,
        shape: Tensor,
        time: Tensor,
        conditions: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return velocities of coordinates (B, N, 3), of mean zero over the atoms of a crystal, and lattices (B, 6).

        Args:
            species: (B, N) indices of elements, anything where there is no atom.
            atom: (B, N) true where there is an atom.
            coordinates: (B, N, 3) fractional.
            lattice: (B, 6) in units of the data's spread.
            shape: (B, 6) the same in the units of ``_flow_lattice.py``.
            time: (B,) from 0 (noise) to 1.
            conditions: (B, C).
        """
        real = atom.to(coordinates)
        n_atoms = real.sum(dim=1)
        angle = time[:, None] * math.pi * torch.arange(1, _TIMES + 1).to(time)
        size = torch.stack([torch.log(n_atoms) - 2.0, 2.0 / n_atoms], dim=1)
        whole = self.whole(
            torch.cat([time[:, None], torch.sin(angle), torch.cos(angle), lattice, size, conditions], dim=1)
        )
        weight = real[:, None, :] / n_atoms[:, None, None]
        pairs = self._pairs(coordinates, to_cells(shape, n_atoms), n_atoms)
        x = self.embedding()[species] + whole[:, None]
        for layer in self.layers:
            x = layer(x, pairs, weight.expand(-1, x.shape[1], -1), whole)
        x = self.norm(x)
        mean = torch.einsum("bn,bnw->bw", real / n_atoms[:, None], x)
        velocity = self.coordinates(x) * real[..., None]
        velocity = (velocity - velocity.sum(dim=1, keepdim=True) / n_atoms[:, None, None]) * real[..., None]
        return velocity, self.lattice(torch.cat([mean, whole], dim=1))

    def _pairs(self, coordinates: Tensor, cells: Tensor, n_atoms: Tensor) -> Tensor:
        """Return (B, N, N, F): Fourier series of the difference, and the distance of the nearest image."""
        difference = coordinates[:, None, :] - coordinates[:, :, None]
        difference = difference - difference.round()
        angle = 2 * math.pi * difference
        sine, cosine = torch.sin(angle), torch.cos(angle)
        # Multiples of the angle by the addition theorem: far cheaper than calling sin for each of them.
        series, s, c = [sine, cosine], sine, cosine
        for _ in range(self.frequencies - 1):
            s, c = s * cosine + c * sine, c * cosine - s * sine
            series += [s, c]
        metric = cells @ cells.transpose(1, 2) / (cells.det().abs() / n_atoms)[:, None, None] ** (2 / 3)
        moved = torch.einsum("bijx,bxy->bijy", difference, metric)
        own = (moved * difference).sum(dim=-1, keepdim=True)
        image = torch.einsum("sx,bxy,sy->bs", self.shifts, metric, self.shifts)[:, None, None]
        squares = own + 2 * moved @ self.shifts.T + image
        # An atom is no neighbour of itself, but its images are.
        itself = torch.eye(difference.shape[1], dtype=torch.bool)[None, :, :, None] & (self.shifts == 0).all(dim=1)
        nearest = squares.masked_fill(itself, torch.inf).amin(dim=-1).clamp(min=1e-6).sqrt()
        centres = torch.linspace(0.0, 2.4, _RADII).to(nearest)
        radial = torch.exp(-(((nearest[..., None] - centres) / 0.16) ** 2) / 2)
        return torch.cat([*series, radial], dim=-1)
