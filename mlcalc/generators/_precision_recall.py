"""Whether a generator has collapsed: precision and recall of what it draws, against crystals it has not seen."""

from __future__ import annotations

import numpy as np

from mlcalc.crystals.codec import Codec
from mlcalc.crystals.coordinate_image import GEOMETRY, CoordinateImage
from mlcalc.generators._wyckoff_vocabulary import element_features


def features(arrays: np.ndarray, codec: Codec) -> np.ndarray:
    """Return (n, m) numbers in which near images are alike crystals.

    For coordinate images: lattice, coordinates, and what is known of each column's element (its place in the periodic
    table and its electronegativity). For others the array itself, averaged over blocks where it is large.
    """
    if not isinstance(codec, CoordinateImage):
        return _smaller(arrays).reshape(len(arrays), -1)
    known = element_features(codec.elements).numpy()
    kinds = np.einsum("nkc,kf->nfc", arrays[:, GEOMETRY + 1 :, 1:], known)
    geometry = arrays[:, :GEOMETRY]
    return np.concatenate([geometry.reshape(len(arrays), -1), kinds.reshape(len(arrays), -1)], axis=1)


def precision_and_recall(generated: np.ndarray, held_out: np.ndarray, neighbours: int = 3) -> tuple[float, float]:
    """Return the share of generated points among held-out ones, and the other way round.

    A point is among others if it is no further from one of them than that one's k-th neighbour in its own set
    (Kynkäänniemi et al., NeurIPS 2019). Features are scaled by their spread among held-out crystals. Low precision
    means crystals unlike any; low recall means that kinds of crystals are never drawn: collapse.

    Args:
        generated: (n, m) features.
        held_out: (k, m) features.
        neighbours: k.
    """
    spread = held_out.std(axis=0)
    scale = np.where(spread > 1e-6, spread, 1.0)
    a, b = generated / scale, held_out / scale
    return _inside(a, b, neighbours), _inside(b, a, neighbours)


def _inside(points: np.ndarray, others: np.ndarray, neighbours: int) -> float:
    from scipy.spatial.distance import cdist

    if len(others) < 2 or not len(points):
        return 0.0
    reach = np.sort(cdist(others, others), axis=1)[:, min(neighbours, len(others) - 1)]  # column 0 is the point itself
    return float((cdist(points, others) <= reach[None]).any(axis=1).mean())


def _smaller(arrays: np.ndarray) -> np.ndarray:
    """Average over pairs along every axis until a few thousand numbers are left."""
    while arrays[0].size > 4096 and all(n % 2 == 0 for n in arrays.shape[2:]):
        for axis in range(2, arrays.ndim):
            shape = (*arrays.shape[:axis], arrays.shape[axis] // 2, 2, *arrays.shape[axis + 1 :])
            arrays = arrays.reshape(shape).mean(axis=axis + 1)
    return arrays
