"""What must not change the physics: moving, turning, renumbering, wrapping, another choice of cell."""

from __future__ import annotations

import numpy as np
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress
from scipy.spatial.transform import Rotation

from mlcalc.workflows._check_context import Array, Context, Deviation, NotApplicableError, Numbers

# Unimodular: shears of the lattice, and a swap that makes the cell left-handed.
_EQUIVALENT = (
    ((1, 1, 0), (0, 1, 0), (0, 0, 1)),
    ((1, 0, 0), (-1, 1, 0), (0, 1, 1)),
    ((0, 1, 0), (1, 0, 0), (0, 0, 1)),
)


def translation(context: Context) -> list[Deviation]:
    """Move all atoms by a vector that is no lattice vector."""
    out = []
    for name, atoms in context.structures().items():
        moved = atoms.copy()
        moved.positions += [1.2345, -0.6789, 2.3456]
        out += context.differences(name, context.numbers(moved), context.numbers(atoms), context.noise[name])
    return out


def rotation(context: Context) -> list[Deviation]:
    """Turn atoms and cell; forces and stress must turn with them."""
    matrix = Rotation.random(random_state=context.seed + 1).as_matrix()
    return _turned(context, matrix)


def mirror(context: Context) -> list[Deviation]:
    """Invert the atoms at the origin; the lattice stays, since its inverse is itself."""
    return _turned(context, -np.eye(3), turn_cell=False)


def permutation(context: Context) -> list[Deviation]:
    """Renumber the atoms; forces must follow their atoms."""
    out = []
    for name, atoms in context.structures().items():
        if len(atoms) == 1:
            continue
        order = context.generator().permutation(len(atoms))
        wanted = context.numbers(atoms)
        expected = Numbers(wanted.energy, wanted.forces[order], wanted.stress)
        out += context.differences(name, context.numbers(atoms[order]), expected, context.noise[name])
    if not out:
        raise NotApplicableError("no structure with more than one atom")
    return out


def wrapping(context: Context) -> list[Deviation]:
    """Move atoms by whole lattice vectors."""
    out = []
    for name, atoms in context.structures().items():
        if not atoms.pbc.any():
            continue
        shifts = context.generator().integers(-2, 3, size=atoms.positions.shape) * atoms.pbc
        shifts[0] = np.where(atoms.pbc, [3, -2, 1], 0)  # something moves, whatever the seed
        moved = atoms.copy()
        moved.positions += shifts @ atoms.cell.array
        out += context.differences(name, context.numbers(moved), context.numbers(atoms), context.noise[name])
    if not out:
        raise NotApplicableError("no periodic structure")
    return out


def equivalent_cells(context: Context) -> list[Deviation]:
    """Describe one crystal by other lattice vectors of the same lattice; positions stay as they are."""
    out = []
    for name, atoms in (("crystal", context.crystal), ("small cell", context.small)):
        if atoms is None:
            continue
        wanted = context.numbers(atoms)
        for k, matrix in enumerate(_EQUIVALENT):
            other = atoms.copy()
            other.set_cell(np.array(matrix) @ atoms.cell.array, scale_atoms=False)
            what = f"{name}, choice {k + 1}"
            out += context.differences(what, context.numbers(other), wanted, context.noise[name])
    if not out:
        raise NotApplicableError("no structure that is periodic in three directions")
    return out


def _turned(context: Context, matrix: Array, turn_cell: bool = True) -> list[Deviation]:
    out = []
    for name, atoms in context.structures().items():
        wanted = context.numbers(atoms)
        stress = None
        if wanted.stress is not None:
            stress = full_3x3_to_voigt_6_stress(matrix @ voigt_6_to_full_3x3_stress(wanted.stress) @ matrix.T)
        expected = Numbers(wanted.energy, wanted.forces @ matrix.T, stress)
        turned = atoms.copy()
        if turn_cell:
            turned.set_cell(atoms.cell.array @ matrix.T, scale_atoms=False)
        turned.positions = atoms.positions @ matrix.T
        out += context.differences(name, context.numbers(turned), expected, context.noise[name])
    return out
