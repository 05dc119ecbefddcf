"""Diffusion coefficients with error bars from a trajectory that is there."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read

from mlcalc.errors import WorkflowError
from mlcalc.records import Record
from mlcalc.workflows._diffusion_estimate import ElementDiffusion, estimate, unwrapped
from mlcalc.workflows._structures import as_atoms
from mlcalc.workflows._warnings import WorkflowWarning


@dataclass(frozen=True)
class TrajectoryDiffusion(Record):
    """Diffusion in one trajectory.

    Attributes:
        elements: result of each element.
        temperature_k: mean of the run (NVE), or that of its thermostat; None if not known.
        mean_temperature_k: measured after equilibration; None if not known.
        frames: how many were used.
        interval_fs: between frames, fs.
        converged: every element is diffusive.
        settings: every option that made this result.
    """

    elements: dict[str, ElementDiffusion]
    temperature_k: float | None
    mean_temperature_k: float | None
    frames: int
    interval_fs: float
    converged: bool
    settings: dict[str, Any]


def diffusion_from_trajectory(
    frames: Any,
    *,
    interval_fs: float | None = None,
    blocks: int = 10,
    fit_start_fs: float | None = None,
    fit_stop_fs: float | None = None,
    axes: str = "xyz",
    unwrap: bool = True,
    temperature_k: float | None = None,
) -> TrajectoryDiffusion:
    """Estimate the diffusion coefficient of each element from a trajectory.

    The motion of the centre of mass is removed, unless the first frame has constraints, which hold the frame; atoms
    fixed by ``FixAtoms`` there do not count. The trajectory is cut into ``blocks`` of equal length (a rest at its
    beginning is left out). In each, the mean squared displacement over all time origins (Calandrini et al., Collection
    SFN 12, 201 (2011)) is fitted by a straight line with an intercept, which takes up free flight and vibration, over
    the lags from ``fit_start_fs`` to ``fit_stop_fs``; its slope is 2 · axes · D. D is the mean of the blocks, its error
    their standard deviation over √blocks (block averaging: Flyvbjerg & Petersen, J. Chem. Phys. 91, 461 (1989)): one
    standard error, with Student's t for ``blocks`` − 1 degrees of freedom. It holds if blocks are longer than what the
    motion remembers. The spread of the fit itself is no error bar, since neighbouring lags share their displacements.

    Args:
        frames: ASE Atoms or pymatgen Structures, equally spaced in time, or a trajectory file that ASE reads.
        interval_fs: time between frames, fs; None takes it from ``time_fs`` in the frames, as ``md`` writes.
        blocks: at least 3.
        fit_start_fs: first lag of the line, fs: after free flight and vibrations. None: a fifth of the last.
        fit_stop_fs: last lag, fs. None: half a block.
        axes: Cartesian directions that count.
        unwrap: undo jumps through periodic boundaries; False if positions are not wrapped and move far between frames.
        temperature_k: kept in the result, K.

    Raises:
        WorkflowError: too few frames for the blocks, frames of different atoms, no known or no equal interval, no atom
            that can move against another.

    Warns:
        WorkflowWarning: an element that is not diffusive, so that its D is a bound only; frames too far apart.
    """
    structures = _read_frames(frames)
    interval = _interval(structures, interval_fs)
    first = structures[0]
    elements = estimate(
        unwrapped(structures) if unwrap else np.array([frame.positions for frame in structures]),
        first,
        interval,
        blocks,
        fit_start_fs,
        fit_stop_fs,
        axes,
    )
    for element in elements.values():
        if not element.diffusive:
            warnings.warn(_not_diffusive(element, temperature_k), WorkflowWarning, stacklevel=2)
    return TrajectoryDiffusion(
        elements=elements,
        temperature_k=temperature_k,
        mean_temperature_k=None,
        frames=len(structures),
        interval_fs=interval,
        converged=all(element.diffusive for element in elements.values()),
        settings={
            "blocks": blocks,
            "fit_start_fs": fit_start_fs,
            "fit_stop_fs": fit_stop_fs,
            "axes": axes,
            "unwrap": unwrap,
        },
    )


def _read_frames(frames: Any) -> list[Atoms]:
    if isinstance(frames, (str, Path)):
        try:
            frames = read(frames, ":")
        except Exception as error:  # every format of ASE has errors of its own
            raise WorkflowError(f"{frames} cannot be read as a trajectory: {type(error).__name__}: {error}") from error
    structures = [as_atoms(frame) for frame in frames]
    if len(structures) < 2:
        raise WorkflowError("diffusion needs a trajectory: at least two frames")
    odd = [k for k, item in enumerate(structures) if not np.array_equal(item.numbers, structures[0].numbers)]
    if odd:
        raise WorkflowError(f"frame {odd[0]} holds other atoms, or in another order, than the first frame")
    return structures


def _interval(structures: list[Atoms], interval_fs: float | None) -> float:
    if interval_fs is not None:
        if not interval_fs > 0:
            raise WorkflowError(f"interval_fs must be positive, got {interval_fs!r}")
        return float(interval_fs)
    if not all("time_fs" in item.info for item in structures):
        raise WorkflowError("the frames do not say their time (time_fs): give interval_fs, the time between frames")
    gaps = np.diff([item.info["time_fs"] for item in structures])
    if not (gaps > 0).all() or np.ptp(gaps) > 1e-6 * gaps[0]:
        raise WorkflowError("the frames are not equally spaced in time; a frame is missing or there twice")
    return float(gaps[0])


def _not_diffusive(element: ElementDiffusion, temperature_k: float | None) -> str:
    where = "" if temperature_k is None else f" at {temperature_k:g} K"
    return (
        f"{element.element}{where} is not diffusive: only a bound. MSD ~ lag^{element.exponent:.2f} (± "
        f"{element.exponent_error:.2f}) between {element.fit_start_fs:g} and {element.fit_stop_fs:g} fs, slope "
        f"{element.diffusion_cm2_per_s:.2g} ± {element.error_cm2_per_s:.2g} cm²/s; {element.bound} bound "
        f"{element.bound_cm2_per_s:.2g} cm²/s. Run longer, use longer blocks or a later fit_start_fs"
    )
