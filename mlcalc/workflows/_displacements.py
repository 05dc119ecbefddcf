"""Forces on displaced supercells, for phonons and heat conduction: from a relaxed cell to phonopy's, kept on disk."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from phonopy.structure.atoms import PhonopyAtoms

from mlcalc.errors import NonFiniteError, WorkflowError
from mlcalc.workflows._steps import load_arrays, save_arrays
from mlcalc.workflows._structures import magnetic_moments
from mlcalc.workflows._warnings import WorkflowWarning, warn_of_single_precision

FORCES = "displacement_forces.npz"


def supercell_repeats(cell: Atoms, supercell: Sequence[int] | None, min_length: float) -> list[int]:
    """Return repetitions as asked for, or the fewest that make every height at least ``min_length``, Å."""
    if supercell is None:
        heights = 1.0 / np.linalg.norm(np.linalg.inv(cell.cell.array), axis=0)
        return [int(n) for n in np.ceil(min_length / heights - 1e-6).clip(1)]
    repeats = [int(n) for n in supercell]
    if len(repeats) != 3 or min(repeats) < 1:
        raise WorkflowError(f"supercell is three positive integers, got {list(supercell)}")
    return repeats


def phonopy_cell(cell: Atoms) -> PhonopyAtoms:
    """Return ``cell`` as phonopy wants it; initial magnetic moments take part in its symmetry."""
    return PhonopyAtoms(
        symbols=cell.get_chemical_symbols(),
        cell=cell.cell.array,
        scaled_positions=cell.get_scaled_positions(),
        masses=cell.get_masses(),
        magnetic_moments=magnetic_moments(cell),
    )


def residual_force(cell: Atoms, calculator: Any, tolerance: float, precise: str) -> float:
    """Return the largest force in the structure as given, eV/Å, with warnings if derivatives there will mean little.

    Args:
        cell: free of constraints.
        calculator: an ASE calculator.
        tolerance: largest force without a warning, eV/Å.
        precise: what needs double precision.
    """
    warn_of_single_precision(calculator, precise, stacklevel=3)
    residual = float(np.linalg.norm(finite_forces(cell, calculator, "the structure as given"), axis=1).max())
    if residual > tolerance:
        warnings.warn(
            f"the structure is NOT relaxed: forces up to {residual:.3g} eV/Å (tolerance {tolerance:g}). Relax it "
            "first: phonons away from a minimum can be imaginary without meaning anything.",
            WorkflowWarning,
            stacklevel=3,
        )
    return residual


def finite_forces(atoms: Atoms, calculator: Any, what: str) -> NDArray[np.float64]:
    """Return forces (N, 3), eV/Å.

    Raises:
        NonFiniteError: the calculator returned NaN or infinity.
    """
    work = atoms.copy()
    work.calc = calculator
    forces = np.asarray(work.get_forces(), dtype=np.float64)
    if not np.isfinite(forces).all():
        bad = np.flatnonzero(~np.isfinite(forces).all(axis=1)).tolist()
        raise NonFiniteError(f"the calculator returned NaN or infinite forces on atoms {bad} of {what}")
    return forces


def displacement_forces(
    cells: Sequence[PhonopyAtoms],
    calculator: Any,
    folder: Path | None,
    identity: dict[str, Any],
    progress: Callable[[int, int], None] | None,
) -> NDArray[np.float64]:
    """Return forces (D, N, 3) on every displaced supercell, from and to the file of an earlier run where there is one.

    Args:
        cells: displaced supercells.
        calculator: an ASE calculator.
        folder: where forces are kept after each supercell; None keeps none.
        identity: what must be the same for kept forces to belong to this call.
        progress: called with (displacements done, displacements in all).

    Raises:
        WorkflowError: the forces in ``folder`` belong to another call, or their file is damaged.
        NonFiniteError: the calculator returned NaN or infinity.
    """
    done: list[NDArray[np.float64]] = []
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        kept = load_arrays(folder / FORCES, identity)
        done = [] if kept is None else list(kept["forces"])
    for index in range(len(done), len(cells)):
        cell = cells[index]
        displaced = Atoms(
            cell.symbols,
            positions=cell.positions,
            cell=cell.cell,
            pbc=True,
            masses=cell.masses,
            magmoms=cell.magnetic_moments,
        )
        done.append(finite_forces(displaced, calculator, f"displaced supercell {index + 1}"))
        if folder is not None:
            save_arrays(folder / FORCES, identity, forces=np.array(done))
        if progress is not None:
            progress(index + 1, len(cells))
    return np.array(done)
