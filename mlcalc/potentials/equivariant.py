"""E(3)-equivariant message passing on e3nn, with many-body products taken at atoms instead of edges.

Of the NequIP / MACE family (Batzner et al., Nat. Commun. 13, 2453 (2022); Batatia et al., NeurIPS 2022). Edges are many
and atoms few, so edges carry only a radial basis times spherical harmonics (and, after the first layer, one tensor
product with the sender's features); body order comes from two channel-wise products at the atom, up to
A ⊗ A ⊗ A per layer. Radial functions are linear in the basis, as in the atomic cluster expansion (Drautz 2019).
"""

import math
from typing import Dict, Optional

import torch
from torch import Tensor, nn

from mlcalc.ops import exchange  # noqa: F401  (registers mlcalc::exchange)
from mlcalc.potentials._angular import Constant, Mix, Product, SphericalHarmonics, components, coupling, paths
from mlcalc.potentials._radial import BesselBasis


def _bounded(features: Tensor) -> Tensor:
    """Divide by sqrt(1 + mean square over components and channels).

    Products grow with the cube of the density. Bounded features mean bounded network energies, so that no compressed
    structure can fall into a hole deeper than the repulsion beside it.
    """
    return features * torch.rsqrt(1.0 + features.square().mean(dim=[1, 2], keepdim=True))


class _BodyOrder(nn.Module):
    """A (N, M, C) to features up to A ⊗ A ⊗ A (N, (l_out+1)², D), scaled per species and degree."""

    degree: Tensor

    def __init__(self, n_elements: int, l_max: int, l_out: int, channels: int, channels_out: int) -> None:
        super().__init__()
        ones = [1] * (l_max + 1)
        self.other = Mix(ones, channels, channels)
        self.second = Product(l_max, l_max, l_max)
        self.mix_second = Mix([len(p) for p in paths(l_max, l_max, l_max)], channels, channels)
        self.third = Product(l_max, l_max, l_out)
        self.mix_third = Mix([len(p) for p in paths(l_max, l_max, l_out)], channels, channels_out)
        self.linear = Mix(ones[: l_out + 1], channels, channels_out)
        self.linear_second = Mix(ones[: l_out + 1], channels, channels_out)
        self.rows_out = components(l_out)
        self.species_scale = nn.Parameter(torch.ones(n_elements, l_max + 1, channels))
        degree = torch.tensor([l for l in range(l_max + 1) for _ in range(2 * l + 1)])  # noqa: E741
        self.register_buffer("degree", degree, False)

    def forward(self, a: Tensor, species: Tensor) -> Tensor:
        """Return the products' linear combination."""
        a = a * self.species_scale[species][:, self.degree]
        second = self.mix_second(self.second(a, self.other(a)))
        low = a.narrow(1, 0, self.rows_out)
        low_second = second.narrow(1, 0, self.rows_out)
        return self.linear(low) + self.linear_second(low_second) + self.mix_third(self.third(second, a))


class _FirstConvolution(nn.Module):
    """Density of neighbours, radial basis ⊗ harmonics, one per neighbour element, mixed to channels per degree."""

    def __init__(self, n_elements: int, l_max: int, n_radial: int, channels: int, norm: float) -> None:
        super().__init__()
        self.n_elements = n_elements
        self.norm = norm
        self.mix = Mix([n_elements] * (l_max + 1), n_radial, channels)

    def forward(self, n: int, species: Tensor, edge_index: Tensor, basis: Tensor, harmonics: Tensor) -> Tensor:
        """Return A (n, M, C) of the first ``n`` atoms."""
        k, m, r = self.n_elements, harmonics.shape[1], basis.shape[1]
        outer = harmonics.unsqueeze(2) * basis.unsqueeze(1)
        density = outer.new_zeros([n * k, m, r])
        row = edge_index[0] * k + species[edge_index[1]] if k > 1 else edge_index[0]
        density = density.index_add(0, row, outer) * self.norm
        if k > 1:  # (n, k, M, R) to rows ordered component, element
            density = density.reshape(n, k, m, r).transpose(1, 2).reshape(n, m * k, r)
        return self.mix(density)


