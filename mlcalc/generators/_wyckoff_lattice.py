"""Free lattice parameters as numbers a network can predict: log volume per atom, log ratios, angles."""

from __future__ import annotations

import numpy as np

from mlcalc.crystals._tables import primitive_vectors
from mlcalc.crystals.description import full_cell, reduced_cell
from mlcalc.errors import CrystalError

_ANGLE = 30.0  # degrees


def _shape_volume(cosines: np.ndarray) -> float:
    """Volume of a cell with unit lengths."""
    square = 1 - (cosines**2).sum() + 2 * cosines.prod()
    if square <= 1e-8:
        raise CrystalError(f"no cell has angles with the cosines {cosines.tolist()}")
    return float(np.sqrt(square))


def to_shape(number: int, lattice: tuple[float, ...], atoms: int) -> np.ndarray:
    """Return (6,) log of volume per atom (Å³), log b/a, log c/a, (α, β, γ - 90°) / 30°.

    Args:
        number: space group.
        lattice: free parameters of the conventional cell.
        atoms: in the primitive cell.
    """
    cell = full_cell(number, lattice)
    a, b, c = cell[:3]
    volume = a * b * c * _shape_volume(np.cos(np.radians(cell[3:]))) * np.linalg.det(primitive_vectors(number))
    return np.array([np.log(volume / atoms), np.log(b / a), np.log(c / a), *(cell[3:] - 90) / _ANGLE])


def from_shape(number: int, shape: np.ndarray, atoms: int) -> tuple[float, ...]:
    """Undo ``to_shape``; entries that the crystal system fixes are ignored.

    Raises:
        CrystalError: no cell has such angles.
    """
    lengths = np.exp(np.array([0.0, shape[1], shape[2]]))
    angles = shape[3:] * _ANGLE + 90
    if (angles <= 1).any() or (angles >= 179).any():
        raise CrystalError(f"no cell has the angles {angles.tolist()}")
    # Through the free parameters and back, so that fixed ones take their values.
    cell = full_cell(number, reduced_cell(number, np.concatenate([lengths, angles])))
    unit = cell[:3].prod() * _shape_volume(np.cos(np.radians(cell[3:]))) * np.linalg.det(primitive_vectors(number))
    cell[:3] *= (np.exp(shape[0]) * atoms / unit) ** (1 / 3)
    return reduced_cell(number, cell)
