"""Equivalent descriptions of a crystal under the normaliser of its space group, and which of them is canonical.

Choice of the canonical one, in this order: (triclinic) Niggli's cell; (monoclinic) the shortest axes a and c; the
Wyckoff letters, as early in the alphabet as possible; these letters given to the most electropositive elements first;
β ≥ 90° and short axes first; small free coordinates. Along polar axes the first orbit lies at zero.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import spglib
from ase.data import atomic_numbers
from ase.geometry.cell import cell_to_cellpar, cellpar_to_cell

from mlcalc.crystals._tables import Change, Tables, tables
from mlcalc.crystals.description import Orbit, WyckoffCrystal, full_cell, reduced_cell
from mlcalc.errors import CrystalError

#: Coordinates are compared in units of this.
_GRAIN = 1e-3


@lru_cache(maxsize=120)
def electropositivity(symbol: str) -> tuple[float, int]:
    """Return a key that sorts elements by Pauling's electronegativity; those that have none come last."""
    from pymatgen.core import Element

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = float(Element(symbol).X)
    return (value if np.isfinite(value) and value > 0 else 9.9, atomic_numbers[symbol])


@dataclass(frozen=True)
class _View:
    """The crystal after one change of origin and axes, letters only."""

    change: Change
    letters: tuple[str, ...]
    cell: np.ndarray


def canonical_description(crystal: WyckoffCrystal) -> WyckoffCrystal:
    """Return the canonical description."""
    table = tables(crystal.space_group)
    if crystal.space_group <= 2:
        crystal = _niggli(crystal)
    views = list(_views(crystal, table))
    if 3 <= crystal.space_group <= 15:
        views = _smallest(views, lambda v: round(float(v.cell[0] + v.cell[2]) / 0.01))
    order = {letter: k for k, letter in enumerate(table.letters)}
    elements = [electropositivity(o.element) for o in crystal.orbits]

    def occupied(view: _View) -> Any:
        letters = [order[letter] for letter in view.letters]
        return sorted(letters), sorted(zip(letters, elements, strict=True))

    views = _smallest(views, occupied)
    views = _smallest(views, lambda v: (v.cell[4] < 89.99, *np.rint(v.cell[:3] / 0.01).tolist()))
    found: list[tuple[Any, WyckoffCrystal]] = []
    for view in views:
        for candidate in _descriptions(crystal, table, view):
            found.append((_coordinates(candidate), candidate))
    return min(found, key=lambda item: item[0])[1]


def _niggli(crystal: WyckoffCrystal) -> WyckoffCrystal:
    """Describe a triclinic crystal in its reduced cell."""
    vectors = cellpar_to_cell(full_cell(crystal.space_group, crystal.lattice))
    reduced = spglib.niggli_reduce(vectors)
    if reduced is None:
        raise CrystalError(f"the cell {crystal.lattice} cannot be reduced")
    matrix = np.rint(np.linalg.solve(vectors.T, np.array(reduced).T).T)  # reduced = matrix @ vectors
    if np.linalg.det(matrix) < 0:
        matrix = -matrix
    inverse = np.linalg.inv(matrix)
    # All positions of triclinic groups are a point and its inverse, at fixed (0 or 1/2) or free coordinates.
    table = tables(crystal.space_group)
    orbits = []
    for orbit in crystal.orbits:
        points = table.positions[orbit.letter].points(np.array(orbit.free)) @ inverse
        letter = table.letter_of(points)
        orbits.append(Orbit(orbit.element, letter, tuple(points[0] % 1.0) if orbit.free else ()))
    cell = cell_to_cellpar(matrix @ vectors)
    return WyckoffCrystal(crystal.space_group, tuple(orbits), reduced_cell(crystal.space_group, cell))


def equivalent_descriptions(crystal: WyckoffCrystal) -> list[WyckoffCrystal]:
    """Return one description a coset, without repetitions."""
    table = tables(crystal.space_group)
    found: dict[Any, WyckoffCrystal] = {}
    for view in _views(crystal, table):
        for candidate in _descriptions(crystal, table, view):
            cell = np.rint(np.array(candidate.lattice) / 0.01).tolist()
            found.setdefault((candidate.key(), tuple(cell), _coordinates(candidate)), candidate)
    return list(found.values())


def _views(crystal: WyckoffCrystal, table: Tables) -> Iterator[_View]:
    vectors = cellpar_to_cell(full_cell(crystal.space_group, crystal.lattice))
    for change, renamed in zip(table.changes, table.renamed, strict=True):
        cell = cell_to_cellpar(np.linalg.inv(change.rotation).T @ vectors)
        yield _View(change, tuple(renamed[o.letter] for o in crystal.orbits), cell)


def _smallest(views: list[_View], key: Any) -> list[_View]:
    keys = [key(view) for view in views]
    least = min(keys)
    return [view for view, mine in zip(views, keys, strict=True) if mine == least]


def _descriptions(crystal: WyckoffCrystal, table: Tables, view: _View) -> Iterator[WyckoffCrystal]:
    """Yield the descriptions after one change: a single one, or one a choice of origin along polar axes."""
    first = [
        table.positions[o.letter].points(np.array(o.free))[0] @ view.change.rotation.T + view.change.translation
        for o in crystal.orbits
    ]
    images = [table.images(point) for point in first]
    for shift in _origins(crystal, table, view, images):
        orbits = []
        for orbit, letter, mine in zip(crystal.orbits, view.letters, images, strict=True):
            free, left = table.positions[letter].solve(mine + shift)
            free = free[np.abs(left).max(axis=1) < 1e-3]
            rounded = np.rint(free / _GRAIN) % round(1 / _GRAIN)
            at = int(np.lexsort(rounded.T[::-1])[0]) if free.shape[1] else 0
            # What rounds to a whole cell is written as a little below zero, not a little below one.
            values = [float(f - 1 if f > 1 - _GRAIN / 2 else f) for f in free[at]]
            orbits.append(Orbit(orbit.element, letter, tuple(v if abs(v) > 1e-12 else 0.0 for v in values)))
        orbits.sort(key=_sort_key)
        yield WyckoffCrystal(crystal.space_group, tuple(orbits), reduced_cell(crystal.space_group, view.cell))


def _origins(crystal: WyckoffCrystal, table: Tables, view: _View, images: list[np.ndarray]) -> list[np.ndarray]:
    """Shifts along polar axes that bring a point of one of the first orbits to zero."""
    if not table.polar:
        return [np.zeros(3)]
    keys = [(electropositivity(o.element), v) for o, v in zip(crystal.orbits, view.letters, strict=True)]
    axes = list(table.polar)
    shifts: dict[tuple[float, ...], np.ndarray] = {}
    for mine, points in zip(keys, images, strict=True):
        if mine != min(keys):
            continue
        for point in points:
            shift = np.zeros(3)
            shift[axes] = -point[axes]
            shifts.setdefault(tuple((np.rint(shift / _GRAIN) % round(1 / _GRAIN)).tolist()), shift)
    return list(shifts.values())


def _sort_key(orbit: Orbit) -> Any:
    return (electropositivity(orbit.element), orbit.letter.swapcase(), [round(v / _GRAIN) for v in orbit.free])


def _coordinates(crystal: WyckoffCrystal) -> tuple[int, ...]:
    return tuple(round(v / _GRAIN) for o in crystal.orbits for v in o.free)
