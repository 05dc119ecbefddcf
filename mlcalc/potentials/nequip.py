"""Gated equivariant message passing (NequIP; Batzner et al., Nat. Commun. 13, 2453 (2022)) without parity.

Every product of degrees is allowed, also those that a mirror would forbid: energies are invariant under rotations, not
necessarily under reflections. This is the family of SevenNet (Park et al., J. Chem. Theory Comput. 20, 4857 (2024)),
with its linear self-connection. Features of degree l have shape (N, 2l+1, C_l), channels last.
"""

import copy
import itertools
import math
from functools import lru_cache
from typing import Any, Dict, List, Optional

import torch
from e3nn.math import normalize2mom
from torch import Tensor, nn

from mlcalc.ops import cuequivariance, exchange, fused  # noqa: F401  (registers mlcalc::exchange)
from mlcalc.ops.convolution import MAX_L, arriving, coupling, plain_convolve
from mlcalc.potentials._angular import Constant, SphericalHarmonics
from mlcalc.potentials._radial import envelope
from mlcalc.potentials._tables import polynomials


@lru_cache(maxsize=1)
def _silu_norm() -> float:
    """Factor that gives SiLU of normal numbers a mean square of one; e3nn's."""
    return float(normalize2mom(nn.functional.silu).cst)


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


class _Convolution(nn.Module):
    """Sum of messages from neighbours, and the linear map of what arrives.

    Messages are features times harmonics times radial functions of the distance. Those come from a dense network, or,
    where derivatives of the weights are not wanted, from a table of polynomials made from it.
    """

    __constants__ = ("fused", "tabulated")

    def __init__(
        self, channels_in: List[int], channels_out: List[int], l_edge: int, radial: List[int], avg_neighbors: float
    ) -> None:
        super().__init__()
        l_in, l_out = len(channels_in) - 1, len(channels_out) - 1
        self.fused = max(l_in, l_edge, l_out) <= MAX_L and fused()
        self.tabulated = False
        self.channels, self.l_edge, self.l_out = channels_in, l_edge, l_out
        self.coupling = Constant(coupling(l_in, l_edge, l_out))
        self.arriving = arriving(channels_in, l_edge, l_out)
        self.radial = _RadialNetwork([*radial, sum(self.arriving)])
        self.table = Constant(torch.zeros(0))
        self.cutoff = 0.0
        self.denominator = nn.Buffer(torch.tensor(math.sqrt(avg_neighbors)))
        self.linear = _Linear(self.arriving, channels_out)

    @torch.jit.unused
    def tabulate(self, basis: _Basis, intervals: int) -> bool:
        """Make a table; return whether there is anything to read it."""
        if not self.fused:
            return False
        radial = nn.Sequential(basis, copy.deepcopy(self.radial).cpu().double())
        self.table = Constant(polynomials(radial, basis.cutoff, intervals)).to(self.linear.weights[0])
        self.cutoff = basis.cutoff
        self.tabulated = True
        return True

    def forward(
        self, n: int, x: Tensor, edge_index: Tensor, edge_vectors: Tensor, basis: Tensor, harmonics: Tensor
    ) -> List[Tensor]:
        """Return features of the first ``n`` atoms from those of all, flat (N, Σ (2 l + 1) C_l)."""
        x = x * (1.0 / self.denominator)
        table = self.coupling()
        if self.fused and x.is_cpu:
            if self.tabulated:
                sums = torch.ops.mlcalc.convolve_table(
                    x,
                    edge_vectors,
                    self.table(),
                    self.cutoff,
                    edge_index,
                    n,
                    self.channels,
                    self.l_edge,
                    self.l_out,
                    table,
                )
            else:
                weights = self.radial(basis)
                sums = torch.ops.mlcalc.convolve(x, harmonics, weights, edge_index, n, self.channels, self.l_out, table)
        else:
            sums = self.elsewhere(x, harmonics, self.radial(basis), edge_index, n, table)
        blocks = sums.split_with_sizes([n * (2 * l + 1) * size for l, size in enumerate(self.arriving)])
        arrived: List[Tensor] = []
        for l, size in enumerate(self.arriving):
            arrived.append(blocks[l].reshape(n, 2 * l + 1, size))
        return self.linear(arrived)

    def elsewhere(
        self, x: Tensor, harmonics: Tensor, weights: Tensor, edge_index: Tensor, n: int, table: Tensor
    ) -> Tensor:
        """Return the sums where the C++ operators are not: in plain torch, on CUDA by cuEquivariance."""
        if not torch.jit.is_scripting():  # noqa: SIM102  (only so does TorchScript leave the rest out)
            if cuequivariance.serves(x, self.channels):
                return cuequivariance.convolve(x, harmonics, weights, edge_index, n, self.channels, self.l_out, table)
        return plain_convolve(x, harmonics, weights, edge_index, n, self.channels, self.l_out, table)


