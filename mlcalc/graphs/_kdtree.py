"""Edges by a k-d tree over explicit images: slower than a cell list, but at home in boxes of any shape."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree


def kdtree_edges(
    positions: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_], cutoff: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return edges (2, E) sorted by centre and shifts (E, 3), as ``mlcalc.graphs.neighbor_list``."""
    axes = np.nonzero(pbc)[0]
    dual = np.linalg.pinv(cell[axes])
    scaled = positions @ dual
    home = np.floor(scaled).astype(np.int64)
    scaled = scaled - home
    wrapped = positions - home @ cell[axes]
    reach = cutoff * np.linalg.norm(dual, axis=0) + 1e-9

    atoms, points, images = [], [], []
    for shift in itertools.product(*(range(-int(r + 1.0), int(r + 1.0) + 1) for r in reach)):
        image = np.array(shift, dtype=np.int64)
        near = np.nonzero(((scaled + image > -reach) & (scaled + image < 1.0 + reach)).all(axis=1))[0]
        atoms.append(near)
        points.append(wrapped[near] + image @ cell[axes])
        images.append(np.broadcast_to(image, (len(near), len(axes))))
    atom, image = np.concatenate(atoms), np.concatenate(images)

    pairs = cKDTree(wrapped).sparse_distance_matrix(cKDTree(np.concatenate(points)), cutoff, output_type="ndarray")
    i, ghost = pairs["i"].astype(np.int64), pairs["j"].astype(np.int64)
    j = atom[ghost]
    shifts = np.zeros((len(i), 3), dtype=np.int64)
    shifts[:, axes] = image[ghost]
    other = (i != j) | shifts.any(axis=1)
    i, j, shifts = i[other], j[other], shifts[other]
    shifts[:, axes] += home[i] - home[j]
    order = np.lexsort((shifts[:, 2], shifts[:, 1], shifts[:, 0], j, i))
    return np.stack([i[order], j[order]]), shifts[order]
