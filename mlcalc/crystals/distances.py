"""How close atoms come, their own periodic images included."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list


@dataclass(frozen=True)
class ClosestPair:
    """The pair of atoms that is closest in units of its covalent bond length.

    Attributes:
        first: index of one atom.
        second: index of the other; equal to ``first`` where an atom meets its own image.
        distance: Å.
        ratio: distance divided by the sum of the two covalent radii.
    """

    first: int
    second: int
    distance: float
    ratio: float


def closest_pair(atoms: Atoms, ratio: float = 1.0) -> ClosestPair | None:
    """Find the pair with the smallest distance relative to the sum of covalent radii.

    Args:
        atoms: any periodicity.
        ratio: look only at pairs closer than this many times the sum of their covalent radii.

    Returns:
        The closest pair, self images included; None where no pair is closer than ``ratio`` allows.
    """
    cutoffs = ratio * covalent_radii[atoms.numbers]
    i, j, d = neighbor_list("ijd", atoms, cutoff=list(cutoffs), self_interaction=False)
    if len(d) == 0:
        return None
    relative = d / (covalent_radii[atoms.numbers[i]] + covalent_radii[atoms.numbers[j]])
    k = int(np.argmin(relative))
    return ClosestPair(int(i[k]), int(j[k]), float(d[k]), float(relative[k]))


def closest_neighbors(structures: Iterable[Atoms], count: int = 12, cutoff: float = 6.0) -> np.ndarray:
    """Return how close the k-th nearest neighbour of any atom comes in a set of structures, for k = 1 … count.

    Of a training set, this is a cheap and sharp border of what a potential has been shown: the shortest distance alone
    says nothing about how many neighbours may come that close.

    Args:
        structures: any periodicity; own images count as neighbours.
        count: neighbours looked at.
        cutoff: neighbours further away count as being at this distance, Å.

    Returns:
        (count,) ascending distances, Å.
    """
    closest = np.full(count, cutoff)
    for atoms in structures:
        centre, distance = neighbor_list("id", atoms, cutoff, self_interaction=False)
        order = np.lexsort((distance, centre))
        centre, distance = centre[order], distance[order]
        # Rank of each neighbour within its centre: position in the sorted list minus that of the centre's first one.
        rank = np.arange(len(centre)) - np.searchsorted(centre, centre, side="left")
        keep = rank < count
        np.minimum.at(closest, rank[keep], distance[keep])
    return closest
