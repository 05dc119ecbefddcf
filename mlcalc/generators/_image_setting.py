"""One way of writing a crystal of many: which atom is first, and at the origin, which axis is which."""

from __future__ import annotations

from functools import lru_cache
from itertools import permutations, product

import numpy as np
from ase import Atoms
from ase.geometry import is_minkowski_reduced, minkowski_reduce

from mlcalc.crystals._equivalents import electropositivity

# How far along each axis a site is from the first one, by cosine and, less, by sine, which tells + from -. Any numbers
# without simple ratios will do; they are part of what weights files mean.
_COSINE = np.array([0.18, 0.31, 0.51])
_SINE = np.array([0.07, 0.045, 0.03])
#: How much less the next site counts.
_FADE = 0.6


def standard_setting(atoms: Atoms) -> Atoms:
    """Return the same crystal with its origin, axes and order of atoms chosen by rule.

    Cells that are not Minkowski-reduced are reduced first. Where several reduced cells are equally good (symmetric
    crystals in slanted cells: fcc, hexagonal), which one it is depends on the cell that was given.

    A network that is shown a crystal now with one axis first and now with another must learn each way of writing it.
    The atom with the most room (whose nearest neighbour is furthest) comes first and is the origin; of several, the
    most electropositive. The others follow by electropositivity. Of the 24 proper ways to permute and flip the cell
    vectors, the one is taken where the sites that come first lie closest to the first atom in a fixed, skew measure;
    atoms of one element, the first atom aside, are sorted by it.

    Args:
        atoms: periodic along three axes.
    """
    atoms = _roomiest_first(_reduced(atoms))
    turns = _proper_turns()
    scaled = atoms.get_scaled_positions(wrap=False)
    scaled = scaled - scaled[0]
    all_ways = np.einsum("ni,tji->tnj", scaled, turns)  # fractions along the new vectors
    angles = 2 * np.pi * all_ways
    measure = ((1 - np.cos(angles)) @ _COSINE + np.sin(angles) @ _SINE) / 2
    orders = np.stack([_order(atoms.numbers, row) for row in measure])
    ordered = np.take_along_axis(measure, orders, axis=1)
    best = int((ordered @ _FADE ** np.arange(len(atoms))).argmin())
    order = orders[best]
    return Atoms(
        atoms.numbers[order],
        cell=turns[best] @ atoms.cell.array,
        scaled_positions=all_ways[best][order] % 1.0,
        pbc=True,
    )


def _reduced(atoms: Atoms) -> Atoms:
    """Return the crystal in a reduced cell, or as it is where that is one, in whatever order of its vectors."""
    cell = atoms.cell.array
    if is_minkowski_reduced(cell[np.argsort(np.linalg.norm(cell, axis=1), kind="stable")]):
        return atoms
    reduced, change = minkowski_reduce(cell)
    scaled = atoms.get_scaled_positions(wrap=False) @ np.rint(np.linalg.inv(change))
    return Atoms(atoms.numbers, cell=reduced, scaled_positions=scaled, pbc=True)


def _roomiest_first(atoms: Atoms) -> Atoms:
    symbols = atoms.get_chemical_symbols()
    atoms = atoms[sorted(range(len(atoms)), key=lambda k: electropositivity(symbols[k]))]
    scaled = atoms.get_scaled_positions(wrap=False)
    apart = scaled[:, None] - scaled[None]
    apart -= np.rint(apart)
    shifts = np.array(list(product((-1, 0, 1), repeat=3)))
    distance = np.linalg.norm((apart[:, :, None] + shifts) @ atoms.cell.array, axis=3)
    distance[distance < 1e-6] = np.inf  # an atom itself
    room = distance.min(axis=(1, 2))
    first = int(np.flatnonzero(room > 0.98 * room.max())[0])
    return atoms[[first, *(k for k in range(len(atoms)) if k != first)]]


def _order(numbers: np.ndarray, measure: np.ndarray) -> np.ndarray:
    """Sort atoms of one element among their own places, the first atom aside."""
    order = np.arange(len(numbers))
    for z in np.unique(numbers[1:]):
        places = 1 + np.flatnonzero(numbers[1:] == z)
        order[places] = places[np.argsort(measure[places], kind="stable")]
    return order


@lru_cache(maxsize=1)
def _proper_turns() -> np.ndarray:
    """(24, 3, 3) signed permutations of three vectors that keep their handedness."""
    found = []
    for order in permutations(range(3)):
        for signs in product((1, -1), repeat=3):
            turn = np.zeros((3, 3))
            turn[range(3), order] = signs
            if np.linalg.det(turn) > 0:
                found.append(turn)
    return np.array(found)