def _flat(features: List[Tensor]) -> Tensor:
    """Return features of all degrees as rows (N, Σ (2 l + 1) C_l)."""
    return torch.cat([part.flatten(1) for part in features], dim=1)


def _exchanged(flat: Tensor, n_all: int) -> Tensor:
    """Return the features of all atoms from those of the owned ones: those of ghosts come from other ranks."""
    n, width = flat.shape[0], flat.shape[1]
    if n < n_all:
        flat = torch.cat([flat, flat.new_zeros([n_all - n, width])])
    return torch.ops.mlcalc.exchange(flat)


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
        self,
        features: List[Tensor],
        n: int,
        n_all: int,
        edge_index: Tensor,
        edge_vectors: Tensor,
        basis: Tensor,
        harmonics: Tensor,
    ) -> List[Tensor]:
        """Return new features of the first ``n`` atoms."""
        sent = _flat(self.before(features))
        if not self.first:
            sent = _exchanged(sent, n_all)
        total = self.convolution(n, sent, edge_index, edge_vectors, basis, harmonics)
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

    Attributes:
        tabulated: whether radial functions come from tables; see ``tabulate``.

    Raises:
        ValueError: if there are no layers, a degree without channels, fewer than two scalars, or a switch that begins
            outside the cutoff.
    """

    __constants__ = ("tabulated",)

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
        self.tabulated = False
        self.readout = nn.Parameter(torch.randn(channels[0], channels[0] // 2))
        self.energy = nn.Parameter(torch.randn(channels[0] // 2, 1))

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self.tabulated = False  # tables are of the weights before
        for interaction in self.interactions:
            assert isinstance(interaction, _Interaction)
            interaction.convolution.tabulated = False

    @torch.jit.unused
    def select_species(self, index: List[int]) -> Dict[str, Tensor]:
        """Return a state for the same network with fewer species: those of ``index``, in that order."""
        state = self.state_dict()
        norm = math.sqrt(len(index) / self.embedding.shape[0])  # the embedding is divided by the root of their number
        state["embedding"] = state["embedding"][index] * norm
        return state

    @torch.jit.unused
    def tabulate(self, intervals: int) -> bool:
        """Put tables of so many intervals in the place of the radial networks, on the CPU; return whether that is done.

        It is not where the compiled operators are missing. Weights must not change afterwards.
        """
        basis = copy.deepcopy(self.radial).cpu().double()
        for interaction in self.interactions:
            assert isinstance(interaction, _Interaction)
            if not interaction.convolution.tabulate(basis, intervals):
                return False
        self.tabulated = True
        return True

    def forward(
        self, species: Tensor, edge_index: Tensor, edge_vectors: Tensor, extra: Optional[Dict[str, Tensor]] = None
    ) -> Tensor:
        """Return dimensionless atomic energies; see ``Potential.forward`` for shapes."""
        if self.tabulated and edge_vectors.is_cpu:  # worked out edge by edge on the way
            harmonics, basis = edge_vectors, edge_vectors
        else:
            lengths = torch.linalg.norm(edge_vectors, dim=1)
            harmonics = self.harmonics(edge_vectors / lengths.unsqueeze(1))
            basis = self.radial(lengths)
        n_all = species.shape[0]
        n = n_all
        if extra is not None and "owned" in extra:
            n = extra["owned"].shape[0]
        features = [(self.embedding * self.embedding_norm)[species].unsqueeze(1)]
        for interaction in self.interactions:
            features = interaction(features, n, n_all, edge_index, edge_vectors, basis, harmonics)
        scalars = features[0].squeeze(1)
        if extra is not None and "descriptors" in extra:
            extra["descriptors"] = scalars.detach()
        hidden = torch.matmul(scalars, self.readout) / math.sqrt(self.readout.shape[0])
        return (torch.matmul(hidden, self.energy) / math.sqrt(self.energy.shape[0])).squeeze(1)
