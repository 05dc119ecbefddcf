"""The network of the stability score: a small graph network on nearest neighbours, one number a crystal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase.data import atomic_numbers, covalent_radii
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from mlcalc.crystals.charges import electronegativity
from mlcalc.discovery._stability_graph import Crystals

# Basis of distances: in sums of covalent radii, and in Å.
_RELATIVE, _ABSOLUTE = (0.6, 2.6), (1.0, 6.0)
# How steeply neighbours lose weight towards the last one.
_POWER = 6


@dataclass(frozen=True)
class StabilityNetworkSettings:
    """Sizes.

    Attributes:
        width: features of an atom.
        layers: rounds of messages.
        neighbours: of an atom; the last has no weight, so that which of several equally distant ones it is makes no
            difference.
        basis: functions of each of two measures of distance.
        hidden: features of a crystal.
        dropout: of these, in training.
    """

    width: int = 64
    layers: int = 3
    neighbours: int = 16
    basis: int = 16
    hidden: int = 128
    dropout: float = 0.1


class StabilityNetwork(nn.Module):
    """Formation energy of a crystal from elements and distances to nearest neighbours.

    Messages are gated as in CGCNN (Xie and Grossman, Phys. Rev. Lett. 120, 145301 (2018), eq. 5), with neighbours
    weighted by 1 − (d/d_last)⁶ instead of a fixed number of them, so that nothing depends on the order of atoms; a
    crystal is the mean over its atoms beside mean and spread of its elements' features. Rotations, translations and
    supercells change nothing.

    Args:
        elements: symbols, in the order of species.
        settings: sizes.
    """

    radii: Tensor
    descriptors: Tensor

    def __init__(self, elements: Sequence[str], settings: StabilityNetworkSettings) -> None:
        super().__init__()
        self.elements, self.settings = tuple(elements), settings
        width, table = settings.width, element_table(elements)
        self.register_buffer("radii", torch.tensor([covalent_radii[atomic_numbers[e]] for e in elements]).float())
        self.register_buffer("descriptors", torch.from_numpy(table))
        self.embedding = nn.Embedding(len(elements), width)
        self.described = nn.Linear(table.shape[1], width)
        self.layers = nn.ModuleList(_Messages(width, 2 * settings.basis) for _ in range(settings.layers))
        self.readout = nn.Sequential(
            nn.Linear(3 * width, settings.hidden),
            nn.SiLU(),
            nn.Dropout(settings.dropout),
            nn.Linear(settings.hidden, settings.hidden),
            nn.SiLU(),
            nn.Linear(settings.hidden, 1),
        )

    def forward(self, crystals: Crystals) -> Tensor:
        """Return (crystals,) formation energies, eV per atom."""
        species, near = crystals.species, crystals.neighbours
        first = self.embedding(species) + self.described(self.descriptors[species])
        sums = self.radii[species][:, None] + self.radii[species[near]]
        basis = self.settings.basis
        distances = crystals.distances
        edges = torch.cat(
            [_gaussians(distances / sums, *_RELATIVE, basis), _gaussians(distances, *_ABSOLUTE, basis)], 2
        )
        weights = 1.0 - (distances / distances[:, -1:]) ** _POWER
        x = first
        for layer in self.layers:
            x = layer(x, near, edges, weights)
        mean = _mean(first, crystals)
        spread = (_mean(first * first, crystals) - mean * mean).clamp(min=0.0).add(1e-6).sqrt()
        out: Tensor = self.readout(torch.cat([_mean(x, crystals), mean, spread], dim=1))
        return out[:, 0]


class _Messages(nn.Module):
    """One round: what neighbours tell, gated, weighted and summed."""

    def __init__(self, width: int, edge: int) -> None:
        super().__init__()
        # The first map of CGCNN on (centre, neighbour, edge), its parts apart: those of atoms once an atom.
        self.centre, self.neighbour = nn.Linear(width, 2 * width), nn.Linear(width, 2 * width, bias=False)
        self.edge = nn.Linear(edge, 2 * width, bias=False)
        self.norm, self.update = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: Tensor, near: Tensor, edges: Tensor, weights: Tensor) -> Tensor:
        both = self.centre(x)[:, None] + self.neighbour(x)[near] + self.edge(edges)
        gate, core = both.chunk(2, dim=2)
        told = (torch.sigmoid(gate) * softplus(core) * weights[:, :, None]).sum(dim=1)
        out: Tensor = x + self.update(silu(self.norm(told)))
        return out


def _gaussians(values: Tensor, low: float, high: float, count: int) -> Tensor:
    centres = torch.linspace(low, high, count, dtype=values.dtype)
    width = (high - low) / (count - 1)
    return torch.exp(-(((values.clamp(low, high)[:, :, None] - centres) / width) ** 2))


def _mean(values: Tensor, crystals: Crystals) -> Tensor:
    sums = torch.zeros(crystals.size, values.shape[1], dtype=values.dtype).index_add(0, crystals.crystal, values)
    counts = torch.bincount(crystals.crystal, minlength=crystals.size)
    return sums / counts[:, None]


def element_table(elements: Sequence[str]) -> np.ndarray:
    """Return (elements, 5) numbers about elements, around zero: where they stand in the table, and how they bind."""
    from pymatgen.core import Element

    rows = []
    for symbol in elements:
        known = Element(symbol)
        pauling = np.nan_to_num(electronegativity(symbol), nan=2.0)
        radius = covalent_radii[atomic_numbers[symbol]]
        inner = known.block == "f"
        rows.append([known.group / 9 - 1, known.row / 3.5 - 1, pauling / 2 - 1, radius / 1.4 - 1, float(inner)])
    return np.array(rows, dtype=np.float32)
