"""SchNet: continuous-filter convolutions (Schütt et al., J. Chem. Phys. 148, 241722 (2018)).

Kept from the paper: embeddings by element, filters generated from a Gaussian radial basis by two dense layers, shifted
softplus throughout, residual interaction blocks, an atom-wise readout. Different: neighbours within a cutoff instead of
all pairs, filters under a polynomial envelope so that energies are smooth where atoms enter and leave, and sums over
neighbours divided by the square root of their usual number.
"""

from __future__ import annotations

import math
from typing import Dict, Optional

import torch
from torch import Tensor, nn

from mlcalc.ops import exchange
from mlcalc.potentials._radial import envelope


def _shifted_softplus(x: Tensor) -> Tensor:
    """Return ln(½ eˣ + ½), which is 0 at 0 (paper, section II.A)."""
    return nn.functional.softplus(x) - math.log(2.0)


class _ShiftedSoftplus(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """Apply it to each number."""
        return _shifted_softplus(x)


class _Filters(nn.Module):
    """Radial filters W(r) (E, F) from Gaussians exp(−(r − μ_k)²/2Δ²) on a grid of spacing Δ (paper, eq. 10)."""

    def __init__(self, cutoff: float, n_radial: int, channels: int) -> None:
        super().__init__()
        self.n_radial = n_radial
        self.spacing = cutoff / (n_radial - 1)
        self.first = nn.Linear(n_radial, channels)
        self.second = nn.Linear(channels, channels)

    def forward(self, lengths: Tensor, envelopes: Tensor) -> Tensor:
        """Evaluate at lengths (E,), under envelopes (E,)."""
        centres = torch.arange(self.n_radial, dtype=lengths.dtype, device=lengths.device)
        basis = torch.exp(-0.5 * (lengths.unsqueeze(1) / self.spacing - centres) ** 2)
        hidden = _shifted_softplus(self.first(basis))
        return _shifted_softplus(self.second(hidden)) * envelopes.unsqueeze(1)


class _Interaction(nn.Module):
    """What one layer adds to an atom's features: dense, convolution with neighbours, dense, softplus, dense."""

    def __init__(self, cutoff: float, n_radial: int, channels: int, norm: float) -> None:
        super().__init__()
        self.norm = norm
        self.filters = _Filters(cutoff, n_radial, channels)
        self.before = nn.Linear(channels, channels, bias=False)
        self.after = nn.Sequential(nn.Linear(channels, channels), _ShiftedSoftplus(), nn.Linear(channels, channels))

    def forward(self, n: int, features: Tensor, edge_index: Tensor, lengths: Tensor, envelopes: Tensor) -> Tensor:
        """Return (n, F) from the features (N, F) of all atoms, the first ``n`` being centres."""
        messages = self.before(features)[edge_index[1]] * self.filters(lengths, envelopes)
        total = messages.new_zeros([n, messages.shape[1]]).index_add(0, edge_index[0], messages)
        return self.after(total * self.norm)


class SchNetNetwork(nn.Module):
    """Atomic energies (dimensionless) from continuous-filter convolutions.

    Args:
        n_elements: number of elements K.
        cutoff: Å.
        channels: features F per atom.
        layers: interaction blocks, at least 1.
        n_radial: Gaussians between 0 and the cutoff, at least 2.
        avg_neighbors: usual number of neighbours.

    Raises:
        ValueError: if there is no layer or a single Gaussian.
    """

    def __init__(
        self,
        n_elements: int,
        cutoff: float,
        channels: int = 64,
        layers: int = 3,
        n_radial: int = 32,
        avg_neighbors: float = 25.0,
    ) -> None:
        super().__init__()
        if layers < 1 or n_radial < 2:
            raise ValueError(f"SchNet needs at least 1 layer and 2 Gaussians, not {layers} and {n_radial}")
        self.layers = layers
        self.exchange_width = channels if layers > 1 else 0
        self.n_descriptors = channels
        self.cutoff = cutoff
        self.embedding = nn.Parameter(torch.randn(n_elements, channels))
        norm = 1.0 / math.sqrt(avg_neighbors)
        self.interactions = nn.ModuleList([_Interaction(cutoff, n_radial, channels, norm) for _ in range(layers)])
        self.readout = nn.Sequential(
            nn.Linear(channels, channels // 2), _ShiftedSoftplus(), nn.Linear(channels // 2, 1, bias=False)
        )

    def forward(
        self, species: Tensor, edge_index: Tensor, edge_vectors: Tensor, extra: Optional[Dict[str, Tensor]] = None
    ) -> Tensor:
        """Return dimensionless energies (N,), or of owned atoms only if told; see ``Potential.forward``."""
        n, n_all = species.shape[0], species.shape[0]
        if extra is not None and "owned" in extra:
            n = extra["owned"].shape[0]
        lengths = torch.linalg.norm(edge_vectors, dim=1)
        envelopes = envelope(lengths / self.cutoff)
        everyone = self.embedding[species]  # of ghosts too: their elements are known
        features = everyone[:n]
        for layer, interaction in enumerate(self.interactions):
            if layer > 0:
                everyone = features
                if n < n_all:
                    everyone = torch.cat([features, features.new_zeros([n_all - n, features.shape[1]])])
                everyone = exchange(everyone)
            features = features + interaction(n, everyone, edge_index, lengths, envelopes)
        if extra is not None and "descriptors" in extra:
            extra["descriptors"] = features.detach()
        return self.readout(features).squeeze(1)
