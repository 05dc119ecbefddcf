"""Energy against volume, and the equation of state through it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.errors import WorkflowError
from mlcalc.records import Record, describe_calculator
from mlcalc.workflows._eos_fit import FORMS, EOSFit, fit_eos
from mlcalc.workflows._scaled_cells import scaled_cells
from mlcalc.workflows._scaled_cells import volume_scales as volume_scales_of
from mlcalc.workflows._structures import as_atoms, require_periodic, space_group, without_constraints
from mlcalc.workflows._warnings import WorkflowWarning

POINTS = "eos_points.json"


@dataclass(frozen=True)
class EOSResult(Record):
    """What an energy–volume curve found.

    Attributes:
        fit: the form that was asked for.
        fits: every form by name, ``fit`` among them. Where they disagree, so far is B0' (and B0) uncertain.
        volume_ang3_per_atom: (P,) sampled volumes, ascending, Å³/atom.
        energy_ev_per_atom: (P,) energies there, eV/atom.
        structures: (P) structures at these volumes, relaxed where that was asked for.
        minimum_inside: V0 of ``fit`` lies between the smallest and the largest volume.
        converged: every relaxation met its criteria (True where nothing was relaxed).
        spacegroup: of the structure as given.
        wall_time_s: seconds.
        settings: every option that made this result.
    """

    fit: EOSFit
    fits: dict[str, EOSFit]
    volume_ang3_per_atom: NDArray[np.float64]
    energy_ev_per_atom: NDArray[np.float64]
    structures: tuple[Atoms, ...]
    minimum_inside: bool
    converged: bool
    spacegroup: str | None
    wall_time_s: float
    settings: dict[str, Any]


def eos(
    atoms: Any,
    calculator: Any,
    *,
    strain: float = 0.06,
    points: int = 11,
    volume_scales: Sequence[float] | None = None,
    form: str = "birch_murnaghan",
    relax_ions: bool | None = None,
    relax_shape: bool = False,
    fmax: float = 1e-3,
    stress_tolerance_gpa: float = 0.05,
    optimizer: str = "BFGS",
    max_steps: int = 500,
    symprec: float = 1e-3,
    out: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> EOSResult:
    """Compute energies at several volumes and fit equations of state.

    Each volume starts from the given structure, scaled. With ``out`` each volume is kept, so that a killed run goes on.

    Args:
        atoms: structure near its minimum, ASE Atoms or pymatgen Structure; not modified.
        calculator: an ASE calculator, best in double precision.
        strain: volumes from 1 − strain to 1 + strain times the given one.
        points: volumes, at least 5, evenly spaced.
        volume_scales: factors of the volume instead of these two.
        form: ``birch_murnaghan``, ``vinet``, ``murnaghan`` or ``poirier_tarantola``; all are fitted.
        relax_ions: at each volume; None does so if symmetry leaves internal coordinates free.
        relax_shape: relax the shape of the cell (and ions) at constant volume.
        fmax: of these relaxations, eV/Å.
        stress_tolerance_gpa: of the shape, GPa.
        optimizer: of these relaxations, as in ``relax``.
        max_steps: of each.
        symprec: tolerance of the symmetry search, Å.
        out: folder for finished points.
        progress: called with (volumes done, volumes in all).

    Raises:
        WorkflowError: not periodic, bad options, no minimum, or points of another run in ``out``.
        NonFiniteError: the calculator returned NaN or infinity.

    Warns:
        WorkflowWarning: the minimum lies outside the volumes, the curve is not smooth, or a form does not fit.
        ConvergenceWarning: a relaxation did not converge.
    """
    start = time.perf_counter()
    cell = as_atoms(atoms)
    require_periodic(cell, "an equation of state")
    cell = without_constraints(cell, "an equation of state")
    if form not in FORMS:
        raise WorkflowError(f"unknown equation of state {form!r}: choose from {', '.join(FORMS)}")
    sampled = scaled_cells(
        cell,
        calculator,
        scales=volume_scales_of(strain, points, volume_scales),
        relax_ions=relax_ions,
        relax_shape=relax_shape,
        fmax=fmax,
        stress_tolerance_gpa=stress_tolerance_gpa,
        optimizer=optimizer,
        max_steps=max_steps,
        symprec=symprec,
        folder=out,
        file=POINTS,
        progress=progress,
    )
    volumes = np.array([item.get_volume() for item in sampled.structures]) / len(cell)
    energies = sampled.energy_ev / len(cell)
    fits = _all_fits(volumes, energies, form)
    v0 = fits[form].volume_ang3_per_atom
    inside = bool(volumes.min() <= v0 <= volumes.max())
    if not inside:
        warnings.warn(
            f"the minimum, {v0:.4f} Å³/atom, lies OUTSIDE the volumes sampled, {volumes.min():.4f} to "
            f"{volumes.max():.4f}: it is extrapolated. Relax the cell first, or sample around it.",
            WorkflowWarning,
            stacklevel=2,
        )
    span = 1000.0 * float(np.ptp(energies))
    if fits[form].rms_residual_mev_per_atom > 0.03 * span:
        warnings.warn(
            f"the energies are not a smooth curve: the {form} form misses them by "
            f"{fits[form].rms_residual_mev_per_atom:.3g} meV/atom (rms) of {span:.3g}. Another phase, a relaxation "
            "that went elsewhere, or noise of a calculator in single precision?",
            WorkflowWarning,
            stacklevel=2,
        )
    return EOSResult(
        fit=fits[form],
        fits=fits,
        volume_ang3_per_atom=volumes,
        energy_ev_per_atom=energies,
        structures=sampled.structures,
        minimum_inside=inside,
        converged=all(sampled.converged),
        spacegroup=space_group(cell, symprec),
        wall_time_s=time.perf_counter() - start,
        settings={
            "calculator": describe_calculator(calculator),
            "form": form,
            "symprec": symprec,
            **sampled.options,
        },
    )


def _all_fits(volumes: NDArray[np.float64], energies: NDArray[np.float64], form: str) -> dict[str, EOSFit]:
    fits = {form: fit_eos(volumes, energies, form)}
    for name in FORMS:
        if name != form:
            try:
                fits[name] = fit_eos(volumes, energies, name)
            except WorkflowError as error:
                warnings.warn(f"{name} is left out: {error}", WorkflowWarning, stacklevel=3)
    return fits
