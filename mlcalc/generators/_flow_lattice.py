"""Lattices as six numbers that rotations leave alone.

The metric G = L Lᵀ of the rows of a cell is the square of one symmetric matrix S, whose logarithm lives in a plain
vector space: its trace is the logarithm of the volume, its traceless part the shape. Any (6,) vector is a lattice, a
cubic one has five zeros, and the cell given back is S itself.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from ase import Atoms
from ase.geometry import minkowski_reduce
from spglib import niggli_reduce
from torch import Tensor


def _basis() -> np.ndarray:
    """Orthonormal symmetric matrices, (6, 3, 3); the first one is the identity."""
    basis = np.zeros((6, 3, 3))
    basis[0] = np.eye(3) / math.sqrt(3)
    basis[1] = np.diag([1.0, -1.0, 0.0]) / math.sqrt(2)
    basis[2] = np.diag([1.0, 1.0, -2.0]) / math.sqrt(6)
    for k, (i, j) in enumerate(((0, 1), (0, 2), (1, 2))):
        basis[3 + k, i, j] = basis[3 + k, j, i] = 1 / math.sqrt(2)
    return basis


_BASIS = _basis()


def to_shape(cell: np.ndarray, n_atoms: int) -> np.ndarray:
    """Return log(volume per atom / Å³) and the five numbers of the shape, (6,).

    Args:
        cell: (3, 3) rows in Å.
        n_atoms: atoms in it.
    """
    values, vectors = np.linalg.eigh(cell @ cell.T)
    logarithm = (vectors * (0.5 * np.log(values))) @ vectors.T
    shape = np.einsum("kij,ij->k", _BASIS, logarithm)
    shape[0] = np.trace(logarithm) - math.log(n_atoms)
    return shape


def to_cells(shape: Tensor, n_atoms: Tensor) -> Tensor:
    """Return symmetric cells, (B, 3, 3) in Å, from shapes (B, 6) and numbers of atoms (B,)."""
    basis = torch.from_numpy(_BASIS).to(shape)
    traceless = torch.einsum("bk,kij->bij", shape[:, 1:], basis[1:])
    edge = torch.exp((shape[:, 0] + torch.log(n_atoms.to(shape))) / 3)
    return edge[:, None, None] * torch.linalg.matrix_exp(traceless)


def reduced(atoms: Atoms) -> Atoms:
    """Return the same crystal in Niggli's cell, which does not depend on how the cell was chosen.

    Args:
        atoms: fully periodic.
    """
    cell = atoms.cell.array
    lengths, angles = atoms.cell.lengths(), atoms.cell.angles()
    boxed = np.abs(angles - 90).max() < 1e-6 and (np.diff(lengths) > -1e-6).all()
    if not boxed:  # a box with axes in order is Niggli's already: its axes keep their names
        found = niggli_reduce(cell, eps=1e-4)
        cell = np.asarray(minkowski_reduce(atoms.cell)[0] if found is None else found)
    if np.linalg.det(cell) < 0:
        cell = -cell  # three inverted vectors span the same lattice
    copy = Atoms(atoms.numbers, cell=cell, positions=atoms.positions, pbc=True)
    copy.wrap()
    return copy
