"""Gated equivariant message passing (NequIP; Batzner et al., Nat. Commun. 13, 2453 (2022)) without parity.

Every product of degrees is allowed, also those that a mirror would forbid: energies are invariant under rotations, not
necessarily under reflections. This is the family of SevenNet (Park et al., J. Chem. Theory Comput. 20, 4857 (2024)),
with its linear self-connection. Features of degree l have shape (N, 2l+1, C_l), channels last.
"""

import itertools
import math
from functools import lru_cache
from typing import Dict, List, Optional

import torch
from e3nn import o3
from e3nn.math import normalize2mom
from torch import Tensor, nn

from mlcalc.ops import exchange  # noqa: F401  (registers mlcalc::exchange)
from mlcalc.potentials._angular import Constant, SphericalHarmonics, components
from mlcalc.potentials._radial import envelope


@lru_cache(maxsize=1)
def _silu_norm() -> float:
    """Factor that gives SiLU of normal numbers a mean square of one; e3nn's."""
    return float(normalize2mom(nn.functional.silu).cst)


def product_paths(l_in: int, l_edge: int, l_out: int) -> list[tuple[int, int]]:
    """Return (edge degree, output degree) of all products with features of degree ``l_in``, in e3nn's order."""
    return [(l2, l3) for l2 in range(l_edge + 1) for l3 in range(abs(l_in - l2), min(l_in + l2, l_out) + 1)]


class _Basis(nn.Module):
    """(2/r_c) sin(k r)/r with trainable k, under a function that ends at the cutoff.

    That is XPLOR's from ``onset`` on, or the polynomial envelope where there is no onset.
    """

    def __init__(self, cutoff: float, size: int, onset: Optional[float]) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.onset = onset
        self.frequencies = nn.Parameter(torch.arange(1, size + 1) * (math.pi / cutoff))

    def switch(self, lengths: Tensor) -> Tensor:
        """Return factors between 1 and 0 (E,)."""
        onset = self.onset
        if onset is None:
            return envelope(lengths / self.cutoff)
        square, inner, outer = lengths * lengths, onset * onset, self.cutoff * self.cutoff
        width = outer - inner
        value = (outer - square) * (outer - square) * (outer + 2.0 * square - 3.0 * inner) / (width * width * width)
        value = torch.where(lengths < onset, torch.ones_like(value), value)
        return torch.where(lengths < self.cutoff, value, torch.zeros_like(value))

    def forward(self, lengths: Tensor) -> Tensor:
        """Return (E, size) values at lengths (E,) in Å."""
        r = lengths.unsqueeze(1)
        return (2.0 / self.cutoff) * torch.sin(r * self.frequencies) / r * self.switch(lengths).unsqueeze(1)


class _Linear(nn.Module):
    """Linear map of channels within each degree; degrees that lack channels on either side stay out."""

    def __init__(self, channels_in: List[int], channels_out: List[int]) -> None:
        super().__init__()
        both = list(zip(channels_in, channels_out, strict=False))
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(a, b)) for a, b in both])
        self.norms = [1.0 / math.sqrt(a) for a, _ in both]

    def forward(self, features: List[Tensor]) -> List[Tensor]:
        """Mix channels."""
        out: List[Tensor] = []
        for l, weight in enumerate(self.weights):
            out.append(torch.matmul(features[l], weight * self.norms[l]))
        return out


class _RadialNetwork(nn.Module):
    """Dense layers with normalised SiLU in between, without biases."""

    def __init__(self, sizes: List[int]) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(sizes))
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(a, b)) for a, b in pairs])
        self.norms = [(_silu_norm() if k else 1.0) / math.sqrt(a) for k, (a, _) in enumerate(pairs)]

    def forward(self, x: Tensor) -> Tensor:
        """Return (E, last size)."""
        for k, weight in enumerate(self.weights):
            if k > 0:
                x = nn.functional.silu(x)
            x = torch.matmul(x, weight * self.norms[k])
        return x


