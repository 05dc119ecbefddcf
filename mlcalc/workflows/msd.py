"""Mean squared displacement over all time origins, and the diffusion coefficient from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.errors import WorkflowError
from mlcalc.records import jsonable
from mlcalc.workflows._structures import as_atoms


@dataclass(frozen=True)
class MSD:
    """Mean squared displacement.

    Attributes:
        time_fs: (F,) lag times, fs.
        msd_ang2: (F,) mean over all atoms and origins, Å².
        by_element: the same per element.
    """

    time_fs: NDArray[np.float64]
    msd_ang2: NDArray[np.float64]
    by_element: dict[str, NDArray[np.float64]]

    def diffusion_cm2_per_s(self, start: float = 0.1, stop: float = 0.5) -> float:
        """Return D from the Einstein relation MSD = 6 D t, cm²/s.

        Args:
            start: first lag of the linear fit, as a fraction of the longest.
            stop: last lag; long lags have few origins and scatter.

        Raises:
            WorkflowError: fewer than two lags in the window.
        """
        longest = self.time_fs[-1]
        window = (self.time_fs >= start * longest) & (self.time_fs <= stop * longest)
        if window.sum() < 2:
            raise WorkflowError("too few frames for a diffusion coefficient: run longer or write frames more often")
        slope = np.polyfit(self.time_fs[window], self.msd_ang2[window], 1)[0]
        return float(slope / 6.0 * 0.1)  # 1 Å²/fs = 0.1 cm²/s

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {name: jsonable(getattr(self, name)) for name in ("time_fs", "msd_ang2", "by_element")}


def mean_squared_displacement(frames: Sequence[Any], *, interval_fs: float, remove_drift: bool = True) -> MSD:
    """Average |r(t₀ + t) − r(t₀)|² over atoms and all origins t₀, by FFT.

    After Calandrini et al., Collection SFN 12, 201 (2011), section 4.2.1.

    Args:
        frames: at least two ASE Atoms or pymatgen Structures, equally spaced in time, positions *not* wrapped into the
            cell.
        interval_fs: time between frames, fs.
        remove_drift: subtract the motion of the centre of mass; with constraints, which hold the frame, it is motion
            like any other and stays.

    Raises:
        WorkflowError: fewer than two frames, or frames of different atoms.
    """
    if len(frames) < 2:
        raise WorkflowError("a mean squared displacement needs at least two frames")
    structures = [as_atoms(frame) for frame in frames]
    first = structures[0]
    if any(not np.array_equal(atoms.numbers, first.numbers) for atoms in structures):
        raise WorkflowError("a mean squared displacement needs the same atoms in every frame")
    positions = np.array([atoms.positions for atoms in structures])
    if remove_drift:
        positions = without_drift(positions, first)
    per_atom = squared_displacements(positions - positions[0])
    symbols = np.array(first.get_chemical_symbols())
    return MSD(
        np.arange(len(frames), dtype=np.float64) * interval_fs,
        per_atom.mean(axis=1),
        {str(symbol): per_atom[:, symbols == symbol].mean(axis=1) for symbol in np.unique(symbols)},
    )


def without_drift(positions: NDArray[np.float64], atoms: Atoms) -> NDArray[np.float64]:
    """Return (F, N, 3) positions less the motion of the centre of mass, unless ``atoms`` have constraints."""
    if atoms.constraints:
        return positions
    masses = atoms.get_masses()
    return positions - np.einsum("fnk,n->fk", positions, masses / masses.sum())[:, None, :]


def squared_displacements(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn (F, N, 3) positions into (F, N) squared displacements by lag, averaged over all origins, of each atom."""
    frames = len(positions)
    spectrum = np.fft.rfft(positions, n=2 * frames, axis=0)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2, n=2 * frames, axis=0)[:frames].sum(axis=2)
    square = (positions**2).sum(axis=2)
    # Σ over origins of r(t₀)² + r(t₀ + t)²: both ends of the trajectory drop out one by one.
    total = 2.0 * square.sum(axis=0)
    head = np.concatenate([np.zeros((1, square.shape[1])), np.cumsum(square, axis=0)[:-1]])
    tail = np.concatenate([np.zeros((1, square.shape[1])), np.cumsum(square[::-1], axis=0)[:-1]])
    origins = (frames - np.arange(frames))[:, None]
    return np.maximum((total - head - tail - 2.0 * correlation) / origins, 0.0)
