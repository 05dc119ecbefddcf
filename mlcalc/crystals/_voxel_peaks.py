"""Gaussian peaks on periodic voxels: drawing them, and finding them with sub-voxel centres."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import maximum_filter


def peak_profiles(centres: np.ndarray, points: int, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Return periodic Gaussians along the three axes, and their derivatives by the centre.

    Args:
        centres: (N, 3) in voxels.
        points: voxels along each axis.
        width: standard deviation in voxels.

    Returns:
        (3, N, points) values, 1 at the centre of a peak that has no close images; (3, N, points) derivatives per voxel.
    """
    reach = int(np.ceil(8 * width / points)) + 1
    steps = (np.arange(points) - centres.T[:, :, None] + points / 2) % points - points / 2
    images = steps[..., None] + points * np.arange(-reach, reach + 1)
    values = np.exp(-0.5 * (images / width) ** 2)
    return values.sum(axis=-1), (values * images).sum(axis=-1) / width**2


def draw_peaks(centres: np.ndarray, heights: np.ndarray, points: int, width: float) -> np.ndarray:
    """Return (points, points, points) the sum of periodic Gaussians; arguments as in ``peak_profiles``."""
    x, y, z = peak_profiles(centres, points, width)[0]
    drawn: np.ndarray = np.einsum("ja,jb,jc->abc", x * heights[:, None], y, z, optimize=True)
    return drawn


def local_maxima(values: np.ndarray, least: float) -> np.ndarray:
    """Return (M, 3) voxels not below any of their 26 periodic neighbours nor ``least``, the highest first.

    Of equal neighbours (a peak in the middle between voxels) only one is taken.
    """
    ramp = np.arange(values.size).reshape(values.shape) * (1e-12 * max(float(np.abs(values).max()), 1e-300))
    unequal = values + ramp
    top = (unequal == maximum_filter(unequal, size=3, mode="wrap")) & (values >= least)
    found = np.argwhere(top)
    return found[np.argsort(-values[top], kind="stable")]


def parabola_centres(values: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """Return (M, 3) sub-voxel centres of maxima: where the parabola through the logarithms along each axis has its top.

    Exact for a lone Gaussian along the axes; for others a centre that moves with the peak.
    """
    centres = voxels.astype(float)
    floor = 1e-12 * float(values.max())
    for axis in range(3):
        step = np.zeros(3, dtype=int)
        step[axis] = 1
        below, middle, above = (
            np.log(np.maximum(values[tuple(((voxels + k * step) % values.shape).T)], floor)) for k in (-1, 0, 1)
        )
        bend = below - 2 * middle + above
        shift = np.where(bend < 0, 0.5 * (below - above) / np.where(bend < 0, bend, 1.0), 0.0)
        centres[:, axis] += np.clip(shift, -0.5, 0.5)
    return centres


def fit_peaks(values: np.ndarray, width: float, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the Gaussians of one width and of heights near 1 whose sum an image is, also where they overlap.

    Local maxima of at least half the height are the first guess. All centres and heights are fitted together
    (Gauss-Newton; products of Gaussians are products of one-dimensional sums, so that the normal equations are cheap).
    A peak higher than 1.25 is two: it is split along its long axis. Where something is left over that is higher than
    0.35, a peak is added. Then all is fitted again.

    Args:
        values: (n, n, n) image.
        width: standard deviation of a peak, voxels.
        most: peaks at most; what is left over then stays.

    Returns:
        (N, 3) centres in voxels, (N,) heights.
    """
    points, least = len(values), 0.5
    found = local_maxima(values, least)[:most]
    centres = parabola_centres(values, found)
    heights = values[tuple(found.T)]
    for _ in range(6):
        centres, heights = _gauss_newton(values, centres, heights, width)
        kept = heights >= 0.5 * least
        centres, heights = centres[kept], heights[kept]
        rest = values - draw_peaks(centres, heights, points, width)
        two = np.flatnonzero(heights > 1.25)[: max(most - len(centres), 0)]
        if len(two):
            halves = [_halves(values, centres, heights, width, k) for k in two]
            centres = np.vstack([np.delete(centres, two, axis=0), *halves])
            heights = np.concatenate([np.delete(heights, two), np.repeat(heights[two] / 2, 2)])
            continue
        more = local_maxima(rest, 0.7 * least)[: max(most - len(centres), 0)]
        if not len(more):
            break
        centres = np.vstack([centres, parabola_centres(rest, more)])
        heights = np.concatenate([heights, rest[tuple(more.T)]])
    return centres % points, heights


def _halves(values: np.ndarray, centres: np.ndarray, heights: np.ndarray, width: float, peak: int) -> np.ndarray:
    """Return (2, 3) centres of two Gaussians with the first and second moments of one peak, others taken off."""
    others = np.arange(len(centres)) != peak
    own = values - draw_peaks(centres[others], heights[others], len(values), width)
    middle = np.rint(centres[peak]).astype(int)
    axis = np.arange(-int(np.ceil(3 * width)) - 1, int(np.ceil(3 * width)) + 2)
    offsets = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    weights = np.maximum(own[tuple(((middle + offsets) % len(values)).T)], 0.0)
    steps = offsets - (centres[peak] - middle)
    spread, axes = np.linalg.eigh((steps * weights[:, None]).T @ steps / weights.sum())
    half = np.sqrt(max(spread[2] - width**2, 0.04)) * axes[:, 2]
    return np.stack([centres[peak] - half, centres[peak] + half])


def heights_at(values: np.ndarray, centres: np.ndarray, width: float) -> np.ndarray:
    """Return (N,) heights of Gaussians at given centres whose sum comes closest to an image."""
    x, y, z = peak_profiles(centres, len(values), width)[0]
    gram = (x @ x.T) * (y @ y.T) * (z @ z.T)
    found: np.ndarray = np.linalg.lstsq(gram, _project(values, x, y, z), rcond=None)[0]
    return found


def _project(values: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return (N,) sums over all voxels of the image times each product of profiles."""
    planes = np.einsum("ja,abc->jbc", x, values, optimize=True)
    found: np.ndarray = np.einsum("jbc,jb,jc->j", planes, y, z, optimize=True)
    return found


def _gauss_newton(
    values: np.ndarray, centres: np.ndarray, heights: np.ndarray, width: float, steps: int = 12
) -> tuple[np.ndarray, np.ndarray]:
    count = len(centres)
    for _ in range(steps if count else 0):
        g, slopes = peak_profiles(centres, len(values), width)
        rest = values - np.einsum("ja,jb,jc->abc", g[0] * heights[:, None], g[1], g[2], optimize=True)
        # Four functions a peak: its derivatives by the three coordinates, and by its height.
        x, y, z = (
            np.concatenate([*(slopes[k] * heights[:, None] if row == k else g[k] for row in range(3)), g[k]])
            for k in range(3)
        )
        gram = (x @ x.T) * (y @ y.T) * (z @ z.T)
        step = np.linalg.solve(gram + np.diag(1e-8 * np.diag(gram) + 1e-9), _project(rest, x, y, z))
        moved = np.clip(step[: 3 * count].reshape(3, count).T, -0.7, 0.7)
        centres, heights = centres + moved, heights + step[3 * count :]
        if np.abs(moved).max() < 1e-7:
            break
    return centres, heights
