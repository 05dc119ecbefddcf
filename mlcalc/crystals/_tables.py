"""Tables of one space group as arrays: operations, Wyckoff positions, equivalent descriptions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product
from typing import Any

import numpy as np

from mlcalc.errors import MlcalcError

#: Fractional coordinates closer than this are equal in tables.
_EXACT = 1e-4


# Rows: primitive lattice vectors in units of the conventional ones, by centring letter (R: obverse, hexagonal axes).
_CENTRINGS: dict[str, list[list[float]]] = {
    "P": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "A": [[1, 0, 0], [0, 1 / 2, -1 / 2], [0, 1 / 2, 1 / 2]],
    "C": [[1 / 2, 1 / 2, 0], [-1 / 2, 1 / 2, 0], [0, 0, 1]],
    "I": [[-1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [1 / 2, 1 / 2, -1 / 2]],
    "F": [[0, 1 / 2, 1 / 2], [1 / 2, 0, 1 / 2], [1 / 2, 1 / 2, 0]],
    "R": [[2 / 3, 1 / 3, 1 / 3], [-1 / 3, 1 / 3, 1 / 3], [-1 / 3, -2 / 3, 1 / 3]],
}


@lru_cache(maxsize=230)
def group(number: int) -> Any:
    """Return PyXtal's table of one space group.

    Raises:
        MlcalcError: PyXtal is not installed.
        ValueError: not a space group number.
    """
    if not 1 <= number <= 230:
        raise ValueError(f"space group numbers go from 1 to 230, not {number}")
    try:
        from pyxtal.symmetry import Group
    except ImportError as error:
        raise MlcalcError("Wyckoff positions need PyXtal: pip install 'mlcalc[generators]'") from error
    return Group(number)


def primitive_vectors(number: int) -> np.ndarray:
    """Return (3, 3) rows: primitive lattice vectors in units of the conventional ones."""
    return np.array(_CENTRINGS[group(number).symbol[0]])


@dataclass(frozen=True)
class Position:
    """One Wyckoff position in the conventional cell.

    Attributes:
        letter: Wyckoff letter.
        rotations: (m, 3, 3) of its m points, with all centring translations.
        translations: (m, 3).
        columns: which of x, y, z are free in the first point.
        pivots: row of the first point that holds ± one free coordinate, one a column.
        to_primitive: (3, 3) matrix from conventional to primitive fractional coordinates (rows are points).
    """

    letter: str
    rotations: np.ndarray
    translations: np.ndarray
    columns: tuple[int, ...]
    pivots: tuple[int, ...]
    to_primitive: np.ndarray

    def points(self, free: np.ndarray) -> np.ndarray:
        """Return the (m, 3) points for the free coordinates, in [0, 1)."""
        xyz = np.zeros(3)
        xyz[list(self.columns)] = free
        scaled = self.rotations @ xyz + self.translations
        return scaled - np.floor(scaled + 1e-12)

    @property
    def multiplicity(self) -> int:
        """Points in a primitive cell."""
        return len(self._kept)

    @cached_property
    def _kept(self) -> np.ndarray:
        """Indices of one point in each primitive cell."""
        scaled = self.points(np.array([0.1234, 0.3417, 0.7891])[: len(self.columns)]) @ self.to_primitive
        difference = scaled[:, None] - scaled[None]
        same = np.abs(difference - np.rint(difference)).max(axis=2) < _EXACT
        return np.flatnonzero(same.argmax(axis=1) == np.arange(len(scaled)))

    def primitive_points(self, free: np.ndarray) -> np.ndarray:
        """Return the (multiplicity, 3) points in a primitive cell, as fractions of its vectors, in [0, 1)."""
        scaled = self.points(free)[self._kept] @ self.to_primitive
        return scaled - np.floor(scaled)

    def solve(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read free coordinates off points, as if each were the first point of the position.

        Args:
            points: (n, 3).

        Returns:
            (n, free) coordinates in [0, 1), and (n, 3) what is left unexplained, fractional.
        """
        rotation, shift = self.rotations[0][:, list(self.columns)], points - self.translations[0]
        signs = rotation[list(self.pivots), range(len(self.columns))]
        free = shift[:, list(self.pivots)] * signs
        # Every matrix is of whole numbers, so that whole cells in a free coordinate stay whole cells.
        left = shift - free @ rotation.T
        return free - np.floor(free), left - np.rint(left)


@dataclass(frozen=True)
class Change:
    """A change of origin and axes, x' = W x + t, that maps a space group onto itself."""

    rotation: np.ndarray
    translation: np.ndarray


