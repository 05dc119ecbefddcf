"""What relaxations of one structure and of many share: options, criteria, results."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixSymmetry
from ase.units import GPa
from numpy.typing import NDArray

from mlcalc.errors import NonFiniteError, WorkflowError
from mlcalc.records import Record
from mlcalc.workflows._structures import as_atoms, require_periodic, space_group
from mlcalc.workflows._warnings import ConvergenceWarning, WorkflowWarning

CELL_MODES = ("full", "isotropic", "shape")


@dataclass(frozen=True)
class RelaxResult(Record):
    """What a relaxation found.

    Attributes:
        atoms: the relaxed structure, with energy, forces (and stress) attached; after an error, as far as it came.
        initial_energy_ev: total energy before, eV.
        energy_ev: total energy after, eV.
        enthalpy_ev: energy + pressure · volume after, eV (equal to ``energy_ev`` without pressure).
        max_force_ev_per_ang: largest norm of a force left (after constraints), eV/Å.
        max_stress_residual_gpa: largest |stress + pressure| component among those free to relax, GPa; None for a fixed
            cell.
        converged: both criteria met.
        steps: optimiser steps taken.
        wall_time_s: seconds; of one among many, those from when it joined them.
        spacegroup_before: e.g. ``"Fd-3m (227)"``; None if not periodic in three directions.
        spacegroup_after: the same for ``atoms``.
        settings: every option that made this result.
        error: class and message of what ended the relaxation of one among many, whose energies are then NaN; None if
            nothing did. A relaxation of one structure raises instead.
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
    error: str | None = None


