"""How close atoms come, their own periodic images included."""

from __future__ import annotations

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
