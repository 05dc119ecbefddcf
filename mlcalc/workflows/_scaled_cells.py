"""A structure at several volumes, relaxed where that is asked for; what eos, qha and gruneisen start from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.errors import NonFiniteError, WorkflowError
from mlcalc.records import describe_calculator, structure_hash
from mlcalc.workflows._internal_freedom import free_internal_coordinates
from mlcalc.workflows._steps import FinishedSteps
from mlcalc.workflows._structures import moved_like
from mlcalc.workflows.relaxation import relax


@dataclass(frozen=True)
class ScaledCells:
    """Structures at ascending volumes.

    Attributes:
        structures: one for each factor.
        energy_ev: (P,) total energies.
        converged: (P,) whether the relaxation met its criteria; True where nothing was relaxed.
        options: what made them.
    """

    structures: tuple[Atoms, ...]
    energy_ev: NDArray[np.float64]
    converged: tuple[bool, ...]
    options: dict[str, Any]


def volume_scales(strain: float, points: int, given: Sequence[float] | None) -> list[float]:
    """Return ascending factors of the volume.

    Raises:
        WorkflowError: fewer than five, or not positive.
    """
    if given is not None:
        scales = sorted(float(item) for item in given)
        if len(set(scales)) < 5 or len(set(scales)) < len(scales) or not scales[0] > 0:
            raise WorkflowError(f"volume_scales are five or more different positive factors, got {scales}")
        return scales
    if not 0 < strain < 0.9:
        raise WorkflowError(f"strain is a fraction of the volume between 0 and 0.9, got {strain!r}")
    if points < 5:
        raise WorkflowError(f"an equation of state needs at least 5 points, got {points}")
    return [float(item) for item in np.linspace(1 - strain, 1 + strain, points)]


def scaled_cells(
    cell: Atoms,
    calculator: Any,
    scales: Sequence[float],
    *,
    relax_ions: bool | None,
    relax_shape: bool,
    fmax: float,
    stress_tolerance_gpa: float,
    optimizer: str,
    max_steps: int,
    symprec: float,
    folder: str | Path | None,
    file: str,
    progress: Callable[[int, int], None] | None = None,
) -> ScaledCells:
    """Scale ``cell`` to each volume and relax ions or shape there; each is kept in ``folder``.

    Raises:
        WorkflowError: options that do not fit, or points of another run in ``folder``.
        NonFiniteError: the calculator returned NaN or infinity.
    """
    if relax_shape and relax_ions is False:
        raise WorkflowError("relax_shape relaxes the ions too: leave relax_ions out, or True")
    free = relax_ions is None and free_internal_coordinates(cell, symprec) > 0
    ions = relax_shape or free or bool(relax_ions)
    search: dict[str, Any] = {
        "fmax": fmax,
        "stress_tolerance_gpa": stress_tolerance_gpa,
        "optimizer": optimizer,
        "max_steps": max_steps,
    }
    options = {"volume_scales": list(scales), "relax_ions": ions, "relax_shape": relax_shape, **search}
    identity = {"structure": structure_hash(cell), "calculator": describe_calculator(calculator), **options}
    steps = FinishedSteps(folder, file, identity)
    for index in range(len(steps.records), len(scales)):
        scaled = cell.copy()
        scaled.set_cell(cell.cell.array * scales[index] ** (1 / 3), scale_atoms=True)
        converged = True
        if ions:
            result = relax(scaled, calculator, cell="shape" if relax_shape else False, **search)
            scaled, energy, converged = result.atoms, result.energy_ev, result.converged
        else:
            scaled.calc = calculator
            energy = float(scaled.get_potential_energy())
        if not np.isfinite(energy):
            raise NonFiniteError(f"the calculator returned energy {energy} at {scales[index]:g} times the volume")
        steps.add({"atoms": scaled, "energy_ev": energy, "converged": converged})
        if progress is not None:
            progress(index + 1, len(scales))
    return ScaledCells(
        structures=tuple(moved_like(cell, record["atoms"]) for record in steps.records),
        energy_ev=np.array([record["energy_ev"] for record in steps.records]),
        converged=tuple(bool(record["converged"]) for record in steps.records),
        options=options,
    )