class Tables:
    """Operations and positions of one space group, and its affine normaliser as far as needed.

    Args:
        number: space group number.
    """

    def __init__(self, number: int) -> None:
        table = group(number)
        self.number = number
        self.hall = int(table.hall_number)
        to_primitive = np.linalg.inv(primitive_vectors(number))
        self.positions: dict[str, Position] = {}
        for wyckoff in table:
            matrices = np.array([op.affine_matrix for op in wyckoff.ops])
            columns = tuple(int(c) for c in np.flatnonzero(np.abs(matrices[0, :3, :3]).any(axis=0)))
            pivots = tuple(_pivot(matrices[0, :3, :3], c) for c in columns)
            self.positions[wyckoff.letter] = Position(
                wyckoff.letter, matrices[:, :3, :3], matrices[:, :3, 3], columns, pivots, to_primitive
            )
        general = max(self.positions.values(), key=lambda p: len(p.rotations))
        self.rotations, self.translations = general.rotations, general.translations

    @cached_property
    def polar(self) -> tuple[int, ...]:
        """Axes along which the origin is arbitrary."""
        invariant = self.rotations.mean(axis=0)
        return tuple(int(k) for k in np.flatnonzero(np.abs(np.diag(invariant)) > _EXACT))

    @cached_property
    def changes(self) -> list[Change]:
        """Changes that keep the group and the handedness, one a coset; the identity first.

        From the tables of normalisers that come with PyXtal; for monoclinic groups with other choices of the axes
        a and c. Continuous shifts along polar axes, and cells of triclinic groups other than the reduced one, are
        not among them.
        """
        listed = [_from_text(text) for text in group(self.number).get_alternatives()["Coset Representative"]]
        improper = next((k for k, r in enumerate(self.rotations) if np.linalg.det(r) < 0), None)
        proper = []
        for change in listed:
            if np.linalg.det(change.rotation) < 0:
                if improper is None:
                    continue  # it leads to the mirror image, which is another crystal
                change = Change(
                    change.rotation @ self.rotations[improper],
                    change.rotation @ self.translations[improper] + change.translation,
                )
            proper.append(change)
        # Along polar axes PyXtal's shifts are those of its tables only; the canonical origin takes care of these axes.
        if 3 <= self.number <= 15:
            proper = [Change(w @ c.rotation, w @ c.translation + t) for w, t in self._monoclinic_axes() for c in proper]
        return proper

    def _monoclinic_axes(self) -> list[tuple[np.ndarray, np.ndarray]]:
        found = []
        quarters = (0.0, 0.25, 0.5, 0.75)
        shifts = [np.array([x, 0.0, z]) for x, z in product(quarters, quarters)]
        for a, b, c, d in product((-1, 0, 1), repeat=4):
            if abs(a * d - b * c) != 1:
                continue
            matrix = np.array([[a, 0, b], [0, a * d - b * c, 0], [c, 0, d]], dtype=float)
            origin = next((shift for shift in shifts if self.keeps(Change(matrix, shift))), None)
            if origin is not None:
                found.append((matrix, origin))
        found.sort(key=lambda item: not np.array_equal(item[0], np.eye(3)))
        # Matrices that differ by the inversion or by a rotation of the group lead to the same axes up to signs.
        kept: list[tuple[np.ndarray, np.ndarray]] = []
        for matrix, shift in found:
            if not any(
                np.array_equal(matrix, r @ m) or np.array_equal(matrix, -r @ m)
                for m, _ in kept
                for r in self.rotations
                if np.linalg.det(r) > 0
            ):
                kept.append((matrix, shift))
        return kept

    def keeps(self, change: Change) -> bool:
        """Say whether a change of axes maps the group onto itself."""
        w, inverse = change.rotation, np.linalg.inv(change.rotation)
        rotations = w @ self.rotations @ inverse
        translations = self.translations @ w.T + change.translation - rotations @ change.translation
        for r, t in zip(rotations, translations, strict=True):
            same = np.abs(self.rotations - r).max(axis=(1, 2)) < _EXACT
            difference = self.translations[same] - t
            if not (np.abs(difference - np.rint(difference)).max(axis=1) < _EXACT).any():
                return False
        return True

    def letter_of(self, points: np.ndarray) -> str:
        """Return the letter of the position that an orbit belongs to.

        Args:
            points: (m, 3) all different points of the orbit in the conventional cell, exact.
        """
        for letter, position in self.positions.items():
            if len(position.rotations) == len(points):
                left = position.solve(points)[1]
                if np.abs(left).max(axis=1).min() < _EXACT:
                    return letter
        raise AssertionError(f"no Wyckoff position of space group {self.number} has the orbit of {points[0]}")

    @cached_property
    def letters(self) -> tuple[str, ...]:
        """Letters from a on; the general position comes last."""
        return tuple(reversed(self.positions))

    @cached_property
    def renamed(self) -> list[dict[str, str]]:
        """New letter of each position under each of ``changes``."""
        names = []
        for change in self.changes:
            new = {}
            for letter, position in self.positions.items():
                orbit = position.points(np.array([0.1234, 0.3417, 0.7891])[: len(position.columns)])
                moved = orbit @ change.rotation.T + change.translation
                new[letter] = self.letter_of(moved)
            names.append(new)
        return names

    def images(self, point: np.ndarray) -> np.ndarray:
        """Return the (g, 3) images of a point under all operations, in [0, 1); special points occur several times."""
        scaled = self.rotations @ point + self.translations
        return scaled - np.floor(scaled)


def _pivot(matrix: np.ndarray, column: int) -> int:
    for row in range(3):
        if abs(matrix[row, column]) == 1 and np.count_nonzero(matrix[row]) == 1:
            return row
    raise AssertionError(f"no row of {matrix.tolist()} holds coordinate {column} alone")


def _from_text(text: str) -> Change:
    from pymatgen.core.operations import SymmOp

    matrix = SymmOp.from_xyz_str(text).affine_matrix
    return Change(matrix[:3, :3], matrix[:3, 3])


@lru_cache(maxsize=230)
def tables(number: int) -> Tables:
    """Return the tables of a space group."""
    return Tables(number)
