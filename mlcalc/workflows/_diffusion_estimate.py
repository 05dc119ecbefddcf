"""From positions to diffusion coefficients with error bars, and the test whether the motion is diffusion at all."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from ase.data import chemical_symbols
from ase.geometry import find_mic
from numpy.typing import NDArray

from mlcalc.errors import WorkflowError
from mlcalc.records import Record
from mlcalc.workflows._warnings import WorkflowWarning
from mlcalc.workflows.msd import squared_displacements, without_drift

Array = NDArray[np.float64]
CM2_PER_S = 0.1  # of 1 Å²/fs
TOLERANCE = 0.2  # of the log–log slope, around one
SHORTEST_BLOCK = 10  # frames
AXES = "xyz"


@dataclass(frozen=True)
class ElementDiffusion(Record):
    """Diffusion of one element in one trajectory.

    Attributes:
        element: symbol.
        atoms: how many, without those that are fixed.
        time_fs: (L,) lags up to the length of a block, fs.
        msd_ang2: (L,) mean squared displacement, mean over blocks, Å².
        msd_error_ang2: (L,) its standard error from the spread of the blocks, Å².
        diffusion_cm2_per_s: slope of the MSD over twice the number of axes, cm²/s. No diffusion coefficient unless
            ``diffusive``.
        error_cm2_per_s: its standard error, from the spread of the blocks, cm²/s.
        exponent: slope of log MSD against log lag in the window: 1 for diffusion, 2 for free flight, 0 for atoms bound
            to their sites. NaN for atoms that do not move.
        exponent_error: standard error, by leaving out one block after the other.
        diffusive: the exponent is 1 within 0.2, and D exceeds twice its error.
        bound: ``"upper"`` or ``"lower"`` where not diffusive: what ``bound_cm2_per_s`` is; None where diffusive.
        bound_cm2_per_s: MSD/(2 · axes · lag) at the end of the window, two standard errors outward, cm²/s.
        fit_start_fs: first lag of the window, fs.
        fit_stop_fs: last lag, fs.
        blocks: how many.
    """

    element: str
    atoms: int
    time_fs: Array
    msd_ang2: Array
    msd_error_ang2: Array
    diffusion_cm2_per_s: float
    error_cm2_per_s: float
    exponent: float
    exponent_error: float
    diffusive: bool
    bound: str | None
    bound_cm2_per_s: float | None
    fit_start_fs: float
    fit_stop_fs: float
    blocks: int


def block_length(frames: int, blocks: int) -> int:
    """Return the frames of a block.

    Raises:
        WorkflowError: fewer than three blocks, or blocks too short.
    """
    if blocks < 3:
        raise WorkflowError(f"an error bar needs at least 3 blocks, got {blocks}")
    length = frames // blocks
    if length < SHORTEST_BLOCK:
        raise WorkflowError(
            f"{frames} frames in {blocks} blocks leave {length} frames a block, fewer than {SHORTEST_BLOCK}: run "
            "longer, write frames more often, or use fewer blocks"
        )
    return length


def fit_window(length: int, interval_fs: float, start_fs: float | None, stop_fs: float | None) -> tuple[int, int]:
    """Return first and last lag (frames) of the straight line.

    Raises:
        WorkflowError: a window outside the block, or of fewer than three lags.
    """
    stop = max(length // 2, 3) if stop_fs is None else int(np.floor(stop_fs / interval_fs + 1e-9))
    start = max(stop // 5, 1) if start_fs is None else int(np.ceil(start_fs / interval_fs - 1e-9))
    if not (start >= 1 and stop - start >= 2 and stop < length):
        raise WorkflowError(
            f"the fit from {start * interval_fs:g} to {stop * interval_fs:g} fs needs three lags inside a block of "
            f"{length} frames ({(length - 1) * interval_fs:g} fs): change fit_start_fs, fit_stop_fs or blocks, or run "
            "longer"
        )
    return start, stop


def free_atoms(atoms: Atoms) -> NDArray[np.bool_]:
    """Return (N,) whether an atom can move against the rest.

    Raises:
        WorkflowError: none can: a single atom moves with its own centre of mass; or all are fixed.
    """
    free = np.ones(len(atoms), dtype=bool)
    for item in atoms.constraints:
        if isinstance(item, FixAtoms):
            free[item.index] = False
    if not free.any() or (len(atoms) == 1 and not atoms.constraints):
        raise WorkflowError(
            "diffusion is motion against the other atoms, and there are none that move: "
            + ("all atoms are fixed" if len(atoms) > 1 else "repeat the cell (--supercell) to have more than one atom")
        )
    return free


def estimate(
    positions: Array,
    atoms: Atoms,
    interval_fs: float,
    blocks: int,
    start_fs: float | None,
    stop_fs: float | None,
    axes: str,
) -> dict[str, ElementDiffusion]:
    """Return the diffusion of each element; see ``diffusion_from_trajectory`` for the method.

    Args:
        positions: (F, N, 3) unwrapped, Å.
        atoms: elements, masses and constraints.
        interval_fs: between frames, fs.
        blocks: how many.
        start_fs: first lag of the fit, fs.
        stop_fs: last lag, fs.
        axes: Cartesian directions that count.
    """
    if not axes or len(set(axes)) != len(axes) or not set(axes) <= set(AXES):
        raise WorkflowError(f"axes {axes!r}: give some of x, y and z, e.g. 'xyz' or 'xy'")
    length = block_length(len(positions), blocks)
    window = fit_window(length, interval_fs, start_fs, stop_fs)
    free = free_atoms(atoms)
    positions = without_drift(positions, atoms)
    positions = positions[len(positions) - blocks * length :, :, [AXES.index(axis) for axis in axes]]
    pieces = positions.reshape(blocks, length, len(atoms), len(axes))
    per_atom = np.array([squared_displacements(piece - piece[0]) for piece in pieces])
    lags = interval_fs * np.arange(length, dtype=np.float64)
    found = {}
    for number in np.unique(atoms.numbers[free]):
        chosen = free & (atoms.numbers == number)
        symbol = chemical_symbols[number]
        found[symbol] = _element(
            symbol, per_atom[:, :, chosen].mean(axis=2), int(chosen.sum()), lags, window, len(axes)
        )
    return found


def _element(name: str, msd: Array, atoms: int, lags: Array, window: tuple[int, int], axes: int) -> ElementDiffusion:
    """Fit the (blocks, lags) MSD of one element."""
    blocks = len(msd)
    inside = slice(window[0], window[1] + 1)
    slopes = np.polyfit(lags[inside], msd[:, inside].T, 1)[0] / (2 * axes)
    value, error = float(slopes.mean()), float(slopes.std(ddof=1) / np.sqrt(blocks))
    exponent, exponent_error = _exponent(msd[:, inside], lags[inside])
    diffusive = bool(abs(exponent - 1.0) <= TOLERANCE and value > 2.0 * error)
    bound: tuple[str, float] | None = None
    if not diffusive:
        # A mean squared displacement that bends down stays below its chord, one that bends up above it.
        chord = msd[:, window[1]] / (2 * axes * lags[window[1]])
        spread = 2.0 * float(chord.std(ddof=1)) / np.sqrt(blocks)
        upward = exponent > 1.0 + TOLERANCE
        bound = ("lower", max(chord.mean() - spread, 0.0)) if upward else ("upper", chord.mean() + spread)
    return ElementDiffusion(
        element=name,
        atoms=atoms,
        time_fs=lags,
        msd_ang2=msd.mean(axis=0),
        msd_error_ang2=msd.std(axis=0, ddof=1) / np.sqrt(blocks),
        diffusion_cm2_per_s=CM2_PER_S * value,
        error_cm2_per_s=CM2_PER_S * error,
        exponent=exponent,
        exponent_error=exponent_error,
        diffusive=diffusive,
        bound=None if bound is None else bound[0],
        bound_cm2_per_s=None if bound is None else CM2_PER_S * float(bound[1]),
        fit_start_fs=float(lags[window[0]]),
        fit_stop_fs=float(lags[window[1]]),
        blocks=blocks,
    )


def _exponent(msd: Array, lags: Array) -> tuple[float, float]:
    """Return the log–log slope of the mean over blocks, and its jackknife error."""
    blocks = len(msd)
    total = msd.sum(axis=0)
    curves = np.array([total / blocks, *((total - one) / (blocks - 1) for one in msd)])
    if not (curves > 0).all():
        return float("nan"), float("nan")
    slopes = np.polyfit(np.log(lags), np.log(curves).T, 1)[0]
    left_out = slopes[1:]
    return float(slopes[0]), float(np.sqrt((blocks - 1) / blocks * ((left_out - left_out.mean()) ** 2).sum()))


def unwrapped(frames: Sequence[Atoms]) -> Array:
    """Return (F, N, 3) positions with jumps through periodic boundaries undone, Å.

    Shortest displacements from frame to frame are summed up, which also is right for a cell that changes (von Bülow,
    Bullerjahn & Hummer, J. Chem. Phys. 153, 021101 (2020)).

    Warns:
        WorkflowWarning: atoms that move so far between frames that the shortest way may be the wrong one.
    """
    positions = np.array([frame.positions for frame in frames])
    if not frames[0].pbc.any():
        return positions
    steps = np.diff(positions, axis=0)
    for step, frame in zip(steps, frames[1:], strict=True):
        step[:] = find_mic(step, frame.cell, frame.pbc)[0]
    heights = 1.0 / np.linalg.norm(np.linalg.inv(frames[0].cell.complete().array), axis=0)
    lowest = float(heights[frames[0].pbc].min())
    largest = float(np.linalg.norm(steps, axis=2).max())
    if largest > 0.35 * lowest:
        warnings.warn(
            f"atoms move up to {largest:.2f} Å from frame to frame, in a cell {lowest:.2f} Å high: boundaries "
            "may be crossed unseen. Write frames more often, or give positions that are not wrapped and unwrap=False",
            WorkflowWarning,
            stacklevel=3,
        )
    positions[1:] = positions[0] + np.cumsum(steps, axis=0)
    return positions
