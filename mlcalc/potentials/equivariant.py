"""E(3)-equivariant message passing on e3nn, with many-body products taken at atoms instead of edges.

Of the NequIP / MACE family (Batzner et al., Nat. Commun. 13, 2453 (2022); Batatia et al., NeurIPS 2022). Edges are many
and atoms few, so edges carry only a radial basis times spherical harmonics (and, after the first layer, one tensor
product with the sender's features); body order comes from products of densities at the atom, taken as functions on the
sphere. Radial functions are linear in the basis, as in the atomic cluster expansion (Drautz 2019).
"""

import math
from itertools import pairwise
from typing import Dict, List, Optional

import torch
from torch import Tensor, nn

from mlcalc.ops import exchange, fused  # noqa: F401  (registers mlcalc::exchange)
from mlcalc.ops.density import sum_edges
from mlcalc.ops.mix import plain_mix
from mlcalc.potentials._angular import Constant, Mix, SphericalHarmonics, components, coupling, paths
from mlcalc.potentials._radial import BesselBasis
from mlcalc.potentials._sphere import SphereProduct


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


class _DegreeMix(Mix):
    """The same paths for each degree: the linear maps are one operator, with a scale per species if one is given."""

    __constants__ = ("fused",)

    def __init__(self, n_paths: int, l_max: int, channels_in: int, channels_out: int) -> None:
        super().__init__([n_paths] * (l_max + 1), channels_in, channels_out)
        self.fused = fused()
        self.rows_in = components(l_max)

    def scaled(self, x: Tensor, scale: Tensor, species: Optional[Tensor], parts: int = 1) -> List[Tensor]:
        """Mix the rows of degrees 0 … l_max of x after scaling, by ``scale`` (S, L, C) of species (N,), to equal parts.

        Each part has gradients of its own, which need not be put together first.
        """
        weights: List[Tensor] = []
        for weight in self.weights:
            weights.append(weight)
        stacked = scale[:, : len(weights)].unsqueeze(3) * torch.stack(weights)
        if x.shape[1] > self.rows_in:
            x = x.narrow(1, 0, self.rows_in)
        out: List[Tensor] = []
        for part in stacked.chunk(parts, dim=3):
            if self.fused and x.is_cpu:
                out.append(torch.ops.mlcalc.mix(x, part, species))
            else:
                out.append(plain_mix(x, part, species))
        return out


class _BodyOrder(nn.Module):
    """A (N, M, C), scaled per species and degree, to features up to its ``correlation``-th power (N, (l_out+1)², D).

    A^(1), A^(2) … are linear combinations of A within each degree; as fields on the sphere their running products,
    mixed over channels in between, span all products of the harmonics with Gaunt's coefficients. A running product
    keeps the degrees that still reach an output through the fields that come after it.
    """

    def __init__(
        self, n_elements: int, l_max: int, l_out: int, correlation: int, channels: int, channels_out: int
    ) -> None:
        super().__init__()
        self.rows_out = components(l_out)
        self.fields = _DegreeMix(1, l_max, channels, correlation * channels)
        ones = [1] * (l_out + 1)
        self.linear = _DegreeMix(1, l_out, channels, channels_out)
        self.outputs = nn.ModuleList([Mix(ones, channels, channels_out) for _ in range(correlation - 1)])
        self.mixes = nn.Parameter(torch.randn(correlation - 2, channels, channels) / math.sqrt(channels))
        self.species_scale = nn.Parameter(torch.ones(n_elements, l_max + 1, channels))
        degrees = [l_max] + [min(k * l_max, (correlation - k) * l_max + l_out) for k in range(2, correlation + 1)]
        self.products = nn.ModuleList([SphereProduct(before, l_max, after) for before, after in pairwise(degrees)])
        with torch.no_grad():  # fields of order one: every degree the same share of the mean square
            for l, weight in enumerate(self.fields.weights):
                weight /= math.sqrt((l_max + 1) * (2 * l + 1))

    def forward(self, a: Tensor, species: Tensor) -> Tensor:
        """Return the products' linear combination."""
        fields = self.fields.scaled(a, self.species_scale, species, len(self.products) + 1)
        total = self.linear.scaled(a, self.species_scale, species)[0]
        product = fields[0]
        for k, (multiply, output) in enumerate(zip(self.products, self.outputs)):  # noqa: B905
            if k > 0:
                product = torch.matmul(product, self.mixes[k - 1].t())
            product = multiply(product, fields[k + 1])
            total = total + output(product.narrow(1, 0, self.rows_out))
        return total


class _FirstConvolution(nn.Module):
    """Density of neighbours, radial basis ⊗ harmonics, one per neighbour element, mixed to channels per degree."""

    __constants__ = ("fused",)

    def __init__(
        self, n_elements: int, l_max: int, radial: BesselBasis, n_radial: int, channels: int, norm: float
    ) -> None:
        super().__init__()
        self.fused = fused()
        self.n_elements = n_elements
        self.l_max, self.n_radial = l_max, n_radial
        self.cutoff, self.power = radial.cutoff, radial.power
        self.norm = norm
        self.mix = _DegreeMix(n_elements, l_max, n_radial, channels)

    def forward(
        self, n: int, species: Tensor, edge_index: Tensor, edge_vectors: Tensor, basis: Tensor, harmonics: Tensor
    ) -> Tensor:
        """Return A (n, M, C) of the first ``n`` atoms; the compiled operator needs neither basis nor harmonics."""
        k, m, r = self.n_elements, self.mix.rows_in, self.n_radial
        row = edge_index[0] * k + species[edge_index[1]] if k > 1 else edge_index[0]
        if self.fused and edge_vectors.is_cpu:
            density = torch.ops.mlcalc.density(edge_vectors, row, n * k, self.l_max, r, self.cutoff, self.power)
        else:
            density = sum_edges(harmonics, basis, row, n * k)
        if k > 1:  # (n, k, M, R) to rows ordered component, element
            density = density.reshape(n, k, m, r).transpose(1, 2).reshape(n, m, k * r)
        return self.mix.scaled(density, density.new_full([1, 1, 1], self.norm), None)[0]


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

    __constants__ = ("fused", "layers")

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
        self.fused = fused()
        self.exchange_width = components(l_hidden) * channels if layers > 1 else 0
        self.n_descriptors = (l_max + 1) * channels
        norm = 1.0 / math.sqrt(avg_neighbors)
        self.harmonics = SphericalHarmonics(l_max)
        self.radial = BesselBasis(cutoff, n_radial)
        self.first = _FirstConvolution(n_elements, l_max, self.radial, n_radial, channels, norm)
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
        n, n_all = species.shape[0], species.shape[0]
        if extra is not None and "owned" in extra:
            n = extra["owned"].shape[0]
        owned = species.narrow(0, 0, n)
        harmonics, basis = edge_vectors, edge_vectors  # nobody looks at these
        if self.layers > 1 or not self.fused or not edge_vectors.is_cpu:
            lengths = torch.linalg.norm(edge_vectors, dim=1)
            harmonics = self.harmonics(edge_vectors / lengths.unsqueeze(1))
            basis = self.radial(lengths)
        a = self.first(n, species, edge_index, edge_vectors, basis, harmonics)
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
