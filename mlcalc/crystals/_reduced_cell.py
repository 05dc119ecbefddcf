"""The cell that codecs write down: as short and as little skewed as possible, right-handed, atoms inside."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.geometry import minkowski_reduce

from mlcalc.crystals.codec import full_sites
from mlcalc.errors import CodecError


def reduced(atoms: Atoms) -> Atoms:
    """Return the same crystal in a Minkowski-reduced, right-handed cell, atoms wrapped into it, order kept.

    All lattice vectors that touch the Voronoi cell of a reduced lattice are sums of its vectors with coefficients -1, 0
    and 1 (P. Q. Nguyen and D. Stehlé, ACM Trans. Algorithms 5, 46 (2009)).

    Raises:
        CodecError: not a crystal with full sites, or a cell that cannot be reduced.
    """
    full_sites(atoms)
    try:
        cell = np.array(minkowski_reduce(atoms.cell.array)[0])
    except (RuntimeError, ValueError) as error:
        raise CodecError(f"the cell cannot be reduced ({error}): is it flat?") from error
    if np.linalg.det(cell) < 0:
        cell = -cell  # the negatives of lattice vectors are lattice vectors
    crystal = Atoms(atoms.numbers, positions=atoms.positions, cell=cell, pbc=True)
    crystal.wrap(eps=1e-9)
    return crystal
