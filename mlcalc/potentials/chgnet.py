"""CHGNet (Deng et al., Nat. Mach. Intell. 5, 1031 (2023)): atoms, bonds and the angles between short bonds in turn.

Energies only; the authors' magnetic moments are not rebuilt. A bond is one for both of its directions, an angle is an
ordered pair of short bonds at a common atom. Dense layers on what is gathered from atoms, bonds and angles are applied
before gathering, so that each is multiplied once and not once for every pair it belongs to.
"""

import math
from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor, nn

from mlcalc.ops.density import envelope


class _Radial(nn.Module):
    """√(2/r_c) sin(k r/r_c)/r with trainable k, under the polynomial envelope."""

    def __init__(self, cutoff: float, size: int, power: int) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.power = power
        self.frequencies = nn.Parameter(torch.arange(1, size + 1) * math.pi)

    def forward(self, lengths: Tensor) -> Tensor:
        """Return (U, size) values at lengths (U,) in Å."""
        r = lengths.unsqueeze(1)
        values = torch.sin(r * (self.frequencies / self.cutoff)) / r
        return values * (math.sqrt(2.0 / self.cutoff) * envelope(r / self.cutoff, self.power))


class _Angular(nn.Module):
    """1/√2, sin(k θ) and cos(k θ) with trainable k, over √π."""

    def __init__(self, order: int) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.arange(1, order + 1) * 1.0)

    def forward(self, cosines: Tensor) -> Tensor:
        """Return (T, 2 order + 1) values at cosines (T,)."""
        # The authors' factor keeps the slope of the arc cosine finite where bonds are parallel.
        turns = torch.outer(torch.acos(cosines * (1.0 - 1e-6)), self.frequencies)
        first = torch.full_like(cosines, math.sqrt(0.5)).unsqueeze(1)
        return torch.cat([first, torch.sin(turns), torch.cos(turns)], dim=1) / math.sqrt(math.pi)


class _Gated(nn.Module):
    """SiLU(norm(core)) · sigmoid(norm(gate)) of several inputs side by side, one hidden layer or none.

    Args:
        inputs: number of inputs, each of the same width.
        width: of inputs, hidden layer and output.
        hidden: whether there is a hidden layer.
    """

    def __init__(self, inputs: int, width: int, hidden: bool) -> None:
        super().__init__()
        self.width = width
        self.hidden = hidden
        self.first = nn.Parameter(torch.randn(inputs, width, 2 * width) / math.sqrt(inputs * width))
        self.first_bias = nn.Parameter(torch.zeros(2 * width))
        self.second = nn.Parameter(torch.randn(2, width, width) / math.sqrt(width))
        self.second_bias = nn.Parameter(torch.zeros(2, width))
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])

    def enter(self, k: int, x: Tensor) -> Tensor:
        """Return what input ``k`` (n, width) adds to the first layer, (n, 2 width)."""
        return torch.matmul(x, self.first[k])

    def forward(self, total: Tensor) -> Tensor:
        """Return (n, width) from the sum of all that entered (n, 2 width)."""
        total = total + self.first_bias
        if self.hidden:
            total = nn.functional.silu(total)
        halves: List[Tensor] = []
        for k, norm in enumerate(self.norms):
            half = total[:, k * self.width : (k + 1) * self.width]
            if self.hidden:
                half = torch.addmm(self.second_bias[k], half, self.second[k])
            halves.append(norm(half))
        return nn.functional.silu(halves[0]) * torch.sigmoid(halves[1])


