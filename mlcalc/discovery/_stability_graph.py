"""Crystals as the stability network sees them: every atom with its nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor

from mlcalc.errors import CrystalError
from mlcalc.graphs.neighbors import edge_vectors, neighbor_list

# The first radius in which neighbours are looked for, how it grows, and how often, Å.
_RADIUS, _GROWTH, _ROUNDS = 5.0, 1.5, 8


@dataclass(frozen=True)
class Neighbourhoods:
    """The neighbours of all atoms of a crystal.

    Attributes:
        species: (N,) positions of the atoms' elements in the network's list.
        neighbours: (N, K) atoms, nearest first; images of an atom are neighbours of their own.
        distances: (N, K) Å, ascending.
    """

    species: NDArray[np.int64]
    neighbours: NDArray[np.int64]
    distances: NDArray[np.float32]


def neighbourhoods(atoms: Atoms, elements: Sequence[str], count: int) -> Neighbourhoods:
    """Return the ``count`` nearest neighbours of each atom.

    Args:
        atoms: periodic in three directions.
        elements: that the network knows, in its order.
        count: K.

    Raises:
        CrystalError: an element that is not known, a cell that is not periodic, or atoms that are not finite.
    """
    place = {element: k for k, element in enumerate(elements)}
    unknown = sorted(set(atoms.get_chemical_symbols()) - set(place))
    if unknown:
        raise CrystalError(f"the stability score knows nothing of {', '.join(unknown)}")
    if not len(atoms) or atoms.cell.rank < 3 or not atoms.pbc.all():
        raise CrystalError("the stability score is one of crystals: periodic in three directions, with atoms")
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise CrystalError("positions or cell not finite")
    # So many around an atom in a crystal of even density, with room for an uneven one.
    radius = max(_RADIUS, 1.3 * (0.75 / np.pi * (count + 1) * atoms.cell.volume / len(atoms)) ** (1 / 3))
    for _ in range(_ROUNDS):
        edges, shifts = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, radius)
        if np.bincount(edges[0], minlength=len(atoms)).min() >= count:
            break
        radius *= _GROWTH
    else:
        raise CrystalError(f"atoms have fewer than {count} neighbours within {radius:.0f} Å")
    distances = np.linalg.norm(edge_vectors(atoms.positions, atoms.cell.array, edges, shifts), axis=1)
    order = np.lexsort((distances, edges[0]))
    first = np.searchsorted(edges[0][order], np.arange(len(atoms)))
    chosen = order[first[:, None] + np.arange(count)]
    species = np.array([place[symbol] for symbol in atoms.get_chemical_symbols()], dtype=np.int64)
    return Neighbourhoods(species, edges[1][chosen], distances[chosen].astype(np.float32))


@dataclass(frozen=True)
class Crystals:
    """Neighbourhoods of several crystals, atoms numbered through.

    Attributes:
        species: (N,).
        neighbours: (N, K).
        distances: (N, K) Å.
        crystal: (N,) which crystal an atom belongs to.
        size: how many crystals.
    """

    species: Tensor
    neighbours: Tensor
    distances: Tensor
    crystal: Tensor
    size: int

    @classmethod
    def of(cls, items: Sequence[Neighbourhoods]) -> Crystals:
        """Put crystals together."""
        counts = np.array([len(item.species) for item in items])
        starts = np.repeat(np.cumsum(counts) - counts, counts)
        return cls(
            torch.from_numpy(np.concatenate([item.species for item in items])),
            torch.from_numpy(np.concatenate([item.neighbours for item in items]) + starts[:, None]),
            torch.from_numpy(np.concatenate([item.distances for item in items])),
            torch.from_numpy(np.repeat(np.arange(len(items)), counts)),
            len(items),
        )