class _Convolution(nn.Module):
    """Messages Σ_j R(r_ij) (h_j ⊗ Y(r̂_ij)), path and channel each with their own radial function."""

    expand: Tensor

    def __init__(self, l_in: int, l_max: int, n_radial: int, channels: int, norm: float) -> None:
        super().__init__()
        self.channels = channels
        self.norm = norm
        self.rows_in = components(l_in)
        table = coupling(l_in, l_max, l_max)  # (Q, M_in, M)
        self.rows = table.shape[0]
        self.coupling = Constant(table.reshape(-1, table.shape[2]).t())
        pairs = paths(l_in, l_max, l_max)
        self.radial = nn.Parameter(torch.randn(n_radial, sum(len(p) for p in pairs), channels) / math.sqrt(n_radial))
        index, start = [], 0
        for l, pair in enumerate(pairs):  # noqa: E741
            index += [start + p for _ in range(2 * l + 1) for p in range(len(pair))]
            start += len(pair)
        self.register_buffer("expand", torch.tensor(index), False)
        self.mix = Mix([len(p) for p in pairs], channels, channels)

    def forward(self, n: int, features: Tensor, edge_index: Tensor, basis: Tensor, harmonics: Tensor) -> Tensor:
        """Return A (n, M, C) from the features (all atoms, M_in, C) of neighbours."""
        coupled = torch.matmul(harmonics, self.coupling()).reshape(-1, self.rows, self.rows_in)
        message = torch.bmm(coupled, features[edge_index[1]])
        weight = torch.matmul(basis, self.radial[:, self.expand].flatten(1))
        message = message * weight.reshape(-1, self.rows, self.channels)
        total = message.new_zeros([n, self.rows, self.channels]).index_add(0, edge_index[0], message)
        return self.mix(total * self.norm)


class EquivariantNetwork(nn.Module):
    """Atomic energies (dimensionless) from equivariant message passing.

    Args:
        n_elements: number of elements K.
        cutoff: Å.
        channels: feature channels C.
        l_max: highest degree of densities and products.
        l_hidden: highest degree of features that neighbours see.
        layers: message-passing layers, at least 1. In short trial runs on some 200 structures of Mo and of Si one layer
            with ``l_max`` 3 generalised better than two with ``l_max`` 2; molecules and mixtures may want 2.
        n_radial: Bessel functions.
        readout: hidden width of the last readout.
        avg_neighbors: mean number of neighbours in the training set; densities are divided by its square root.
    """

    def __init__(
        self,
        n_elements: int,
        cutoff: float,
        channels: int = 32,
        l_max: int = 3,
        l_hidden: int = 1,
        layers: int = 1,
        n_radial: int = 8,
        readout: int = 32,
        avg_neighbors: float = 25.0,
    ) -> None:
        super().__init__()
        self.layers = layers
        self.exchange_width = components(l_hidden) * channels if layers > 1 else 0
        norm = 1.0 / math.sqrt(avg_neighbors)
        self.harmonics = SphericalHarmonics(l_max)
        self.radial = BesselBasis(cutoff, n_radial)
        self.first = _FirstConvolution(n_elements, l_max, n_radial, channels, norm)
        self.convolutions = nn.ModuleList(
            [_Convolution(l_hidden, l_max, n_radial, channels, norm) for _ in range(layers - 1)]
        )
        last = layers - 1
        self.products = nn.ModuleList(
            [_BodyOrder(n_elements, l_max, l_hidden, channels, channels) for _ in range(last)]
        )
        self.last_product = _BodyOrder(n_elements, l_max, 0, channels, readout)
        self.embedding = nn.Parameter(torch.randn(n_elements, channels)) if last else None
        self.readouts = nn.ModuleList([nn.Linear(channels, 1, bias=False) for _ in range(last)])
        self.last_readout = nn.Sequential(nn.Linear(readout, readout), nn.SiLU(), nn.Linear(readout, 1, bias=False))

    def forward(
        self, species: Tensor, edge_index: Tensor, edge_vectors: Tensor, extra: Optional[Dict[str, Tensor]] = None
    ) -> Tensor:
        """Return dimensionless atomic energies; see ``Potential.forward`` for shapes."""
        lengths = torch.linalg.norm(edge_vectors, dim=1)
        harmonics = self.harmonics(edge_vectors / lengths.unsqueeze(1))
        basis = self.radial(lengths)
        n, n_all = species.shape[0], species.shape[0]
        if extra is not None and "owned" in extra:
            n = extra["owned"].shape[0]
        owned = species.narrow(0, 0, n)
        a = self.first(n, species, edge_index, basis, harmonics)
        energies = a.new_zeros([n])
        embedding = self.embedding
        for product, convolution, readout in zip(self.products, self.convolutions, self.readouts):  # noqa: B905
            features = product(a, owned)
            features = _bounded(features)
            scalars = features[:, 0]
            energies = energies + readout(scalars).squeeze(1)
            assert embedding is not None  # there is one where there are layers to pass it on to
            features = torch.cat([(scalars + embedding[owned]).unsqueeze(1), features[:, 1:]], dim=1)
            if n < n_all:
                features = torch.cat([features, features.new_zeros([n_all - n, features.shape[1], features.shape[2]])])
            features = torch.ops.mlcalc.exchange(features)
            a = convolution(n, features, edge_index, basis, harmonics)
        scalars = _bounded(self.last_product(a, owned))[:, 0]
        return energies + self.last_readout(scalars).squeeze(1)