class _AtomUpdate(nn.Module):
    """Messages from neighbours along bonds."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.message = _Gated(3, width, True)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, atoms: Tensor, bonds: Tensor, weights: Tensor, edge_index: Tensor, bond: Tensor) -> Tensor:
        """Return new features (N, width); edges (2, E) have bonds (E,), which have features and weights (U, width)."""
        centre, neighbour = edge_index[0], edge_index[1]
        total = self.message.enter(0, atoms).index_select(0, centre)
        total = total + self.message.enter(1, bonds).index_select(0, bond)
        total = total + self.message.enter(2, atoms).index_select(0, neighbour)
        messages = self.message(total) * weights.index_select(0, bond)
        return atoms + self.out(torch.zeros_like(atoms).index_add(0, centre, messages))


class _BondUpdate(nn.Module):
    """Messages between short bonds that meet at an atom."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.message = _Gated(4, width, True)
        self.out = nn.Linear(width, width, bias=False)

    def forward(
        self, atoms: Tensor, bonds: Tensor, weights: Tensor, angles: Tensor, pairs: Tensor, centre: Tensor
    ) -> Tensor:
        """Return new features of the short bonds (S, width); ``pairs`` (2, T) are the bonds of each angle."""
        total = _meeting(self.message, atoms, bonds, angles, pairs, centre)
        messages = self.message(total) * weights.index_select(0, pairs[0]) * weights.index_select(0, pairs[1])
        return bonds + self.out(torch.zeros_like(bonds).index_add(0, pairs[0], messages))