class _Products(nn.Module):
    """Σ_j w(r_ij) (h_j ⊗ Y(r̂_ij)) for features h of one degree, to all degrees they reach.

    Rows of the result are ordered by output degree, component, path, so that those of a degree reshape to
    (2 l + 1, paths * channels) without a copy.
    """

    path_of_row: Tensor

    def __init__(self, l_in: int, l_edge: int, l_out: int) -> None:
        super().__init__()
        paths = product_paths(l_in, l_edge, l_out)
        self.n_paths = len(paths)
        blocks, index = [], []
        for degree in range(l_out + 1):
            mine = [(p, l2) for p, (l2, l3) in enumerate(paths) if l3 == degree]
            block = torch.zeros(2 * degree + 1, len(mine), 2 * l_in + 1, components(l_edge), dtype=torch.float64)
            for k, (_, l2) in enumerate(mine):
                w3j = o3.wigner_3j(l_in, l2, degree, dtype=torch.float64) * math.sqrt(2 * degree + 1)
                block[:, k, :, l2 * l2 : (l2 + 1) ** 2] = w3j.permute(2, 0, 1)
            blocks.append(block.reshape(-1, components(l_edge)))
            index += [p for _ in range(2 * degree + 1) for p, _ in mine]
        self.size_in = 2 * l_in + 1
        self.rows = len(index)
        self.coupling = Constant(torch.cat(blocks).t())
        self.register_buffer("path_of_row", torch.tensor(index), False)

    def forward(self, n: int, features: Tensor, edge_index: Tensor, harmonics: Tensor, weights: Tensor) -> Tensor:
        """Return (n, rows, C) from features (N, 2 l + 1, C), harmonics (E, M) and weights (E, paths * C)."""
        coupled = torch.matmul(harmonics, self.coupling()).reshape(-1, self.rows, self.size_in)
        channels = features.shape[2]
        weight = weights.reshape(-1, self.n_paths, channels)
        sent = features.index_select(0, edge_index[1])
        if self.size_in == 1:
            message = (weight * sent).index_select(1, self.path_of_row) * coupled
        else:
            message = torch.bmm(coupled, sent) * weight.index_select(1, self.path_of_row)
        return message.new_zeros([n, self.rows, channels]).index_add(0, edge_index[0], message)


class _Convolution(nn.Module):
    """Sum of messages from neighbours, and the linear map of what arrives."""

    def __init__(
        self, channels_in: List[int], channels_out: List[int], l_edge: int, radial: List[int], avg_neighbors: float
    ) -> None:
        super().__init__()
        l_out = len(channels_out) - 1
        paths = [product_paths(l, l_edge, l_out) for l in range(len(channels_in))]
        self.products = nn.ModuleList([_Products(l, l_edge, l_out) for l in range(len(channels_in))])
        self.splits = [len(own) * c for own, c in zip(paths, channels_in, strict=True)]
        self.radial = _RadialNetwork([*radial, sum(self.splits)])
        self.denominator = nn.Buffer(torch.tensor(math.sqrt(avg_neighbors)))
        # For each output degree, the channels that arrive from each input degree.
        self.arriving = [
            [sum(l3 == degree for _, l3 in own) * c for own, c in zip(paths, channels_in, strict=True)]
            for degree in range(l_out + 1)
        ]
        self.linear = _Linear([sum(sizes) for sizes in self.arriving], channels_out)

    def forward(
        self, n: int, features: List[Tensor], edge_index: Tensor, basis: Tensor, harmonics: Tensor
    ) -> List[Tensor]:
        """Return features of the first ``n`` atoms from those of all."""
        weights = torch.split_with_sizes(self.radial(basis), self.splits, dim=1)
        scale = 1.0 / self.denominator
        sums: List[Tensor] = []
        for l, products in enumerate(self.products):
            sums.append(products(n, features[l], edge_index, harmonics, weights[l]) * scale)
        start: List[int] = [0 for _ in sums]
        arrived: List[Tensor] = []
        for degree, sizes in enumerate(self.arriving):
            parts: List[Tensor] = []
            for l, total in enumerate(sums):
                size = sizes[l]
                if size > 0:
                    rows = (2 * degree + 1) * size // total.shape[2]
                    parts.append(total.narrow(1, start[l], rows).reshape(-1, 2 * degree + 1, size))
                    start[l] += rows
            arrived.append(torch.cat(parts, dim=2))
        return self.linear(arrived)


def _exchanged(features: List[Tensor], n_all: int) -> List[Tensor]:
    """Return the features of all atoms from those of the owned ones: those of ghosts come from other ranks."""
    flat = torch.cat([part.flatten(1) for part in features], dim=1)
    n, width = flat.shape[0], flat.shape[1]
    if n < n_all:
        flat = torch.cat([flat, flat.new_zeros([n_all - n, width])])
    flat = torch.ops.mlcalc.exchange(flat)
    out: List[Tensor] = []
    start = 0
    for part in features:
        rows, channels = part.shape[1], part.shape[2]
        out.append(flat.narrow(1, start, rows * channels).reshape(-1, rows, channels))
        start += rows * channels
    return out


