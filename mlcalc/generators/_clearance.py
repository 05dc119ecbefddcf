"""How close atoms come in many coordinate images at once."""

from __future__ import annotations

from itertools import product

import numpy as np
from ase.data import atomic_numbers, covalent_radii

from mlcalc.crystals.coordinate_image import GEOMETRY, CoordinateImage

_SHIFTS = np.array(list(product((-1, 0, 1), repeat=3)), dtype=float)


def clearance(images: np.ndarray, codec: CoordinateImage) -> np.ndarray:
    """Return (B,) smallest distances in units of the sum of covalent radii, own images included.

    Looks at the 27 nearest cells, which is enough unless a cell is very flat: for searches; what comes out is judged by
    ``closest_pair``. 0 where a cell is none.

    Args:
        images: (B, channels, columns).
        codec: of the images.
    """
    logs = images[:, :GEOMETRY, 0].astype(float)
    matrix = np.zeros((len(images), 3, 3))
    for k, (i, j) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
        scale = 1.0 if k < 3 else 1 / np.sqrt(2)
        matrix[:, i, j] = matrix[:, j, i] = logs[:, k] * scale + (np.log(codec.length_ang) if k < 3 else 0.0)
    values, vectors = np.linalg.eigh(matrix)
    # The symmetric root: the same lattice as the codec's, turned.
    cell = (vectors * np.exp(np.clip(values, -7, 7))[:, None]) @ vectors.transpose(0, 2, 1)
    cosines, sines = images[:, 0:GEOMETRY:2, 1:], images[:, 1:GEOMETRY:2, 1:]
    scaled = (np.arctan2(sines, cosines) / (2 * np.pi)).transpose(0, 2, 1)
    apart = scaled[:, :, None] - scaled[:, None]
    apart -= np.rint(apart)
    distance = np.linalg.norm(np.einsum("bijsx,bxy->bijsy", apart[:, :, :, None] + _SHIFTS, cell), axis=4)
    n = scaled.shape[1]
    distance[:, range(n), range(n), len(_SHIFTS) // 2] = np.inf  # an atom itself
    radii = np.array([np.nan, *(covalent_radii[atomic_numbers[e]] for e in codec.elements)])
    radius = radii[images[:, GEOMETRY:, 1:].argmax(axis=1)]
    ratio = distance.min(axis=3) / (radius[:, :, None] + radius[:, None])
    # Empty columns have no radius.
    return np.nan_to_num(np.nanmin(ratio.reshape(len(images), -1), axis=1), nan=0.0)
