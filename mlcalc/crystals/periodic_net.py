"""Who is bonded to whom through which image: a crystal as a quotient graph, found from its atoms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii
from ase.neighborlist import neighbor_list

from mlcalc.crystals._reduced_cell import reduced
from mlcalc.errors import CodecError

#: Edges go no farther than this many sums of covalent radii.
FARTHEST = 6.0
#: Neighbours closer than this many times the closest one (in sums of covalent radii) are bonded.
BONDED = 1.35
#: Every atom keeps at least so many neighbours where lengths fix the crystal, and those nearly as close.
CONTACTS, NEARLY = 12, 1.02
#: Covalent radii, Å; He and Ne, which form no bonds, count as argon does.
RADII = covalent_radii.copy()
RADII[[2, 10]] = covalent_radii[18]


@dataclass(frozen=True)
class PeriodicNet:
    """A periodic graph by its quotient: E edges, each written once, in one direction.

    An edge (i, j, S) joins atom i to the image of atom j that lies S cells further on.

    Attributes:
        symbols: (N,) elements.
        pairs: (E, 2) atoms i and j.
        shifts: (E, 3) cells S, integers.
        lengths: (E,) Å; NaN where a length is not known.
        weak: (E,) edges that are no bonds, but what holds parts of the crystal together.
    """

    symbols: tuple[str, ...]
    pairs: np.ndarray
    shifts: np.ndarray
    lengths: np.ndarray
    weak: np.ndarray

    @property
    def radii(self) -> np.ndarray:
        """(E,) sums of covalent radii, Å."""
        own = RADII[[atomic_numbers[s] for s in self.symbols]]
        return own[self.pairs].sum(axis=1)

    def incidence(self) -> np.ndarray:
        """Return (E, N + 3): times positions (N, 3) over cell (3, 3), it gives the edge vectors."""
        count, edges = len(self.symbols), np.arange(len(self.pairs))
        matrix = np.zeros((len(self.pairs), count + 3))
        matrix[edges, self.pairs[:, 1]] += 1
        matrix[edges, self.pairs[:, 0]] -= 1
        matrix[:, count:] = self.shifts
        return matrix

    def directions(self) -> int:
        """Return along how many directions the net goes on for ever; -1 if it is not connected."""
        count = len(self.symbols)
        matrix = self.incidence()
        if np.linalg.matrix_rank(matrix[:, :count]) < count - 1:
            return -1
        return int(np.linalg.matrix_rank(matrix)) - (count - 1)


def contact_net(atoms: Atoms) -> PeriodicNet:
    """Return the net whose lengths fix the crystal, up to its handedness: each atom's nearest neighbours, at least 12.

    Where these leave the crystal a way to move (infinitesimal rigidity, 3 N + 3 independent lengths), the nearest pairs
    that take it away are added. Near is in sums of covalent radii.

    Args:
        atoms: a crystal; the net is that of its reduced cell (atoms in the same order), with shifts of -1, 0 and 1.

    Raises:
        CodecError: not a crystal, or atoms so far apart that nothing holds it together.
    """
    crystal = reduced(atoms)
    limit = 2.2
    while True:
        net, vectors = _neighbours(crystal, limit)
        near = net.lengths / net.radii
        if limit >= FARTHEST or _counts(net).min() >= CONTACTS:
            reach = NEARLY * rank_of_neighbours(net, near, CONTACTS)
            chosen = near <= np.maximum(*reach[net.pairs].T)
            chosen = _until_rigid(net, vectors, chosen)
            if chosen is not None:
                return _part(net, chosen, np.zeros(len(chosen), dtype=bool))
            if limit >= FARTHEST:
                raise CodecError(
                    f"{atoms.get_chemical_formula()}: pairs up to {FARTHEST:g} sums of covalent radii do not hold "
                    "the crystal together; its atoms lie too far apart"
                )
        limit = min(1.35 * limit, FARTHEST)


def bond_net(atoms: Atoms) -> PeriodicNet:
    """Return the net of bonds alone: pairs up to 1.35 times as far as the closest one of either atom.

    Where bonds leave parts unconnected (molecules, chains, layers), the shortest pairs between them are added as weak
    edges until the net is connected along three directions. Arguments and errors are those of ``contact_net``.
    """
    crystal = reduced(atoms)
    for limit in (1.7, 2.6, 4.0, FARTHEST):
        net, _ = _neighbours(crystal, limit)
        if not len(net.pairs):
            continue
        near = net.lengths / net.radii
        reach = BONDED * rank_of_neighbours(net, near, 1)
        bonds = near <= np.maximum(*np.where(np.isfinite(reach), reach, 0.0)[net.pairs].T)
        chosen = _until_connected(net, bonds)
        if chosen is not None:
            return _part(net, chosen, ~bonds[chosen])
    raise CodecError(
        f"{atoms.get_chemical_formula()}: pairs up to {FARTHEST:g} sums of covalent radii do not connect the "
        "crystal; its atoms lie too far apart"
    )


def _neighbours(crystal: Atoms, limit: float) -> tuple[PeriodicNet, np.ndarray]:
    """Return all pairs within ``limit`` sums of covalent radii, nearest first, and their unit vectors."""
    radii = RADII[crystal.numbers]
    i, j, d, vectors, shifts = neighbor_list("ijdDS", crystal, list(limit * radii), self_interaction=False)
    near = d / (radii[i] + radii[j])
    # Each edge once: by atoms, then by the first shift that is not zero.
    sign = np.sign(shifts @ np.array([9, 3, 1]))
    once = ((i < j) | ((i == j) & (sign > 0))) & (np.abs(shifts).max(axis=1, initial=0) <= 1)
    # Equal lengths differ in their last digits; rounding keeps their order that of atoms and images.
    order = np.lexsort((*shifts[once].T, j[once], i[once], np.round(near[once], 6)))
    pick = np.flatnonzero(once)[order]
    if len(pick) and d[pick].min() < 1e-3:
        k = pick[int(d[pick].argmin())]
        raise CodecError(f"atoms {i[k]} and {j[k]} lie on top of each other ({d[k]:.2g} Å)")
    net = PeriodicNet(
        tuple(crystal.get_chemical_symbols()),
        np.stack([i[pick], j[pick]], axis=1).astype(int),
        shifts[pick].astype(int),
        d[pick],
        np.zeros(len(pick), dtype=bool),
    )
    return net, vectors[pick] / d[pick, None]


def _counts(net: PeriodicNet) -> np.ndarray:
    return np.bincount(net.pairs.ravel(), minlength=len(net.symbols))


def rank_of_neighbours(net: PeriodicNet, near: np.ndarray, rank: int) -> np.ndarray:
    """Return (N,) how near the neighbour of this rank is, or the last; infinite for atoms without any.

    Args:
        net: edges, nearest first.
        near: (E,) ascending.
        rank: 1 for the nearest.
    """
    found = np.full(len(net.symbols), np.inf)
    for atom in range(len(found)):
        # An edge to an own image is two neighbours.
        own = np.repeat(near, (net.pairs == atom).sum(axis=1))
        if len(own):
            found[atom] = own[min(rank, len(own)) - 1]
    return found


def _until_rigid(net: PeriodicNet, vectors: np.ndarray, chosen: np.ndarray) -> np.ndarray | None:
    """Return the chosen edges and those that rigidity needs beside them; None if all edges are not enough."""
    wanted = 3 * len(net.symbols) + 3
    rows = (net.incidence()[:, :, None] * vectors[:, None, :]).reshape(len(vectors), wanted + 6)

    def rank(part: np.ndarray) -> int:
        return int((np.linalg.svd(part, compute_uv=False) > 2e-2).sum())

    have = rank(rows[chosen])
    if have < wanted:
        if rank(rows) < wanted:
            return None
        chosen = chosen.copy()
        for edge in np.flatnonzero(~chosen):
            chosen[edge] = True
            more = rank(rows[chosen])
            chosen[edge] = more > have
            have = max(have, more)
            if have == wanted:
                break
    return np.flatnonzero(chosen) if have == wanted else None


def _until_connected(net: PeriodicNet, chosen: np.ndarray) -> np.ndarray | None:
    """Return the chosen edges and the shortest that connect the net along three directions; None if there are none."""
    matrix, wanted = net.incidence(), len(net.symbols) + 2
    have = int(np.linalg.matrix_rank(matrix[chosen])) if chosen.any() else 0
    chosen = chosen.copy()
    for edge in np.flatnonzero(~chosen):
        if have == wanted:
            break
        chosen[edge] = True
        more = int(np.linalg.matrix_rank(matrix[chosen]))
        chosen[edge] = more > have
        have = max(have, more)
    return np.flatnonzero(chosen) if have == wanted else None


def _part(net: PeriodicNet, edges: np.ndarray, weak: np.ndarray) -> PeriodicNet:
    return PeriodicNet(net.symbols, net.pairs[edges], net.shifts[edges], net.lengths[edges], weak)
