"""Diffusion coefficients with error bars from molecular dynamics at one or several temperatures."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mlcalc.errors import WorkflowError
from mlcalc.records import Record
from mlcalc.workflows._arrhenius import Arrhenius, fit_arrhenius
from mlcalc.workflows._diffusion_estimate import block_length, fit_window, free_atoms
from mlcalc.workflows._diffusion_trajectory import TrajectoryDiffusion, diffusion_from_trajectory
from mlcalc.workflows._structures import as_atoms
from mlcalc.workflows._warnings import WorkflowWarning
from mlcalc.workflows.molecular_dynamics import md


@dataclass(frozen=True)
class DiffusionResult(Record):
    """Diffusion at one or several temperatures.

    Attributes:
        runs: one for each temperature, coldest first.
        arrhenius: by element, where at least two temperatures are diffusive.
        converged: every element is diffusive at every temperature.
        folder: holds the run at each temperature in a folder of its own, e.g. ``900K``; None without ``out``.
        wall_time_s: seconds of this call.
        settings: every option that made this result.
    """

    runs: tuple[TrajectoryDiffusion, ...]
    arrhenius: dict[str, Arrhenius]
    converged: bool
    folder: Path | None
    wall_time_s: float
    settings: dict[str, Any]


def diffusion(
    atoms: Any,
    calculator: Any,
    *,
    temperatures_k: float | Sequence[float],
    steps: int,
    equilibration_steps: int,
    ensemble: str = "nvt-bussi",
    timestep_fs: float = 1.0,
    tau_fs: float = 100.0,
    seed: int = 0,
    engine: str = "ase",
    ranks: int = 1,
    dtype: str | None = None,
    trajectory_interval: int = 10,
    checkpoint_interval: int = 1000,
    blocks: int = 10,
    fit_start_fs: float | None = None,
    fit_stop_fs: float | None = None,
    axes: str = "xyz",
    out: str | Path | None = None,
    resume: bool = True,
    progress: Callable[[float, int, int], None] | None = None,
) -> DiffusionResult:
    """Run ``md`` at each temperature, estimate D with error bars, fit an Arrhenius line.

    Method and error bars: ``diffusion_from_trajectory``; line: ``fit_arrhenius``. With ``out`` every run goes on where
    it was killed, and more ``steps`` extend finished runs.

    Args:
        atoms: ASE Atoms or pymatgen Structure at the density to simulate; not modified.
        calculator: as for ``md``.
        temperatures_k: one or several, K.
        steps: of each run, equilibration included.
        equilibration_steps: at the start, left out of the estimate; a multiple of ``trajectory_interval``.
        ensemble: ``"nvt-bussi"``, ``"nve"`` or ``"nvt-langevin"``, whose friction slows diffusion down.
        timestep_fs: fs.
        tau_fs: time constant of the thermostat, fs.
        seed: of momenta and thermostat; every temperature has its own following from it.
        engine: ``"ase"`` or ``"lammps"``.
        ranks: MPI ranks of LAMMPS.
        dtype: as for ``md``.
        trajectory_interval: steps between frames.
        checkpoint_interval: steps between checkpoints.
        blocks: for error bars.
        fit_start_fs: first lag of the fit, fs.
        fit_stop_fs: last lag, fs.
        axes: Cartesian directions that count.
        out: folder; temporary ones if None.
        resume: go on with runs in ``out``; False starts again.
        progress: called with (temperature, step, steps).

    Raises:
        WorkflowError: options that do not fit, before any dynamics; a run of another kind in ``out``.
        NonFiniteError: energies became NaN or infinite.

    Warns:
        WorkflowWarning: not diffusive, a Langevin thermostat, a mean temperature away from its target, or an Arrhenius
            line that misses its points.
    """
    start = time.perf_counter()
    temperatures = sorted(float(t) for t in np.atleast_1d(np.asarray(temperatures_k, dtype=np.float64)))
    free_atoms(as_atoms(atoms))
    _check(temperatures, ensemble, steps, equilibration_steps, trajectory_interval)
    kept = (steps - equilibration_steps) // trajectory_interval + 1
    interval = trajectory_interval * timestep_fs
    fit_window(block_length(kept, blocks), interval, fit_start_fs, fit_stop_fs)
    if ensemble == "nvt-langevin":
        warnings.warn(
            "nvt-langevin: its friction slows diffusion down; use nvt-bussi or nve, unless the friction is meant",
            WorkflowWarning,
            stacklevel=2,
        )
    folder = None if out is None else Path(out)
    runs = []
    for temperature in temperatures:
        # Seeds follow from the temperature, so that adding one leaves the runs of the others as they are.
        run = md(
            atoms,
            calculator,
            ensemble=ensemble,
            temperature_k=temperature,
            timestep_fs=timestep_fs,
            steps=steps,
            tau_fs=tau_fs,
            seed=seed + round(1000 * temperature),
            out=None if folder is None else folder / f"{temperature:g}K",
            engine=engine,
            ranks=ranks,
            dtype=dtype,
            log_interval=trajectory_interval,
            trajectory_interval=trajectory_interval,
            checkpoint_interval=checkpoint_interval,
            resume=resume,
            progress=None if progress is None else partial(progress, temperature),
        )
        mean = float(run.temperature_k[run.step >= equilibration_steps].mean())
        if ensemble != "nve" and abs(mean / temperature - 1.0) > 0.1:
            warnings.warn(
                f"the run at {temperature:g} K has a mean temperature of {mean:.1f} K: equilibrate longer",
                WorkflowWarning,
                stacklevel=2,
            )
        found = diffusion_from_trajectory(
            run.frames(equilibration_steps * timestep_fs),
            interval_fs=interval,
            blocks=blocks,
            fit_start_fs=fit_start_fs,
            fit_stop_fs=fit_stop_fs,
            axes=axes,
            unwrap=False,
            temperature_k=mean if ensemble == "nve" else temperature,
        )
        values = {item.name: getattr(found, item.name) for item in fields(found)}
        values.update(mean_temperature_k=mean, settings={**run.settings, **found.settings})
        runs.append(TrajectoryDiffusion(**values))
    return DiffusionResult(
        runs=tuple(runs),
        arrhenius=_lines(runs),
        converged=all(run.converged for run in runs),
        folder=folder,
        wall_time_s=time.perf_counter() - start,
        settings={
            **{key: value for key, value in runs[0].settings.items() if key not in ("temperature_k", "seed")},
            "temperatures_k": temperatures,
            "equilibration_steps": equilibration_steps,
            "seed": seed,
        },
    )


def _check(temperatures: list[float], ensemble: str, steps: int, equilibration: int, interval: int) -> None:
    if not temperatures or not min(temperatures) > 0 or len(set(temperatures)) < len(temperatures):
        raise WorkflowError(f"temperatures_k must be positive and different, got {temperatures}")
    if ensemble == "npt-mtk":
        raise WorkflowError(
            "diffusion runs at constant cell: a barostat moves atoms with the cell. Find the density with md "
            "ensemble='npt-mtk' first, then give that structure"
        )
    if not 0 <= equilibration < steps or equilibration % max(interval, 1):
        raise WorkflowError(
            f"equilibration_steps ({equilibration}) must be a multiple of trajectory_interval ({interval}), not "
            f"negative and smaller than steps ({steps})"
        )


def _lines(runs: Sequence[TrajectoryDiffusion]) -> dict[str, Arrhenius]:
    lines = {}
    for name in runs[0].elements:
        points = [(run.temperature_k or 0.0, run.elements[name]) for run in runs]
        used = [(t, item) for t, item in points if item.diffusive]
        if len({t for t, _ in used}) < 2:
            continue
        line = fit_arrhenius(
            [t for t, _ in used],
            [item.diffusion_cm2_per_s for _, item in used],
            [item.error_cm2_per_s for _, item in used],
            [t for t, item in points if not item.diffusive],
        )
        if line.reduced_chi_squared is not None and line.reduced_chi_squared > 5.0:
            warnings.warn(
                f"the Arrhenius line of {name} misses its points (reduced χ² {line.reduced_chi_squared:.1f}): not one "
                "activation energy over this range, or error bars that are too small",
                WorkflowWarning,
                stacklevel=3,
            )
        lines[name] = line
    return lines