class _Interaction(nn.Module):
    """One layer: linear map, messages, linear map, plus a linear self-connection, through a gate.

    The first layer knows the features of all atoms, from their elements; later ones are sent those of ghosts.
    """

    def __init__(
        self,
        first: bool,
        channels_in: List[int],
        channels_out: List[int],
        l_edge: int,
        radial: List[int],
        avg_neighbors: float,
    ) -> None:
        super().__init__()
        self.first = first
        self.channels = channels_out
        before_gate = [sum(channels_out), *channels_out[1:]]
        self.self_connection = _Linear(channels_in, before_gate)
        self.before = _Linear(channels_in, channels_in)
        self.convolution = _Convolution(channels_in, before_gate, l_edge, radial, avg_neighbors)
        self.norm = _silu_norm()

    def gate(self, features: List[Tensor]) -> List[Tensor]:
        """Scalars through SiLU; of higher degrees each channel times the SiLU of a scalar of its own."""
        activated = nn.functional.silu(features[0]) * self.norm
        start = 0
        out: List[Tensor] = []
        for l, size in enumerate(self.channels):
            scalars = activated.narrow(2, start, size)
            out.append(features[l] * scalars if l > 0 else scalars)
            start += size
        return out

    def forward(
        self, features: List[Tensor], n: int, n_all: int, edge_index: Tensor, basis: Tensor, harmonics: Tensor
    ) -> List[Tensor]:
        """Return new features of the first ``n`` atoms."""
        sent = self.before(features)
        if not self.first:
            sent = _exchanged(sent, n_all)
        total = self.convolution(n, sent, edge_index, basis, harmonics)
        own = [features[0].narrow(0, 0, n)] if self.first else features
        for l, connection in enumerate(self.self_connection(own)):
            total[l] = total[l] + connection
        return self.gate(total)


class NequIPNetwork(nn.Module):
    """Atomic energies (dimensionless) from gated equivariant message passing.

    Args:
        n_elements: number of elements K.
        cutoff: Å.
        channels: channels of each degree 0 … l_max between layers; before the first and after the last layer there are
            only the scalars.
        layers: message-passing layers.
        n_radial: Bessel functions.
        radial_hidden: hidden widths of the radial networks.
        cutoff_on: where XPLOR's switch to zero begins, Å; None takes a polynomial envelope.
        avg_neighbors: mean number of neighbours in the training set; sums over neighbours are divided by its root.

    Raises:
        ValueError: if there are no layers, a degree without channels, fewer than two scalars, or a switch that begins
            outside the cutoff.
    """

    def __init__(
        self,
        n_elements: int,
        cutoff: float,
        channels: List[int] = [32, 16, 8],  # noqa: B006
        layers: int = 3,
        n_radial: int = 8,
        radial_hidden: List[int] = [64, 64],  # noqa: B006
        cutoff_on: Optional[float] = None,
        avg_neighbors: float = 25.0,
    ) -> None:
        super().__init__()
        if layers < 1 or not channels or min(channels) < 1 or channels[0] < 2:
            raise ValueError(f"layers {layers} and channels {channels}: at least one layer and two scalars are needed")
        if cutoff_on is not None and not 0.0 < cutoff_on < cutoff:
            raise ValueError(f"cutoff_on {cutoff_on} is not between 0 and the cutoff of {cutoff} Å")
        self.layers = layers
        l_max = len(channels) - 1
        self.exchange_width = sum((2 * l + 1) * c for l, c in enumerate(channels)) if layers > 1 else 0
        self.n_descriptors = channels[0]
        self.harmonics = SphericalHarmonics(l_max)
        self.radial = _Basis(cutoff, n_radial, cutoff_on)
        self.embedding = nn.Parameter(torch.randn(n_elements, channels[0]))
        self.embedding_norm = 1.0 / math.sqrt(n_elements)
        scalars = channels[:1]
        inner = [scalars, *[channels] * (layers - 1), scalars]
        radial = [n_radial, *radial_hidden]
        self.interactions = nn.ModuleList(
            [_Interaction(k == 0, inner[k], inner[k + 1], l_max, radial, avg_neighbors) for k in range(layers)]
        )
        self.readout = nn.Parameter(torch.randn(channels[0], channels[0] // 2))
        self.energy = nn.Parameter(torch.randn(channels[0] // 2, 1))

    def forward(
        self, species: Tensor, edge_index: Tensor, edge_vectors: Tensor, extra: Optional[Dict[str, Tensor]] = None
    ) -> Tensor:
        """Return dimensionless atomic energies; see ``Potential.forward`` for shapes."""
        lengths = torch.linalg.norm(edge_vectors, dim=1)
        harmonics = self.harmonics(edge_vectors / lengths.unsqueeze(1))
        basis = self.radial(lengths)
        n_all = species.shape[0]
        n = n_all
        if extra is not None and "owned" in extra:
            n = extra["owned"].shape[0]
        features = [(self.embedding * self.embedding_norm)[species].unsqueeze(1)]
        for interaction in self.interactions:
            features = interaction(features, n, n_all, edge_index, basis, harmonics)
        scalars = features[0].squeeze(1)
        if extra is not None and "descriptors" in extra:
            extra["descriptors"] = scalars.detach()
        hidden = torch.matmul(scalars, self.readout) / math.sqrt(self.readout.shape[0])
        return (torch.matmul(hidden, self.energy) / math.sqrt(self.energy.shape[0])).squeeze(1)
