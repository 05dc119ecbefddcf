"""Strain, stress and stiffness as vectors and matrices, and what rotations do to them.

Outside: Voigt's order xx, yy, zz, yz, xz, xy with engineering shear (twice the tensor component), in Cartesian axes.
Inside: Mandel's form of the same order, where shear carries √2 in strain and stress alike, so that rotations are
orthogonal matrices and no factor 2 can be forgotten.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import spglib
from ase import Atoms
from numpy.typing import NDArray

Array = NDArray[np.float64]

NAMES = ("xx", "yy", "zz", "yz", "xz", "xy")
_PAIRS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
_ROOT = np.array([1.0, 1.0, 1.0, *[np.sqrt(2.0)] * 3])
# A subset of strains is taken if it sees every elastic constant at least this well; all six see each with weight 1.
_VISIBILITY = 0.25


def tensor_of(mandel: Array) -> Array:
    """Return the symmetric (3, 3) tensor of a Mandel vector (6,)."""
    tensor = np.zeros((3, 3))
    for (i, j), value in zip(_PAIRS, np.asarray(mandel) / _ROOT, strict=True):
        tensor[i, j] = tensor[j, i] = value
    return tensor


def vector_of(tensor: Array) -> Array:
    """Return the Mandel vector (6,) of a symmetric (3, 3) tensor."""
    return np.array([tensor[i, j] for i, j in _PAIRS]) * _ROOT


def stress_vector(stress: Array) -> Array:
    """Return the Mandel vector of a stress in Voigt's form (6,)."""
    return np.asarray(stress) * _ROOT


def to_voigt(mandel: Array) -> Array:
    """Return a stiffness matrix (6, 6) in Voigt's form from Mandel's."""
    return np.asarray(mandel) / np.outer(_ROOT, _ROOT)


def to_mandel(voigt: Array) -> Array:
    """Return a stiffness matrix (6, 6) in Mandel's form from Voigt's."""
    return np.asarray(voigt) * np.outer(_ROOT, _ROOT)


def rotation_matrix(rotation: Array) -> Array:
    """Return the orthogonal (6, 6) matrix by which a rotation (3, 3) acts on Mandel vectors."""
    return np.array([vector_of(rotation @ tensor_of(unit) @ rotation.T) for unit in np.eye(6)]).T


def rotate_stiffness(stiffness_gpa: Array, rotation: Array) -> Array:
    """Return a stiffness tensor (6, 6; Voigt) of a crystal that was rotated by ``rotation`` (3, 3): r' = R r."""
    matrix = rotation_matrix(np.asarray(rotation, dtype=np.float64))
    return to_voigt(matrix @ to_mandel(stiffness_gpa) @ matrix.T)


def point_group(atoms: Atoms, symprec: float) -> list[Array]:
    """Return the rotations (3, 3) of a periodic structure in its own Cartesian axes, each orthogonal to rounding."""
    try:
        found = spglib.get_symmetry((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=symprec)
    except Exception as error:  # spglib >= 2.7 raises its own error class instead of returning None
        if type(error).__module__.split(".")[0] != "spglib":
            raise
        found = None
    if found is None:
        return [np.eye(3)]
    columns = atoms.cell.array.T
    rotations = []
    for matrix in np.unique(found["rotations"], axis=0):
        left, _, right = np.linalg.svd(columns @ matrix @ np.linalg.inv(columns))
        rotations.append(left @ right)
    return rotations


def invariant_basis(rotations: list[Array]) -> Array:
    """Return an orthonormal basis (K, 6, 6) of the symmetric Mandel matrices that all rotations leave alone.

    K is the number of independent elastic constants: 3 for cubic, 21 for triclinic crystals.
    """
    upper = np.triu_indices(6)
    units = np.zeros((21, 6, 6))
    for k, (i, j) in enumerate(zip(*upper, strict=True)):
        units[k, i, j] = units[k, j, i] = 1.0 if i == j else np.sqrt(0.5)
    matrices = [rotation_matrix(rotation) for rotation in rotations]
    averaged = np.mean([np.einsum("ab,kbc,dc->kad", m, units, m) for m in matrices], axis=0)
    projector = np.einsum("kab,lab->kl", units, averaged)
    values, vectors = np.linalg.eigh(0.5 * (projector + projector.T))
    return np.einsum("kl,kab->lab", vectors[:, values > 0.5], units)


def needed_strains(basis: Array) -> tuple[int, ...]:
    """Return the fewest of the six unit strains whose stresses determine every constant of ``basis`` (K, 6, 6) well."""
    for count in range(1, 7):
        visible = {
            chosen: np.linalg.svd(basis[:, :, list(chosen)].reshape(len(basis), -1), compute_uv=False)[-1]
            for chosen in combinations(range(6), count)
            if 6 * count >= len(basis)
        }
        # Ties go to the first in Voigt's order, whatever the last digits say.
        good = {chosen: round(float(value), 6) for chosen, value in visible.items() if value > _VISIBILITY}
        if good:
            return max(good, key=lambda chosen: good[chosen])
    return tuple(range(6))


def fit_stiffness(basis: Array, strains: tuple[int, ...], slopes: Array) -> tuple[Array, float]:
    """Return the Mandel matrix in ``basis`` nearest to measured columns, and the largest component that it misses.

    Args:
        basis: (K, 6, 6) from ``invariant_basis``.
        strains: S indices of unit strains.
        slopes: (S, 6) Mandel stress per strain.
    """
    design = basis[:, :, list(strains)].transpose(0, 2, 1).reshape(len(basis), -1)
    weights = np.linalg.lstsq(design.T, slopes.ravel(), rcond=None)[0]
    matrix = np.einsum("k,kab->ab", weights, basis)
    matrix[np.abs(matrix) < 1e-12 * np.abs(matrix).max()] = 0.0  # rounding
    return matrix, float(np.abs(weights @ design - slopes.ravel()).max())


def fit_slopes(sizes: Array, odd: Array) -> tuple[Array, float]:
    """Slope at zero (S, 6) of odd stresses (S, A, 6) against strain, and the largest miss over the largest strain."""
    design = np.stack([sizes, sizes**3], axis=1)[:, : min(len(sizes), 2)]
    unit = design / np.abs(design).max(axis=0)
    weights = np.linalg.pinv(unit)
    coefficients = np.einsum("ka,sai->ski", weights, odd)
    missed = np.abs(np.einsum("ak,ski->sai", unit, coefficients) - odd).max()
    return coefficients[:, 0] / sizes[-1], float(missed / sizes[-1])
