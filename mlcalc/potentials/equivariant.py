"""E(3)-equivariant message passing on e3nn, with many-body products taken at atoms instead of edges.

Of the NequIP / MACE family (Batzner et al., Nat. Commun. 13, 2453 (2022); Batatia et al., NeurIPS 2022). Edges are many
and atoms few, so edges carry only a radial basis times spherical harmonics (and, after the first layer, one tensor
product with the sender's features); body order comes from products of densities at the atom, taken as functions on the
sphere. Radial functions are linear in the basis, as in the atomic cluster expansion (Drautz 2019).
"""

import math
from typing import Dict, Optional

import torch
from torch import Tensor, nn

from mlcalc.ops import exchange  # noqa: F401  (registers mlcalc::exchange)
from mlcalc.potentials._angular import Constant, Mix, SphericalHarmonics, components, coupling, paths
from mlcalc.potentials._radial import BesselBasis
from mlcalc.potentials._sphere import Sphere


def _bounded(features: Tensor, bound: float = 4.0) -> Tensor:
    """Divide by sqrt(1 + m / bound²) with m the mean square over components and channels.

    Products grow with a power of the density. Bounded features mean bounded network energies, so that no compressed
    structure can fall into a hole deeper than the repulsion beside it. Features of training structures are of order
    one, far from the bound.
    """
    mean = features.square().mean(dim=[1, 2], keepdim=True)
    return features * torch.rsqrt(1.0 + mean * (1.0 / bound**2))


def _descriptors(a: Tensor) -> Tensor:
    """Return invariants (N, (l_max+1) C) of densities (N, M, C): scalars, and norms of each higher degree."""
    parts, start, size = [a[:, 0]], 1, 3
    while start < a.shape[1]:
        parts.append(torch.sqrt(a.narrow(1, start, size).square().sum(1) + 1e-12))
        start, size = start + size, size + 2
    return torch.cat(parts, dim=1)


class _BodyOrder(nn.Module):
    """A (N, M, C), scaled per species and degree, to features up to its ``correlation``-th power (N, (l_out+1)², D).

    A^(1), A^(2) … are linear combinations of A within each degree; as fields on the sphere their running products,
    mixed over channels in between, span all products of the harmonics with Gaunt's coefficients.
    """

    degree: Tensor

    def __init__(
        self, n_elements: int, l_max: int, l_out: int, correlation: int, channels: int, channels_out: int
    ) -> None:
        super().__init__()
        self.channels = channels
        self.rows_out = components(l_out)
        self.sphere = Sphere(l_max, l_out, correlation * l_max + l_out)
        self.fields = Mix([1] * (l_max + 1), channels, correlation * channels)
        ones = [1] * (l_out + 1)
        self.linear = Mix(ones, channels, channels_out)
        self.outputs = nn.ModuleList([Mix(ones, channels, channels_out) for _ in range(correlation - 1)])
        self.mixes = nn.Parameter(torch.randn(correlation - 2, channels, channels) / math.sqrt(channels))
        self.species_scale = nn.Parameter(torch.ones(n_elements, l_max + 1, channels))
        degree = torch.tensor([l for l in range(l_max + 1) for _ in range(2 * l + 1)])
        self.register_buffer("degree", degree, False)
        with torch.no_grad():  # fields of order one: every degree the same share of the mean square
            for l, weight in enumerate(self.fields.weights):
                weight /= math.sqrt((l_max + 1) * (2 * l + 1))

    def forward(self, a: Tensor, species: Tensor) -> Tensor:
        """Return the products' linear combination."""
        a = a * self.species_scale[species][:, self.degree]
        spread = self.sphere.spread(self.fields(a).transpose(1, 2).contiguous())
        fields = spread.split(self.channels, dim=1)  # (N, C, G) each
        total = self.linear(a.narrow(1, 0, self.rows_out))
        product = fields[0]
        for k, output in enumerate(self.outputs):
            if k > 0:
                product = torch.matmul(self.mixes[k - 1], product)
            product = product * fields[k + 1]
            total = total + output(self.sphere.collect(product).transpose(1, 2))
        return total


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
        row = edge_index[0] * k + species[edge_index[1]] if k > 1 else edge_index[0]
        # One radial function after the other: all of (E, M, R) at once would leave the cache.
        parts = [harmonics.new_zeros([n * k, m]).index_add(0, row, harmonics * b.unsqueeze(1)) for b in basis.unbind(1)]
        density = torch.stack(parts, dim=2) * self.norm
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
        for l, pair in enumerate(pairs):
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
        correlation: number of densities multiplied at an atom, at least 2; 3 means four-body terms in each layer.
        layers: message-passing layers, at least 1.
        n_radial: Bessel functions.
        readout: hidden width of the last readout.
        avg_neighbors: mean number of neighbours in the training set; densities are divided by its square root.

    Raises:
        ValueError: if ``layers`` or ``correlation`` is too low, or the degrees of a product are too high.
    """

    def __init__(
        self,
        n_elements: int,
        cutoff: float,
        channels: int = 16,
        l_max: int = 6,
        correlation: int = 3,
        l_hidden: int = 1,
        layers: int = 1,
        n_radial: int = 8,
        readout: int = 32,
        avg_neighbors: float = 25.0,
    ) -> None:
        super().__init__()
        if layers < 1 or correlation < 2:
            raise ValueError(f"layers {layers} and correlation {correlation}: at least 1 and 2 are needed")
        self.layers = layers
        self.exchange_width = components(l_hidden) * channels if layers > 1 else 0
        self.n_descriptors = (l_max + 1) * channels
        norm = 1.0 / math.sqrt(avg_neighbors)
        self.harmonics = SphericalHarmonics(l_max)
        self.radial = BesselBasis(cutoff, n_radial)
        self.first = _FirstConvolution(n_elements, l_max, n_radial, channels, norm)
        self.convolutions = nn.ModuleList(
            [_Convolution(l_hidden, l_max, n_radial, channels, norm) for _ in range(layers - 1)]
        )
        last = layers - 1
        self.products = nn.ModuleList(
            [_BodyOrder(n_elements, l_max, l_hidden, correlation, channels, channels) for _ in range(last)]
        )
        self.last_product = _BodyOrder(n_elements, l_max, 0, correlation, channels, readout)
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
        if extra is not None and "descriptors" in extra:
            extra["descriptors"] = _descriptors(a.detach())
        scalars = _bounded(self.last_product(a, owned))[:, 0]
        return energies + self.last_readout(scalars).squeeze(1)
