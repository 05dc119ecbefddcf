"""Relax atoms, and the cell with them, to a local minimum of the energy or enthalpy."""

from __future__ import annotations

import contextlib
import importlib
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.optimize
import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.constraints import FixSymmetry
from ase.filters import FrechetCellFilter
from ase.optimize.optimize import Optimizer
from ase.units import GPa

from mlcalc.errors import NonFiniteError, WorkflowError
from mlcalc.records import Record, describe_calculator
from mlcalc.workflows._structures import as_atoms, require_periodic, space_group
from mlcalc.workflows._warnings import ConvergenceWarning, WorkflowWarning

CELL_MODES = ("full", "isotropic", "shape")


@dataclass(frozen=True)
class RelaxResult(Record):
    """What a relaxation found.

    Attributes:
        atoms: the relaxed structure, with energy, forces (and stress) attached.
        initial_energy_ev: total energy before, eV.
        energy_ev: total energy after, eV.
        enthalpy_ev: energy + pressure · volume after, eV (equal to ``energy_ev`` without pressure).
        max_force_ev_per_ang: largest norm of a force left (after constraints), eV/Å.
        max_stress_residual_gpa: largest |stress + pressure| component among those free to relax, GPa; None for a fixed
            cell.
        converged: both criteria met.
        steps: optimiser steps taken.
        wall_time_s: seconds.
        spacegroup_before: e.g. ``"Fd-3m (227)"``; None if not periodic in three directions.
        spacegroup_after: the same for ``atoms``.
        settings: every option that made this result.
    """

    atoms: Atoms
    initial_energy_ev: float
    energy_ev: float
    enthalpy_ev: float
    max_force_ev_per_ang: float
    max_stress_residual_gpa: float | None
    converged: bool
    steps: int
    wall_time_s: float
    spacegroup_before: str | None
    spacegroup_after: str | None
    settings: dict[str, Any]