@dataclass(frozen=True)
class Criteria:
    """What a relaxation is asked for, checked.

    Attributes:
        mode: ``"full"``, ``"isotropic"``, ``"shape"``, ``"mask"``, or None for a fixed cell.
        mask: six booleans of mode ``"mask"``.
        settings: all options, as a record.
    """

    fmax: float
    mode: str | None
    mask: list[bool] | None
    pressure_gpa: float
    stress_tolerance_gpa: float
    symmetry: bool
    symprec: float
    max_steps: int
    settings: dict[str, Any]

    @classmethod
    def read(
        cls,
        calculator: str,
        *,
        fmax: float,
        cell: bool | str | Sequence[bool],
        pressure_gpa: float,
        stress_tolerance_gpa: float,
        symmetry: bool,
        symprec: float,
        optimizer: str,
        max_steps: int,
    ) -> Criteria:
        """Return the options of ``relax``; ``calculator`` is its description.

        Raises:
            WorkflowError: options that do not fit each other.
        """
        mode, mask = _cell_mode(cell)
        if mode is None and pressure_gpa != 0.0:
            raise WorkflowError("pressure_gpa acts on the cell: give cell='full' (or 'isotropic', or a mask) with it")
        settings = {
            "calculator": calculator,
            "fmax": fmax,
            "cell": mode if mask is None else mask,
            "pressure_gpa": pressure_gpa,
            "stress_tolerance_gpa": stress_tolerance_gpa,
            "symmetry": symmetry,
            "symprec": symprec,
            "optimizer": optimizer,
            "max_steps": max_steps,
        }
        return cls(fmax, mode, mask, pressure_gpa, stress_tolerance_gpa, symmetry, symprec, max_steps, settings)

    @property
    def pressure(self) -> float:
        """The external pressure, eV/Å³."""
        return self.pressure_gpa * GPa

    def begin(self, structure: Any) -> tuple[Atoms, str | None]:
        """Return a copy to work on, constrained to its symmetry if that is asked for, and its space group.

        Raises:
            WorkflowError: the structure does not suit the options.
        """
        work = as_atoms(structure)
        if self.mode is not None:
            require_periodic(work, "relaxing the cell")
        before = space_group(work, self.symprec)
        if self.symmetry:
            require_periodic(work, "keeping the symmetry")
            if before is None:
                raise WorkflowError(
                    f"no space group to keep was found with symprec={self.symprec:g} Å: choose another symprec"
                )
            work.set_constraint([*work.constraints, FixSymmetry(work, symprec=self.symprec)])
        return work, before

    def stress_residual_gpa(self, stress: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the largest component of stress (…, 6) in eV/Å³ + pressure·1 that the cell is free to relax, GPa."""
        residual = stress + self.pressure * np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
        mean = residual[..., :3].mean(axis=-1, keepdims=True)
        if self.mode == "isotropic":
            return np.abs(mean[..., 0]) / GPa
        if self.mode == "shape":
            residual[..., :3] -= mean
        if self.mask is not None:
            residual = residual[..., np.array(self.mask)]
        return np.abs(residual).max(axis=-1) / GPa

    def residuals(self, work: Atoms) -> tuple[float, float | None]:
        """Return the largest force, eV/Å, and the stress residual, GPa, of atoms with a calculator."""
        force = float(np.sqrt((work.get_forces() ** 2).sum(axis=1).max()))
        return force, None if self.mode is None else float(self.stress_residual_gpa(work.get_stress()))

    def is_met(self, force: float, stress_gpa: float | None) -> bool:
        """Return whether these residuals are small enough."""
        return force <= self.fmax and (stress_gpa is None or stress_gpa <= self.stress_tolerance_gpa)

    def result(
        self, work: Atoms, before: str | None, initial_energy: float, steps: int, wall_time_s: float
    ) -> RelaxResult:
        """Return the record of atoms with a calculator.

        Raises:
            NonFiniteError: the calculator returned NaN or infinity.
        """
        energy = finite_energy(work, steps)
        force, stress = self.residuals(work)
        return RelaxResult(
            atoms=_frozen(work),
            initial_energy_ev=initial_energy,
            energy_ev=energy,
            enthalpy_ev=energy + (self.pressure * work.get_volume() if self.mode is not None else 0.0),
            max_force_ev_per_ang=force,
            max_stress_residual_gpa=stress,
            converged=self.is_met(force, stress),
            steps=steps,
            wall_time_s=wall_time_s,
            spacegroup_before=before,
            spacegroup_after=space_group(work, self.symprec),
            settings=self.settings,
        )

    def failure(
        self,
        error: Exception,
        atoms: Atoms,
        before: str | None = None,
        initial_energy: float = float("nan"),
        steps: int = 0,
        wall_time_s: float = 0.0,
    ) -> RelaxResult:
        """Return the record of a relaxation that an error ended; ``atoms`` is how far it came."""
        nan = float("nan")
        left = atoms.copy()
        left.set_constraint([item for item in atoms.constraints if not isinstance(item, FixSymmetry)])
        text = f"{type(error).__name__}: {error}"
        return RelaxResult(
            *(left, initial_energy, nan, nan, nan, None if self.mode is None else nan, False, steps, wall_time_s),
            *(before, None, self.settings, text),
        )

    def warn(self, result: RelaxResult, stacklevel: int) -> None:
        """Warn of one result that should not be trusted as it stands."""
        formula = result.atoms.get_chemical_formula()
        if not result.converged:
            stress = result.max_stress_residual_gpa
            text = (
                "" if stress is None else f", stress residual {stress:.3g} GPa (wanted {self.stress_tolerance_gpa:g})"
            )
            warnings.warn(
                f"relaxation of {formula} NOT converged after {result.steps} steps: largest force "
                f"{result.max_force_ev_per_ang:.3g} eV/Å (wanted {self.fmax:g}){text}. Raise max_steps or try another "
                "optimizer.",
                ConvergenceWarning,
                stacklevel=stacklevel + 1,
            )
        if self.lost_symmetry(result):
            warnings.warn(
                f"relaxation of {formula} was to keep space group {result.spacegroup_before}, but {self.symprec:g} Å "
                f"finds {result.spacegroup_after} afterwards: it gained symmetry, or symprec is too tight or too loose",
                WorkflowWarning,
                stacklevel=stacklevel + 1,
            )

    def lost_symmetry(self, result: RelaxResult) -> bool:
        """Return whether the space group was to be kept and is another one."""
        return self.symmetry and result.error is None and result.spacegroup_after != result.spacegroup_before


def symmetry_error(error: RuntimeError, step: int) -> WorkflowError:
    """Return what to say of a step that ``FixSymmetry`` refused."""
    return WorkflowError(
        f"the symmetry cannot be kept at step {step}: {error}. Start from a cell closer to the minimum, "
        "use another optimizer (FIRE takes small steps), or relax with symmetry=False"
    )


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


def finite_energy(atoms: Atoms, step: int) -> float:
    """Return the energy, eV.

    Raises:
        NonFiniteError: it or a force is NaN or infinite.
    """
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
