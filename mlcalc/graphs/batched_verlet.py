"""Verlet lists of many structures as one list of edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlcalc.errors import MlcalcError, OverlapError
from mlcalc.graphs.neighbors import Floats, Ints, candidate_edges, checked, crossing_edges, squared_lengths

# More edges than this in one structure is a cell that has collapsed: it would take the memory of all others.
MOST_EDGES = 20_000_000


@dataclass(frozen=True)
class BatchedEdges:
    """Edges within the cutoff of B structures, one after the other.

    Attributes:
        edge_index: (2, E) int64 centres and neighbours among the atoms of all structures.
        vectors: (E, 3) float64, Å.
        squared_lengths: (E,) float64, Å².
        shifts: (E, 3) int64.
        bounds: (B + 1,) where the edges of each structure begin.
        errors: what is wrong with structures, by place; these have no edges.
    """

    edge_index: Tensor
    vectors: Tensor
    squared_lengths: Tensor
    shifts: Tensor
    bounds: Ints
    errors: dict[int, Exception]


@dataclass
class _Candidates:
    """Edges of one structure within cutoff + skin, atoms counted from its first."""

    edge_index: Ints
    shifts: Ints
    image: Ints


_NONE = _Candidates(np.zeros((2, 0), np.int64), np.zeros((0, 3), np.int64), np.zeros(0, np.int64))


class BatchedVerletList:
    """Edges of several structures, each exactly those of ``neighbor_list``, searched anew only where they must be.

    The bound is that of ``VerletList``, taken for all structures at once. Structures may leave and others come.

    Args:
        cutoff: Å.
        skin: Å; 0 searches all at every update.
        device: where edges are computed; the search itself runs on the CPU.

    Attributes:
        calls: number of structures looked at so far, over all updates.
        rebuilds: how many of these needed a search.

    Raises:
        ValueError: cutoff or skin is no length.
    """

    def __init__(self, cutoff: float, skin: float = 1.0, device: torch.device | str = "cpu") -> None:
        if not (np.isfinite(cutoff) and cutoff > 0.0 and np.isfinite(skin) and skin >= 0.0):
            raise ValueError(f"cutoff and skin must be lengths in Å, got {cutoff} and {skin}")
        self.cutoff, self.skin, self.device = float(cutoff), float(skin), torch.device(device)
        self.calls = self.rebuilds = 0
        self._lists: list[_Candidates] = []
        self._pbc: NDArray[np.bool_] = np.zeros((0, 3), dtype=bool)
        self._known: NDArray[np.bool_] = np.zeros(0, dtype=bool)
        self._positions: Floats = np.zeros((0, 3))
        self._cells: Floats = np.zeros((0, 3, 3))
        self._inverses: Floats = np.zeros((0, 3, 3))
        self._set_counts(np.zeros(0, dtype=np.int64))

    def replace(self, keep: Sequence[int] | Ints, counts: Sequence[int], pbc: Sequence[NDArray[np.bool_]]) -> None:
        """Keep the structures at these places, in this order, and put new ones behind them.

        Args:
            keep: places of those that stay.
            counts: atoms of each new structure, at least one.
            pbc: (3,) periodic axes of each new structure.
        """
        keep, new = np.asarray(keep, dtype=np.int64), len(counts)
        rows = np.concatenate([np.arange(self.starts[b], self.starts[b + 1]) for b in keep] or [np.zeros(0, np.int64)])
        self._lists = [self._lists[b] for b in keep] + [_NONE] * new
        self._pbc = np.concatenate([self._pbc[keep], np.array(pbc, dtype=bool).reshape(new, 3)])
        self._known = np.concatenate([self._known[keep], np.zeros(new, dtype=bool)])
        self._positions = np.concatenate([self._positions[rows], np.zeros((sum(counts), 3))])
        self._cells = np.concatenate([self._cells[keep], np.zeros((new, 3, 3))])
        self._inverses = np.concatenate([self._inverses[keep], np.zeros((new, 3, 3))])
        self._set_counts(np.concatenate([np.diff(self.starts)[keep], np.asarray(counts, dtype=np.int64)]))

    def _set_counts(self, counts: Ints) -> None:
        self.starts: Ints = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.batch: Ints = np.repeat(np.arange(len(counts)), counts)
        self._stale = True

    def update(self, positions: Floats, cells: Floats) -> BatchedEdges:
        """Return the edges of all structures.

        Args:
            positions: (N, 3) of all atoms, structure by structure, Å.
            cells: (B, 3, 3) cell vectors as rows, Å; those of open axes may be anything.
        """
        cells = np.where(self._pbc[:, :, None], cells, 0.0)
        errors: dict[int, Exception] = {}
        stale = np.flatnonzero(~self._complete(positions, cells))
        self.calls += len(cells)
        self.rebuilds += len(stale)
        for place in stale:
            rows = slice(self.starts[place], self.starts[place + 1])
            try:
                self._lists[place] = self._search(positions[rows], cells[place], self._pbc[place])
                self._positions[rows], self._cells[place] = positions[rows], cells[place]
                self._inverses[place] = np.linalg.pinv(cells[place])
                self._known[place] = True
            except (MlcalcError, ValueError) as error:
                errors[int(place)] = error
                self._lists[place], self._known[place] = _NONE, False
        if len(stale) or self._stale:
            self._join()
        return self._edges(positions, cells, errors)

    def _search(self, positions: Floats, cell: Floats, pbc: NDArray[np.bool_]) -> _Candidates:
        reach = self.cutoff + self.skin
        positions, cell, pbc = checked(positions, cell, pbc, reach)
        if pbc.all():
            expected = len(positions) ** 2 * 4.19 * reach**3 / abs(np.linalg.det(cell))
            if expected > MOST_EDGES:
                raise OverlapError(
                    f"the cell has collapsed to {abs(np.linalg.det(cell)):.3g} Å³ for {len(positions)} atoms, about "
                    f"{expected:.1e} pairs within {reach:g} Å: check units, or start from a larger cell"
                )
        edge_index, shifts = candidate_edges(positions, cell, pbc, reach)
        return _Candidates(edge_index, shifts, crossing_edges(shifts))

    def _complete(self, positions: Floats, cells: Floats) -> NDArray[np.bool_]:
        """Return which stored lists hold every edge within the cutoff (the bound of ``VerletList``)."""
        if self.skin == 0.0 or not self._known.any():
            return np.zeros(len(cells), dtype=bool)
        first = self.starts[:-1]
        with np.errstate(invalid="ignore"):
            change = self._inverses @ (cells - self._cells)
            finite = np.isfinite(change).all(axis=(1, 2)) & self._known
            change = np.where(finite[:, None, None], change, 0.0)
            smallest: NDArray[np.floating] = np.ones(len(cells))
            if change.any():
                smallest = np.linalg.svd(np.eye(3) + change, compute_uv=False)[:, -1]
            moved = positions - self._positions - (self._positions[:, None, :] @ change[self.batch])[:, 0]
            middle = 0.5 * (np.minimum.reduceat(moved, first) + np.maximum.reduceat(moved, first))
            farthest = np.sqrt(np.maximum.reduceat(squared_lengths(moved - middle[self.batch]), first))
            reach = (self.cutoff + 2.0 * farthest) / np.maximum(smallest, 1e-6)
            # The hair keeps rounding on the safe side; NaN is not complete.
            return finite & (smallest > 1e-6) & (reach <= self.cutoff + self.skin - 1e-9)

    def _join(self) -> None:
        """Put the candidates of all structures behind each other."""
        counts = np.array([item.edge_index.shape[1] for item in self._lists], dtype=np.int64)
        crossing = np.array([len(item.image) for item in self._lists], dtype=np.int64)
        self._bounds = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        empty = [_NONE] if not self._lists else self._lists
        index = np.concatenate([item.edge_index for item in empty], axis=1)
        index += np.repeat(self.starts[:-1], counts)
        image = np.concatenate([item.image for item in empty]) + np.repeat(self._bounds[:-1], crossing)
        shifts = np.concatenate([item.shifts for item in empty])

        def put(array: NDArray[np.generic]) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

        self._index, self._image, self._shifts = put(index), put(image), put(shifts)
        self._image_shifts = put(shifts[image].astype(np.float64))
        self._image_cells = put(np.repeat(np.arange(len(self._lists)), crossing))
        self._stale = False

    def _edges(self, positions: Floats, cells: Floats, errors: dict[int, Exception]) -> BatchedEdges:
        points = torch.from_numpy(positions).to(self.device)
        boxes = torch.from_numpy(cells).to(self.device)[self._image_cells]
        # Term by term, as in ``neighbors.edge_vectors``: an edge and its reverse stay exact negatives.
        s = self._image_shifts
        offsets = (s[:, :1] * boxes[:, 0] + s[:, 1:2] * boxes[:, 1]) + s[:, 2:] * boxes[:, 2]
        vectors = points[self._index[1]] - points[self._index[0]]
        vectors[self._image] += offsets
        x, y, z = vectors.unbind(1)
        squared = x * x + y * y + z * z
        keep = torch.nonzero(squared < self.cutoff * self.cutoff).flatten()
        bounds = torch.searchsorted(keep, torch.from_numpy(self._bounds).to(self.device)).cpu().numpy()
        return BatchedEdges(
            self._index[:, keep], vectors[keep], squared[keep], self._shifts[keep], bounds.astype(np.int64), errors
        )
