"""Simulation boxes: the same crystal in LAMMPS' restricted triclinic frame.

LAMMPS wants a right-handed box with a along x and b in the xy plane. A cell gets there by choosing other lattice
vectors of the same lattice (an integer matrix: an exchange for left-handed cells, reduction of long tilts) and by a
proper rotation. Nothing is ever mirrored, so chirality, forces and stress stay what they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

from mlcalc.errors import LammpsError

Array = NDArray[np.float64]
_MARGIN = 2.0  # Å of room around the atoms along axes without periodicity


@dataclass(frozen=True)
class LammpsBox:
    """A cell as LAMMPS holds it, and the way back.

    Attributes:
        cell: (3, 3) rows a, b, c in Å, lower triangular with positive diagonal.
        origin: (3,) lower corner in Å, LAMMPS frame.
        pbc: periodicity along the rows of ``cell``.
        relabelling: (3, 3) integers T with determinant ±1: rows of ``cell`` are ``T @ cell_ase @ rotation`` (along
            axes without periodicity the box is made to hold the atoms instead).
        rotation: (3, 3) proper rotation Q: a row vector v of the ASE frame is ``v @ Q`` in LAMMPS.
    """

    cell: Array
    origin: Array
    pbc: tuple[bool, bool, bool]
    relabelling: NDArray[np.int64]
    rotation: Array

    @property
    def volume(self) -> float:
        """Volume in Å³."""
        return float(np.prod(np.diag(self.cell)))

    def vectors_to_lammps(self, vectors: ArrayLike) -> Array:
        """Rotate positions, velocities or forces (…, 3) into the LAMMPS frame."""
        return np.asarray(vectors, dtype=float) @ self.rotation

    def vectors_to_ase(self, vectors: ArrayLike) -> Array:
        """Rotate (…, 3) back."""
        return np.asarray(vectors, dtype=float) @ self.rotation.T

    def tensors_to_ase(self, tensors: ArrayLike) -> Array:
        """Rotate second-rank tensors (…, 3, 3) back."""
        return np.asarray(self.rotation @ np.asarray(tensors, dtype=float) @ self.rotation.T)

    def cell_to_ase(self, cell: ArrayLike) -> Array:
        """Return lattice vectors (3, 3) in the ASE frame and labelling for a LAMMPS cell, e.g. one that has changed.

        A LAMMPS run keeps its frame, so the rotation is the one at the start.
        """
        inverse = np.rint(np.linalg.inv(self.relabelling))
        return np.asarray(inverse @ self.vectors_to_ase(cell))


def make_box(atoms: Atoms, margin: float = _MARGIN) -> LammpsBox:
    """Return the LAMMPS box of a structure, any handedness and any periodicity.

    Along axes without periodicity the box spans the atoms plus ``margin`` Å on either side, perpendicular to the
    periodic axes, whatever the cell says.

    Raises:
        LammpsError: if periodic lattice vectors are missing or linearly dependent, or numbers are not finite.
    """
    pbc = np.asarray(atoms.pbc, dtype=bool)
    positions = atoms.get_positions()
    vectors = np.array(atoms.cell.array, dtype=float)
    if not (np.isfinite(positions).all() and np.isfinite(vectors).all()):
        raise LammpsError("positions or cell are NaN or infinite")
    vectors = _complete(vectors, pbc)
    relabelling = np.eye(3, dtype=np.int64)
    if np.linalg.det(vectors) < 0:
        # Exchange two like axes where there are two, so that periodicity keeps its place.
        first, second = (0, 1) if pbc[0] == pbc[1] else (0, 2) if pbc[0] == pbc[2] else (1, 2)
        relabelling[[first, second]] = relabelling[[second, first]]
    relabelling = _reduce(vectors, relabelling, pbc)
    relabelled = relabelling @ vectors
    periodic = pbc[np.abs(relabelling).argmax(axis=1)] if not pbc.all() else pbc
    # Relabelled rows = L Q^T with L lower triangular.
    q, r = np.linalg.qr(relabelled.T)
    signs = np.sign(np.diag(r))
    rotation, cell = q * signs, (r.T * signs)
    cell[np.triu_indices(3, 1)] = 0.0
    cell[np.abs(cell) < 1e-13 * np.abs(cell).max()] = 0.0

    origin = np.zeros(3)
    if not periodic.all():
        fractional = (positions @ rotation) @ np.linalg.inv(cell)
        for k in np.flatnonzero(~periodic):
            length = cell[k, k]  # perpendicular to all periodic axes by construction
            low = fractional[:, k].min() * length if len(atoms) else 0.0
            high = fractional[:, k].max() * length if len(atoms) else 0.0
            cell[k, k] = high - low + 2 * margin
            origin[k] = low - margin
    return LammpsBox(cell, origin, tuple(bool(p) for p in periodic), relabelling, rotation)  # type: ignore[arg-type]


def _complete(vectors: Array, pbc: NDArray[np.bool_]) -> Array:
    """Replace lattice vectors of axes without periodicity by unit vectors perpendicular to all others."""
    periodic = vectors[pbc]
    lengths = np.linalg.norm(periodic, axis=1)
    singular = np.linalg.svd(periodic / lengths[:, None], compute_uv=False) if (lengths > 0).all() else np.zeros(1)
    if len(periodic) and singular.min() < 1e-8:
        raise LammpsError("the lattice vectors of the periodic axes are zero or linearly dependent")
    if pbc.all():
        return vectors
    out = vectors.copy()
    basis = [vector / length for vector, length in zip(periodic, lengths, strict=True)]
    for k in np.flatnonzero(~pbc):
        # The Cartesian axis that sticks out most, less its parts along the others.
        rest = np.eye(3)
        if basis:
            orthonormal = np.linalg.qr(np.array(basis).T)[0]
            rest = rest - orthonormal @ orthonormal.T
        preferred = np.linalg.norm(rest[k]) > 0.5
        best = rest[k] if preferred else rest[np.linalg.norm(rest, axis=1).argmax()]
        out[k] = best / np.linalg.norm(best)
        basis.append(out[k])
    return out


def _reduce(vectors: Array, relabelling: NDArray[np.int64], pbc: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Take multiples of earlier periodic rows off later ones while tilts exceed half a box length.

    Row operations of this kind leave the diagonal of L alone, so one pass in the order b−a, c−b, c−a is enough.
    """
    out = relabelling.copy()
    for row, other in ((1, 0), (2, 1), (2, 0)):
        kinds = [int(np.abs(relabelling[k]).argmax()) for k in (row, other)]
        if not (pbc[kinds[0]] and pbc[kinds[1]]):
            continue
        lower = np.linalg.qr((out @ vectors).T)[1].T
        turns = round(lower[row, other] / lower[other, other])
        out[row] -= turns * out[other]
    return out