class _AngleUpdate(nn.Module):
    """What an angle learns from its bonds and its atom."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.message = _Gated(4, width, False)

    def forward(self, atoms: Tensor, bonds: Tensor, angles: Tensor, pairs: Tensor, centre: Tensor) -> Tensor:
        """Return new features (T, width)."""
        return angles + self.message(_meeting(self.message, atoms, bonds, angles, pairs, centre))


def _meeting(gated: _Gated, atoms: Tensor, bonds: Tensor, angles: Tensor, pairs: Tensor, centre: Tensor) -> Tensor:
    """Return what both bonds, the angle and its atom add to a first layer, (T, 2 width)."""
    total = gated.enter(0, bonds).index_select(0, pairs[0]) + gated.enter(1, bonds).index_select(0, pairs[1])
    return total + gated.enter(2, angles) + gated.enter(3, atoms).index_select(0, centre)


class CHGNetNetwork(nn.Module):
    """Atomic energies of CHGNet, in eV, without the reference energies of the elements.

    Args:
        n_elements: number of elements K.
        cutoff: of bonds, Å.
        width: features of atoms, bonds and angles.
        layers: updates of atoms; between two of them bonds and angles are updated.
        n_radial: radial functions.
        n_angular: angular functions, an odd number.
        short: bonds up to this length form angles, Å; at most the cutoff, where they fade.
        power: exponent of the envelopes.

    Raises:
        ValueError: fewer than two layers, or an even number of angular functions.
    """

    def __init__(
        self,
        n_elements: int,
        cutoff: float,
        width: int = 64,
        layers: int = 4,
        n_radial: int = 31,
        n_angular: int = 31,
        short: float = 3.0,
        power: int = 8,
    ) -> None:
        super().__init__()
        if layers < 2 or n_angular % 2 != 1:
            raise ValueError(f"CHGNet needs at least 2 layers and an odd n_angular, not {layers} and {n_angular}")
        self.layers = layers
        self.needs = ("reverse_edge",)
        self.exchange_width = 0
        self.n_descriptors = 0
        self.short = min(short, cutoff)
        self.embedding = nn.Parameter(torch.randn(n_elements, width))
        self.radial = _Radial(cutoff, n_radial, power)
        self.radial_short = _Radial(self.short, n_radial, power)
        self.angular = _Angular(n_angular // 2)
        self.bond_embedding = nn.Linear(n_radial, width, bias=False)
        self.bond_weights = nn.Linear(n_radial, width, bias=False)
        self.short_weights = nn.Linear(n_radial, width, bias=False)
        self.angle_embedding = nn.Linear(n_angular, width, bias=False)
        self.atom_updates = nn.ModuleList([_AtomUpdate(width) for _ in range(layers)])
        self.bond_updates = nn.ModuleList([_BondUpdate(width) for _ in range(layers - 1)])
        # Angles after the last update of bonds are read by nobody.
        self.angle_updates = nn.ModuleList([_AngleUpdate(width) for _ in range(layers - 2)])
        self.norm = nn.LayerNorm(width)
        dense: List[nn.Module] = []
        for _ in range(3):
            dense += [nn.Linear(width, width), nn.SiLU()]
        self.readout = nn.Sequential(*dense, nn.Linear(width, 1))

    def forward(
        self, species: Tensor, edge_index: Tensor, edge_vectors: Tensor, extra: Optional[Dict[str, Tensor]] = None
    ) -> Tensor:
        """Return energies (N,) in eV; ``extra`` must hold ``"reverse_edge"``. See ``Potential.forward``."""
        if extra is None or "reverse_edge" not in extra:
            raise ValueError("CHGNet wants the reverse of every edge; LAMMPS cannot give it")
        bond, one_way = _bonds(extra["reverse_edge"])
        vectors = edge_vectors.index_select(0, one_way)
        lengths = torch.linalg.norm(vectors, dim=1)
        basis = self.radial(lengths)
        bonds, weights = self.bond_embedding(basis), self.bond_weights(basis)

        near = torch.nonzero(lengths < self.short).flatten()
        place = torch.full_like(one_way, -1)
        place[near] = torch.arange(near.shape[0], device=near.device)
        edges = torch.nonzero(place.index_select(0, bond) >= 0).flatten()
        ends, centre = _angles(edge_index[0].index_select(0, edges), species.shape[0])
        pairs = place.index_select(0, bond.index_select(0, edges))[ends]
        directions = nn.functional.normalize(edge_vectors.index_select(0, edges), dim=1)
        cosines = (directions.index_select(0, ends[0]) * directions.index_select(0, ends[1])).sum(dim=1)
        angles = self.angle_embedding(self.angular(cosines))
        short_weights = self.short_weights(self.radial_short(lengths.index_select(0, near)))
        short_bonds = bonds.index_select(0, near)

        atoms = self.embedding[species]
        for k, update_atoms in enumerate(self.atom_updates):
            atoms = update_atoms(atoms, bonds, weights, edge_index, bond)
            for m, update_bonds in enumerate(self.bond_updates):
                if m == k:
                    short_bonds = update_bonds(atoms, short_bonds, short_weights, angles, pairs, centre)
                    bonds = bonds.index_copy(0, near, short_bonds)
            for m, update_angles in enumerate(self.angle_updates):
                if m == k:
                    angles = update_angles(atoms, short_bonds, angles, pairs, centre)
        return self.readout(self.norm(atoms)).squeeze(1)


def _bonds(reverse: Tensor) -> Tuple[Tensor, Tensor]:
    """Return the bond of each edge (E,), and one edge of each bond (U,), from the reverse of each edge (E,)."""
    edges = torch.arange(reverse.shape[0], device=reverse.device)
    one_way = torch.nonzero(edges < reverse).flatten()
    numbers = torch.arange(one_way.shape[0], device=reverse.device)
    bond = torch.zeros_like(edges)
    bond[one_way] = numbers
    bond[reverse.index_select(0, one_way)] = numbers
    return bond, one_way


def _angles(centres: Tensor, n_atoms: int) -> Tuple[Tensor, Tensor]:
    """Return ordered pairs of distinct edges with a common centre (2, T), and that centre (T,); ``centres`` sorted."""
    degree = torch.bincount(centres, minlength=n_atoms)
    partners = degree.index_select(0, centres)
    edges = torch.arange(centres.shape[0], device=centres.device)
    first = torch.repeat_interleave(edges, partners)
    begin = torch.cumsum(partners, 0) - partners
    rank = torch.arange(first.shape[0], device=centres.device) - torch.repeat_interleave(begin, partners)
    starts = torch.cumsum(degree, 0) - degree
    centre = centres.index_select(0, first)
    second = starts.index_select(0, centre) + rank
    distinct = torch.nonzero(first != second).flatten()
    ends = torch.stack([first, second]).index_select(1, distinct)
    return ends, centre.index_select(0, distinct)