def relax(
    atoms: Any,
    calculator: Any,
    *,
    fmax: float = 0.01,
    cell: bool | str | Sequence[bool] = False,
    pressure_gpa: float = 0.0,
    stress_tolerance_gpa: float = 0.05,
    symmetry: bool = False,
    symprec: float = 1e-2,
    optimizer: str = "BFGS",
    max_steps: int = 500,
    trajectory: str | Path | None = None,
    log: str | Path | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> RelaxResult:
    """Relax a structure with any ASE calculator and any of ASE's local optimisers.

    The cell follows ASE's ``FrechetCellFilter`` (log-deformation coordinates, consistent with the energy). A result is
    converged when the largest force is at most ``fmax`` *and*, with a free cell, the stress residual is at most
    ``stress_tolerance_gpa``.

    Args:
        atoms: ASE Atoms or pymatgen Structure; not modified. Constraints on it are kept.
        calculator: an ASE calculator.
        fmax: largest allowed force, eV/Å.
        cell: False (fixed), ``"full"`` or True (six components), ``"isotropic"`` (volume only), ``"shape"`` (constant
            volume), or six booleans in the order xx, yy, zz, yz, xz, xy.
        pressure_gpa: external pressure, GPa; needs a free cell.
        stress_tolerance_gpa: largest allowed deviation of the stress from −pressure, GPa.
        symmetry: keep the space group found at the start (``ase.constraints.FixSymmetry``).
        symprec: tolerance of the symmetry search, Å.
        optimizer: a name in ``ase.optimize`` or ``"module:Class"``.
        max_steps: steps after which to give up.
        trajectory: ASE ``.traj`` file to write each step to.
        log: text log of the optimiser.
        progress: called with (step, largest force in eV/Å) after each step.

    Raises:
        WorkflowError: options that do not fit each other or the structure; no symmetry to keep, or a step too large to
            keep it.
        NonFiniteError: the calculator returned NaN or infinity.

    Warns:
        ConvergenceWarning: criteria not met within ``max_steps``.
        WorkflowWarning: the space group was to be kept and is another one afterwards.
    """
    start = time.perf_counter()
    work = as_atoms(atoms)
    mode, mask = _cell_mode(cell)
    if mode is not None:
        require_periodic(work, "relaxing the cell")
    elif pressure_gpa != 0.0:
        raise WorkflowError("pressure_gpa acts on the cell: give cell='full' (or 'isotropic', or a mask) with it")
    work.calc = calculator
    before = space_group(work, symprec)
    if symmetry:
        require_periodic(work, "keeping the symmetry")
        if before is None:
            raise WorkflowError(f"no space group to keep was found with symprec={symprec:g} Å: choose another symprec")
        work.set_constraint([*work.constraints, FixSymmetry(work, symprec=symprec)])

    initial_energy = _finite_energy(work, 0)
    pressure = pressure_gpa * GPa
    target: Any = work
    optimizer_class = _optimizer_class(optimizer)
    if mode is not None:
        # CellAwareBFGS insists on strain coordinates that are not scaled by the number of atoms.
        factor = 1.0 if optimizer_class.__name__ == "CellAwareBFGS" else None
        target = FrechetCellFilter(
            work,
            mask=mask,
            exp_cell_factor=factor,
            hydrostatic_strain=mode == "isotropic",
            constant_volume=mode == "shape",
            scalar_pressure=pressure,
        )
    elif optimizer_class.__name__ == "CellAwareBFGS":
        raise WorkflowError("optimizer CellAwareBFGS relaxes cells: give cell='full', or choose another optimizer")

    def residuals() -> tuple[float, float | None]:
        force = float(np.sqrt((work.get_forces() ** 2).sum(axis=1).max()))
        return force, None if mode is None else _stress_residual(work, mode, mask, pressure) / GPa

    def done(gradient: Any = None) -> bool:
        force, stress = residuals()
        return force <= fmax and (stress is None or stress <= stress_tolerance_gpa)

    search = optimizer_class(
        target, logfile=None if log is None else str(log), trajectory=None if trajectory is None else str(trajectory)
    )
    # ASE's criterion mixes forces with a stress scaled by the number of atoms; ours reads the same for every size.
    vars(search)["gradient_converged"] = done

    def observe() -> None:
        _finite_energy(work, search.nsteps)
        if progress is not None:
            progress(search.nsteps, residuals()[0])

    search.attach(observe)
    try:
        search.run(fmax=0.1 * fmax, steps=max_steps)
    except RuntimeError as error:
        if "FixSymmetry" not in str(error):
            raise
        raise WorkflowError(
            f"the symmetry cannot be kept at step {search.nsteps}: {error}. Start from a cell closer to the minimum, "
            "use another optimizer (FIRE takes small steps), or relax with symmetry=False"
        ) from error

    energy = _finite_energy(work, search.nsteps)
    force, stress = residuals()
    result = RelaxResult(
        atoms=_frozen(work),
        initial_energy_ev=initial_energy,
        energy_ev=energy,
        enthalpy_ev=energy + (pressure * work.get_volume() if mode is not None else 0.0),
        max_force_ev_per_ang=force,
        max_stress_residual_gpa=stress,
        converged=done(),
        steps=int(search.nsteps),
        wall_time_s=time.perf_counter() - start,
        spacegroup_before=before,
        spacegroup_after=space_group(work, symprec),
        settings={
            "calculator": describe_calculator(calculator),
            "fmax": fmax,
            "cell": mode if mask is None else [bool(item) for item in mask],
            "pressure_gpa": pressure_gpa,
            "stress_tolerance_gpa": stress_tolerance_gpa,
            "symmetry": symmetry,
            "symprec": symprec,
            "optimizer": optimizer,
            "max_steps": max_steps,
        },
    )
    if not result.converged:
        stress_text = "" if stress is None else f", stress residual {stress:.3g} GPa (wanted {stress_tolerance_gpa:g})"
        warnings.warn(
            f"relaxation of {work.get_chemical_formula()} NOT converged after {result.steps} steps: largest force "
            f"{force:.3g} eV/Å (wanted {fmax:g}){stress_text}. Raise max_steps or try another optimizer.",
            ConvergenceWarning,
            stacklevel=2,
        )
    if symmetry and result.spacegroup_after != before:
        warnings.warn(
            f"relaxation of {work.get_chemical_formula()} was to keep space group {before}, but {symprec:g} Å finds "
            f"{result.spacegroup_after} afterwards: it gained symmetry, or symprec is too tight or too loose",
            WorkflowWarning,
            stacklevel=2,
        )
    return result


def _cell_mode(cell: bool | str | Sequence[bool]) -> tuple[str | None, list[bool] | None]:
    if cell is False:
        return None, None
    if cell is True:
        return "full", None
    if isinstance(cell, str):
        if cell not in CELL_MODES:
            raise WorkflowError(f"unknown cell mode {cell!r}: choose from {', '.join(CELL_MODES)}, or six booleans")
        return cell, None
    mask = [bool(item) for item in cell]
    if len(mask) != 6 or not any(mask):
        raise WorkflowError(f"a cell mask is six booleans (xx, yy, zz, yz, xz, xy) with at least one True, got {mask}")
    return "mask", mask


def _stress_residual(atoms: Atoms, mode: str, mask: list[bool] | None, pressure: float) -> float:
    """Largest component, eV/Å³, of stress + pressure·1 that the cell is free to relax."""
    residual = atoms.get_stress() + pressure * np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    mean = residual[:3].mean()
    if mode == "isotropic":
        return float(abs(mean))
    if mode == "shape":
        residual[:3] -= mean
    if mask is not None:
        residual = residual[np.array(mask)]
    return float(np.abs(residual).max())


def _optimizer_class(name: str) -> type[Optimizer]:
    known = [item for item in ase.optimize.__all__ if item != "RestartError"] + ["QuasiNewton"]
    module, _, attribute = name.partition(":")
    if not attribute and name in known:
        return getattr(ase.optimize, name)
    if attribute:
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise WorkflowError(f"optimizer {name!r} cannot be imported: {error}") from error
    raise WorkflowError(f"unknown optimizer {name!r}: choose from {', '.join(sorted(set(known)))}, or 'module:Class'")


def _finite_energy(atoms: Atoms, step: int) -> float:
    energy = float(atoms.get_potential_energy())
    if not np.isfinite(energy):
        raise NonFiniteError(f"the calculator returned energy {energy} at step {step}")
    forces = atoms.get_forces(apply_constraint=False)
    if not np.isfinite(forces).all():
        bad = np.flatnonzero(~np.isfinite(forces).all(axis=1)).tolist()
        raise NonFiniteError(f"the calculator returned NaN or infinite forces on atoms {bad} at step {step}")
    return energy


def _frozen(atoms: Atoms) -> Atoms:
    """Copy with the last results attached, free of symmetry constraints and of the calculator itself."""
    from ase.calculators.singlepoint import SinglePointCalculator

    results: dict[str, Any] = {
        "energy": atoms.get_potential_energy(),
        "forces": atoms.get_forces(apply_constraint=False),
    }
    if atoms.pbc.all():
        with contextlib.suppress(PropertyNotImplementedError):
            results["stress"] = atoms.get_stress(apply_constraint=False)
    copy = atoms.copy()
    copy.set_constraint([item for item in atoms.constraints if not isinstance(item, FixSymmetry)])
    copy.calc = SinglePointCalculator(copy, **results)
    return copy
