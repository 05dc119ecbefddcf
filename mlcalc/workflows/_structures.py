"""One way in for structures: ASE Atoms, pymatgen Structure or Molecule; and what every workflow asks of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.crystals import find_space_group
from mlcalc.errors import NonFiniteError, WorkflowError
from mlcalc.workflows._warnings import WorkflowWarning

_TAKEN = {"selective_dynamics", "magmom", "charge"}


def as_atoms(structure: Any) -> Atoms:
    """Return a copy of ``structure`` as ASE Atoms without a calculator.

    Of pymatgen's site properties, ``selective_dynamics`` become constraints, ``magmom`` and ``charge`` initial values.

    Args:
        structure: ``ase.Atoms``, or a pymatgen ``Structure`` or ``Molecule`` (anything ``AseAtomsAdaptor`` takes).

    Raises:
        WorkflowError: not a structure, a disordered one (sites named), or no atoms in it.
        NonFiniteError: NaN or infinite positions or cell.

    Warns:
        UserWarning: site properties that ASE has no place for are left out.
    """
    if isinstance(structure, Atoms):
        atoms = structure.copy()
    elif not getattr(structure, "is_ordered", True):
        mixed = [f"site {i} ({site.species_string})" for i, site in enumerate(structure) if not site.is_ordered]
        raise WorkflowError(
            f"the structure {structure.formula} is disordered: {', '.join(mixed[:5])}"
            + (f" and {len(mixed) - 5} more" if len(mixed) > 5 else "")
            + ". Put one element on each site first, e.g. with pymatgen's OrderDisorderedStructureTransformation"
        )
    elif hasattr(structure, "species") and hasattr(structure, "cart_coords"):
        from pymatgen.io.ase import AseAtomsAdaptor

        converted = AseAtomsAdaptor.get_atoms(structure, msonable=False)
        atoms = Atoms(
            converted.numbers,
            positions=converted.positions,
            cell=converted.cell,
            pbc=converted.pbc,
            info=converted.info,
            constraint=converted.constraints,
        )
        for name in ("initial_magmoms", "initial_charges"):
            if converted.has(name):
                atoms.set_array(name, converted.get_array(name))
        lost = sorted(set(structure.site_properties) - _TAKEN)
        if lost:
            warnings.warn(f"site properties {', '.join(lost)} of the structure are left out", stacklevel=3)
    else:
        raise WorkflowError(f"expected ase.Atoms or a pymatgen Structure, got {type(structure).__name__}")
    if len(atoms) == 0:
        raise WorkflowError("the structure has no atoms")
    if not np.isfinite(atoms.positions).all():
        bad = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1)).tolist()
        raise NonFiniteError(f"positions of atoms {bad} are NaN or infinite")
    if not np.isfinite(atoms.cell.array).all():
        raise NonFiniteError("the cell holds NaN or infinite numbers")
    return atoms


def space_group(atoms: Atoms, symprec: float) -> str | None:
    """Return the space group as ``"Fd-3m (227)"``; None for what is not periodic in three directions."""
    if not _is_crystal(atoms):
        return None
    found = find_space_group(atoms, symprec)
    return f"{found.symbol} ({found.number})" if found else None


def require_periodic(atoms: Atoms, purpose: str) -> None:
    """Raise WorkflowError unless ``atoms`` is periodic in three directions."""
    if not _is_crystal(atoms):
        raise WorkflowError(
            f"{purpose} needs a cell that is periodic in three directions; pbc is {atoms.pbc.tolist()}, the volume "
            f"{abs(np.linalg.det(atoms.cell.array)):.3g} Å³"
        )


def _is_crystal(atoms: Atoms) -> bool:
    lengths = np.linalg.norm(atoms.cell.array, axis=1)
    return bool(atoms.pbc.all() and abs(np.linalg.det(atoms.cell.array)) > 1e-10 * lengths.prod())


def without_constraints(atoms: Atoms, purpose: str) -> Atoms:
    """Return ``atoms`` free of constraints, with a warning if there were any."""
    if not atoms.constraints:
        return atoms
    names = sorted({type(item).__name__ for item in atoms.constraints})
    warnings.warn(f"{purpose} leaves no atom fixed: {', '.join(names)} left out", WorkflowWarning, stacklevel=3)
    free = atoms.copy()
    free.set_constraint()
    return free


def magnetic_moments(atoms: Atoms) -> NDArray[np.float64] | None:
    """Return initial magnetic moments, (N,) or (N, 3); None where all are zero."""
    moments = atoms.get_initial_magnetic_moments()
    return moments if moments.any() else None


def moved_like(atoms: Atoms, record: Mapping[str, Any]) -> Atoms:
    """Return ``atoms`` with cell and positions of a record made by ``jsonable``; all else, like moments, stays."""
    moved = atoms.copy()
    moved.set_cell(record["cell"])
    moved.positions = np.array(record["positions"])
    return moved
