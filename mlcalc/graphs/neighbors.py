"""Neighbour lists over any mixture of periodic and open axes."""

from __future__ import annotations

import numpy as np
import vesin
from numpy.typing import ArrayLike, NDArray

from mlcalc.errors import NonFiniteError
from mlcalc.graphs._kdtree import kdtree_edges

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def neighbor_list(positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike, cutoff: float) -> tuple[Ints, Ints]:
    """Return every directed edge (i, j, S) with |r_j + S·cell − r_i| < cutoff.

    Atoms may lie outside the cell, cells may be slivers, cell vectors of open axes may be anything, zero included. An
    atom is a neighbour of its own periodic images, never of itself.

    Args:
        positions: (N, 3) Å.
        cell: (3, 3) cell vectors as rows, Å.
        pbc: (3,) which axes are periodic.
        cutoff: Å, positive.

    Returns:
        (2, E) centres and neighbours, sorted by centre; (E, 3) integer shifts S, zero on open axes.

    Raises:
        NonFiniteError: positions or periodic cell vectors are NaN or infinite (atoms named).
        ValueError: wrong shapes, a cutoff that is not positive, or periodic cell vectors that span no volume.
    """
    positions, cell, pbc = checked(positions, cell, pbc, cutoff)
    edge_index, shifts = candidate_edges(positions, cell, pbc, cutoff)
    keep = squared_lengths(edge_vectors(positions, cell, edge_index, shifts)) < cutoff * cutoff
    return np.ascontiguousarray(edge_index[:, keep]), shifts[keep]


def candidate_edges(positions: Floats, cell: Floats, pbc: NDArray[np.bool_], cutoff: float) -> tuple[Ints, Ints]:
    """Return all edges shorter than ``cutoff``, and perhaps a few longer ones by rounding; arguments are checked."""
    if len(positions) == 0:
        return np.zeros((2, 0), dtype=np.int64), np.zeros((0, 3), dtype=np.int64)
    # The cutoff is a hair larger because the caller cuts with its own rounding, which is the same for an edge and its
    # reverse; positions far from the origin lose digits when they are wrapped.
    cutoff += 1e-12 * (1.0 + float(np.abs(positions).max()))
    box = _close(positions, cell, pbc, cutoff)
    if not _fits_a_grid(box, cutoff, len(positions)):
        return kdtree_edges(positions, cell, pbc, cutoff)
    # vesin rather than matscipy: about twice as fast (benchmarks/neighbours.py), and matscipy fails on zero cell
    # vectors even where the axis is open.
    finder = vesin.NeighborList(cutoff=cutoff, full_list=True, sorted=True)
    i, j, shifts = finder.compute(points=positions, box=box, periodic=True, quantities="ijS", copy=False)
    return np.stack([i, j]).astype(np.int64), np.array(shifts, dtype=np.int64)


def edge_vectors(positions: Floats, cell: Floats, edge_index: Ints, shifts: Ints) -> Floats:
    """Return r_j + S·cell − r_i, (E, 3) in Å.

    Term by term instead of by a matrix product, whose rounding may depend on the row: an edge and its reverse are then
    exact negatives of each other, so that a cutoff keeps both or none.
    """
    image = crossing_edges(shifts)
    return vectors_with_offsets(positions, edge_index, image, offsets(cell, shifts[image]))


def crossing_edges(shifts: Ints) -> Ints:
    """Return which edges (E, 3) end in another image of the cell."""
    return np.flatnonzero(shifts[:, 0] | shifts[:, 1] | shifts[:, 2])


def offsets(cell: Floats, shifts: Ints) -> Floats:
    """Return S·cell, (E, 3) in Å."""
    s = shifts.astype(np.float64)
    return (s[:, :1] * cell[0] + s[:, 1:2] * cell[1]) + s[:, 2:] * cell[2]


