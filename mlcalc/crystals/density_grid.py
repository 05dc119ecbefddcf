"""Electron densities on grids, as DFT codes write them: cube files, and the atoms in them by their peaks."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.formula import Formula
from ase.io.cube import read_cube
from ase.neighborlist import neighbor_list

from mlcalc.crystals._codec_checks import refuse_clash
from mlcalc.crystals._voxel_peaks import local_maxima
from mlcalc.errors import CodecError


@dataclass(frozen=True)
class DensityGrid:
    """A periodic electron density.

    Attributes:
        values: (a, b, c) density on a grid that divides the cell vectors; the last point is not the first again.
        cell: (3, 3) Å.
        origin: (3,) position of the first point, Å.
        atoms: as the file has them; None if the density came from elsewhere.
    """

    values: np.ndarray
    cell: np.ndarray
    origin: np.ndarray
    atoms: Atoms | None = None

    def blurred(self, width_ang: float) -> np.ndarray:
        """Return the density convolved with a Gaussian of this standard deviation, in Å, over all periodic images."""
        waves = [np.fft.fftfreq(n, 1 / n) for n in self.values.shape]
        waves[2] = np.fft.rfftfreq(self.values.shape[2], 1 / self.values.shape[2])
        mesh = np.stack(np.meshgrid(*waves, indexing="ij"), axis=-1)
        squares = ((2 * np.pi * mesh @ np.linalg.inv(self.cell).T) ** 2).sum(axis=-1)
        found: np.ndarray = np.fft.irfftn(
            np.fft.rfftn(self.values) * np.exp(-0.5 * width_ang**2 * squares), s=self.values.shape, axes=(0, 1, 2)
        )
        return found


def read_density(path: str | Path, endpoint: bool = False) -> DensityGrid:
    """Read a cube file of a periodic density.

    Args:
        path: a cube file in Bohr (all of them, but for a few programs' private dialects). endpoint: the file repeats
            the first point of each axis as the last (XSF converted to cube, for example). CASTEP's files, which do,
            are recognised without.

    Raises:
        CodecError: no such file, or one that is no cube file of a three-dimensional periodic density.
    """
    path = Path(path)
    if not path.is_file():
        raise CodecError(f"no file {path}")
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as stream:
            content = read_cube(stream)
    except Exception as error:
        raise CodecError(f"{path} cannot be read as a cube file ({type(error).__name__}: {error})") from error
    values = np.asarray(content["data"], dtype=float)
    cell = np.array(content["atoms"].cell.array)
    if endpoint:
        cell *= ((np.array(values.shape) - 1) / np.array(values.shape))[:, None]
        values = values[:-1, :-1, :-1]
    if min(values.shape, default=0) < 4 or abs(np.linalg.det(cell)) < 1.0:
        raise CodecError(
            f"{path}: {values.shape} points in a cell of {abs(np.linalg.det(cell)):.2g} Å³ are no crystal's density"
        )
    if not np.isfinite(values).all():
        raise CodecError(f"{path}: {int((~np.isfinite(values)).sum())} of {values.size} values are not finite")
    atoms = content["atoms"].copy()
    atoms.set_cell(cell)
    atoms.pbc = True
    return DensityGrid(values, cell, np.asarray(content["origin"], dtype=float), atoms)


def density_peaks(grid: DensityGrid, least: float = 0.05, reach_ang: float = 0.35) -> tuple[np.ndarray, np.ndarray]:
    """Find the peaks of a density, all periodic images taken together, with centres between the grid's points.

    A centre is the mean position of the density within ``reach_ang``, less its value at that distance, taken again
    around each new centre until it stays.

    Args:
        grid: density; blur it before (``blurred``) where cores are hollow, as in valence densities of pseudopotentials.
        least: lowest peak, as a share of the highest.
        reach_ang: Å; at least two grid spacings are taken.

    Returns:
        (M, 3) positions in Å within the cell, from the cell's corner at the origin of coordinates, and (M,) heights.

    Raises:
        CodecError: no peaks.
    """
    values, cell = grid.values, grid.cell
    voxels = local_maxima(values, least * float(values.max())) if values.max() > 0 else np.empty((0, 3), dtype=int)
    # A constant density has a highest point all the same.
    if not len(voxels) or values.max() - values.min() < 1e-6 * abs(values.max()):
        raise CodecError("no peaks in this density")
    shape = np.array(values.shape)
    steps = cell / shape[:, None]
    reach = max(reach_ang, 2.0 * float(np.linalg.norm(steps, axis=1).max()))
    # Voxels around a peak: heights of the cell, not lengths of its vectors, say how many are within reach.
    span = np.ceil((reach + np.linalg.norm(steps, axis=1).max()) * np.linalg.norm(np.linalg.inv(steps), axis=0)).astype(
        int
    )
    offsets = np.stack(np.meshgrid(*(np.arange(-s, s + 1) for s in span), indexing="ij"), axis=-1).reshape(-1, 3)
    centres = np.array([_centroid(values, voxel, offsets, steps, reach) for voxel in voxels])
    positions = centres @ steps + grid.origin
    scaled = np.linalg.solve(cell.T, positions.T).T % 1.0
    scaled[scaled > 1 - 1e-9] = 0.0
    return scaled @ cell, values[tuple(voxels.T)]


def atoms_of_density(grid: DensityGrid, formula: str, least: float = 0.05, reach_ang: float = 0.35) -> Atoms:
    """Return the crystal of a density whose composition is known.

    As many peaks as there are atoms are taken, the highest first; peaks in each other's reach are one. The heaviest
    elements are where the mean density between 0.2 and 0.5 Å is highest: at nuclei themselves it has cusps, whose
    height depends on where grid points happen to lie. That is right for all-electron densities. Densities of valence
    electrons need not have a peak at every atom.

    Args:
        grid: density.
        formula: of all atoms in the cell, e.g. ``Na4Cl4``.
        least: lowest peak, as a share of the highest.
        reach_ang: as in ``density_peaks``.

    Raises:
        CodecError: no formula, fewer peaks than atoms, or atoms that clash.
    """
    try:
        counts = Formula(formula).count()
        numbers = sorted((atomic_numbers[s] for s, n in counts.items() for _ in range(n)), reverse=True)
    except Exception as error:
        raise CodecError(f"{formula!r} is no chemical formula") from error
    if not numbers or min(numbers) < 1:
        raise CodecError(f"{formula!r} is no chemical formula")
    positions, _ = density_peaks(grid, least, reach_ang)
    peaks = Atoms("X" * len(positions), positions=positions, cell=grid.cell, pbc=True)
    # Of peaks in each other's reach the higher one stays; they are sorted by height.
    i, j = neighbor_list("ij", peaks, reach_ang, self_interaction=False)
    dropped: set[int] = set()
    for one, other in zip(i, j, strict=True):
        if one < other and int(one) not in dropped:
            dropped.add(int(other))
    kept = [k for k in range(len(positions)) if k not in dropped]
    if len(kept) < len(numbers):
        raise CodecError(
            f"{len(kept)} peaks for {len(numbers)} atoms of {formula}: a finer grid, or a lower least ({least:g})"
        )
    places = positions[kept[: len(numbers)]]
    around = _density_around(grid, places)
    atoms = Atoms(numbers, positions=places[np.argsort(-around, kind="stable")], cell=grid.cell, pbc=True)
    refuse_clash(atoms)
    return atoms


def _density_around(grid: DensityGrid, places: np.ndarray, inner: float = 0.2, outer: float = 0.5) -> np.ndarray:
    """Return (M,) mean densities between two distances from each place, in Å; the outer one grows with the grid."""
    shape = np.array(grid.values.shape)
    outer = max(outer, 1.5 * float(np.linalg.norm(grid.cell / shape[:, None], axis=1).max()))
    points = np.stack(np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij"), axis=-1).reshape(-1, 3)
    found = np.empty(len(places))
    for k, place in enumerate(places):
        steps = points - np.linalg.solve(grid.cell.T, place - grid.origin)
        distances = np.linalg.norm((steps - np.round(steps)) @ grid.cell, axis=1)
        found[k] = grid.values.ravel()[(distances >= inner) & (distances <= outer)].mean()
    return found


def _centroid(
    values: np.ndarray, voxel: np.ndarray, offsets: np.ndarray, steps: np.ndarray, reach: float
) -> np.ndarray:
    """Return (3,) the centre of one peak in voxels, not wrapped."""
    around = values[tuple(((voxel + offsets) % values.shape).T)]
    centre = np.zeros(3)
    for _ in range(50):
        distances = np.linalg.norm((offsets - centre) @ steps, axis=1)
        within = distances <= reach
        # Weights that vanish at the border, so that grid points coming in and going out do not pull.
        weights = (
            np.maximum(around[within] - around[within].min(), 0.0)
            * np.cos(0.5 * np.pi * distances[within] / reach) ** 2
        )
        if weights.sum() <= 0:
            break
        new = (weights[:, None] * offsets[within]).sum(axis=0) / weights.sum()
        moved, centre = float(np.abs(new - centre).max()), new
        if moved < 1e-6 or np.abs(centre).max() > 2:
            break
    found: np.ndarray = voxel + np.clip(centre, -1.0, 1.0)
    return found
