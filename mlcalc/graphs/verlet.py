"""A neighbour list that is kept while it is provably complete."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlcalc.graphs.neighbors import (
    Floats,
    Ints,
    candidate_edges,
    checked,
    crossing_edges,
    offsets,
    squared_lengths,
    vectors_with_offsets,
)


class VerletList:
    """Edges within ``cutoff``, found from a list with radius ``cutoff + skin`` that is rebuilt only when it must be.

    Exact under any motion of atoms and cell. Let the list have been built at positions R⁰ and cell C⁰, and let F be
    the affine map that takes the periodic cell vectors from C⁰ to C. With u_i = R_i − R⁰_i·F an edge vector is
    r = r⁰·F + u_j − u_i for every shift S, hence |r⁰| ≤ ‖F⁻¹‖₂ (|r| + 2 max|u − ū|) for any constant ū. While
    ‖F⁻¹‖₂ (cutoff + 2 max|u − ū|) ≤ cutoff + skin, no edge within the cutoff is missing from the list. Homogeneous
    scaling of the crystal (NPT) and drift of the whole system cost nothing but the change of scale itself.

    Attributes:
        cutoff: Å.
        skin: Å; 0 rebuilds at every call.
        calls: number of updates so far.
        rebuilds: number of updates that built a new list.
        squared_lengths: (E,) squared edge lengths of the last update, Å².
    """

    def __init__(self, cutoff: float, skin: float = 1.0) -> None:
        if not (np.isfinite(skin) and skin >= 0.0):
            raise ValueError(f"the skin must be a length of at least 0 Å, got {skin}")
        if not (np.isfinite(cutoff) and cutoff > 0.0):
            raise ValueError(f"the cutoff must be a positive length in Å, got {cutoff}")
        self.cutoff = float(cutoff)
        self.skin = float(skin)
        self.calls = 0
        self.rebuilds = 0
        self.squared_lengths: Floats = np.zeros(0)
        self.reset()

    def reset(self) -> None:
        """Forget the list; the next update builds a new one. Counts stay."""
        self._positions: Floats | None = None
        self._cell: Floats = np.zeros((3, 3))
        self._pbc: NDArray[np.bool_] = np.zeros(3, dtype=bool)
        self._edge_index: Ints = np.zeros((2, 0), dtype=np.int64)
        self._shifts: Ints = np.zeros((0, 3), dtype=np.int64)
        self._image: Ints = np.zeros(0, dtype=np.int64)
        self._offsets: Floats = np.zeros((0, 3))
        self._offsets_cell: Floats = np.full((3, 3), np.nan)

    def update(self, positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike) -> tuple[Ints, Floats, Ints]:
        """Return the edges of this structure: exactly those of ``neighbor_list``.

        Args:
            positions: (N, 3) Å.
            cell: (3, 3) cell vectors as rows, Å.
            pbc: (3,) which axes are periodic.

        Returns:
            edge_index (2, E) sorted by centre, vectors (E, 3) r_j + S·cell − r_i in Å, shifts S (E, 3).

        Raises:
            NonFiniteError: positions or periodic cell vectors are NaN or infinite (atoms named).
            ValueError: wrong shapes, or periodic cell vectors that span no volume.
        """
        positions, cell, pbc = checked(positions, cell, pbc, self.cutoff)
        self.calls += 1
        if not self._is_complete(positions, cell, pbc):
            self._edge_index, self._shifts = candidate_edges(positions, cell, pbc, self.cutoff + self.skin)
            self._positions, self._cell, self._pbc = positions.copy(), cell, pbc
            self._image = crossing_edges(self._shifts)
            self._offsets_cell = np.full((3, 3), np.nan)
            self.rebuilds += 1
        if not np.array_equal(cell, self._offsets_cell):
            self._offsets, self._offsets_cell = offsets(cell, self._shifts[self._image]), cell
        vectors = vectors_with_offsets(positions, self._edge_index, self._image, self._offsets)
        squared = squared_lengths(vectors)
        keep = np.flatnonzero(squared < self.cutoff * self.cutoff)
        self.squared_lengths = squared[keep]
        return (
            np.take(self._edge_index, keep, axis=1),
            np.take(vectors, keep, axis=0),
            np.take(self._shifts, keep, axis=0),
        )

    def _is_complete(self, positions: Floats, cell: Floats, pbc: NDArray[np.bool_]) -> bool:
        """Whether the stored list holds every edge within the cutoff (the bound of the class docstring)."""
        old = self._positions
        if old is None or self.skin == 0.0 or old.shape != positions.shape or not np.array_equal(pbc, self._pbc):
            return False
        if len(positions) == 0:
            return True
        stretch = 1.0
        moved = positions - old
        if not np.array_equal(cell, self._cell):
            # F maps periodic vectors onto periodic vectors and leaves directions normal to them alone.
            change = np.linalg.pinv(self._cell[pbc]) @ (cell[pbc] - self._cell[pbc])
            smallest = np.linalg.svd(np.eye(3) + change, compute_uv=False)[-1]
            if smallest < 1e-6:
                return False
            stretch = 1.0 / smallest
            moved = moved - old @ change
        moved = moved - 0.5 * (moved.min(axis=0) + moved.max(axis=0))
        farthest = float(np.sqrt(squared_lengths(moved).max()))
        # The hair keeps rounding on the safe side.
        return bool(stretch * (self.cutoff + 2.0 * farthest) <= self.cutoff + self.skin - 1e-9)