def vectors_with_offsets(positions: Floats, edge_index: Ints, image: Ints, offset: Floats) -> Floats:
    """Return ``edge_vectors`` from what does not change while the cell and the list stay."""
    vectors = np.take(positions, edge_index[1], axis=0)
    vectors -= np.take(positions, edge_index[0], axis=0)
    vectors[image] += offset
    return vectors


def squared_lengths(vectors: Floats) -> Floats:
    """Return (E,) squared lengths in Å²."""
    x, y, z = vectors.T
    return x * x + y * y + z * z


def checked(
    positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike, cutoff: float
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Return positions, cell and pbc as arrays, the cell with zeros on open axes; see ``neighbor_list`` for errors."""
    positions = np.ascontiguousarray(positions, dtype=np.float64)
    cell = np.array(cell, dtype=np.float64)
    pbc = np.array(np.broadcast_to(np.asarray(pbc, dtype=bool), (3,)))
    if positions.ndim != 2 or positions.shape[1] != 3 or cell.shape != (3, 3):
        raise ValueError(f"positions must be (N, 3) and cell (3, 3), got {positions.shape} and {cell.shape}")
    if not (np.isfinite(cutoff) and cutoff > 0.0):
        raise ValueError(f"the cutoff must be a positive length in Å, got {cutoff}")
    if not np.isfinite(positions).all():
        bad = np.nonzero(~np.isfinite(positions).all(axis=1))[0]
        raise NonFiniteError(f"positions are NaN or infinite for {name_atoms(bad)}")
    if not np.isfinite(cell[pbc]).all():
        raise NonFiniteError(f"the cell is NaN or infinite: {cell.tolist()}")
    cell[~pbc] = 0.0
    if pbc.any():
        rows = cell[pbc]
        lengths = np.linalg.norm(rows, axis=1)
        if (lengths == 0.0).any() or np.linalg.svd(rows / lengths[:, None], compute_uv=False)[-1] < 1e-10:
            raise ValueError(
                f"the cell vectors of the periodic axes are zero or parallel: {rows.tolist()}; "
                "set a cell, or pbc=False on those axes"
            )
    return positions, cell, pbc


def name_atoms(indices: ArrayLike, most: int = 10) -> str:
    """Return ``atom 3`` or ``atoms 3, 5, 8 and 12 more`` for messages."""
    listed = [int(i) for i in np.asarray(indices).ravel()]
    text = ", ".join(str(i) for i in listed[:most])
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return f"{'atom' if len(listed) == 1 else 'atoms'} {text}{more}"


def _close(positions: Floats, cell: Floats, pbc: NDArray[np.bool_], cutoff: float) -> Floats:
    """Make the cell periodic along all axes without a new edge.

    Open axes get vectors normal to the periodic ones and so long that no image comes within the cutoff. The search
    grid is then ours to foresee; the one that vesin makes for open axes can be very slow for scattered atoms.
    """
    if pbc.all():
        return cell
    box = cell.copy()
    n_periodic = int(pbc.sum())
    normals = np.eye(3) if n_periodic == 0 else np.linalg.svd(cell[pbc])[2][n_periodic:]
    box[~pbc] = normals * (np.ptp(positions @ normals.T, axis=0)[:, None] + cutoff + 1.0)
    return box


def _fits_a_grid(box: Floats, cutoff: float, n_atoms: int) -> bool:
    """Whether vesin's grid of cells suits the box.

    Its time grows with the number of cells, empty ones included (minutes for a few atoms spread over 1000 Å beside a
    short lattice vector). Where there are more than 1e5 it scales their numbers along all axes by one factor; in wide
    flat boxes one number becomes 0 and the process dies of a division (vesin 0.6.2).
    """
    cells = np.maximum(1.0 / (np.linalg.norm(np.linalg.inv(box), axis=0) * cutoff), 1.0)
    return bool(
        cells.prod() <= 64.0 + 8.0 * n_atoms
        and cells.min() * min(1.0, (5e4 / cells.prod()) ** (1.0 / 3.0)) >= (1.5 if cells.prod() > 5e4 else 0.0)
    )
