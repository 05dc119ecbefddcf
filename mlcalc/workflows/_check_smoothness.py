"""Jumps of energy and forces, by scanning and zooming: a smooth change shrinks with the interval, a jump stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from mlcalc.workflows._check_context import Array, Context, Deviation, NotApplicableError
from mlcalc.workflows._check_structures import isolated

_LEVELS = 4  # of zooming, each four times finer
_CANDIDATES = 3  # in each scan
_SIDE = 20  # points fitted on either side of a candidate
_SIGNIFICANCE = 6.0  # standard errors of a fit that are not counted as a jump
# Allowed jumps relative to the largest force of the scan: eV per (eV/Å), and eV/Å per (eV/Å).
ENERGY_JUMP, FORCE_JUMP = 1e-5, 1e-4


@dataclass(frozen=True)
class _Point:
    position: float
    energy: float
    forces: Array  # (N, 3)


def smoothness(context: Context) -> list[Deviation]:
    """Scan a dimer, an atom that leaves a cluster and an atom that moves in the crystal (slab, cluster)."""
    out = []
    for what, path, way, noise in _scans(context):
        points = _scan(path, way)
        if len(points) < 20:
            continue
        scale = max(float(np.abs(point.forces).max()) for point in points)
        hints = [] if context.cutoff is None or not what.endswith("dimer") else [context.cutoff]
        limits = np.array([ENERGY_JUMP, FORCE_JUMP]) * scale
        limits += np.array([context.noise[noise].energy, context.noise[noise].forces])
        for k, (jump, where) in enumerate(_largest_jumps(path, points, hints, limits)):
            quantity, unit = (("energy", "eV"), ("forces", "eV/Å"))[k]
            out.append(Deviation(f"jump of {quantity}, {what} at {where:.3f} Å", jump, unit, float(limits[k])))
        context.curves.setdefault("scans", {})[what] = {
            "position_ang": [point.position for point in points],
            "energy_ev": [point.energy for point in points],
        }
    if not out:
        raise NotApplicableError("the calculator refuses separated atoms, so that nothing could be scanned")
    return out


Path = Callable[[float], _Point]


def _scans(context: Context) -> list[tuple[str, Path, Array, str]]:
    symbols = list(dict.fromkeys(context.cluster.get_chemical_symbols()))
    scans: list[tuple[str, Path, Array, str]] = []
    start = 0.95 * context.spacing
    for pair in dict.fromkeys([(symbols[0], symbols[0]), (symbols[0], symbols[-1])]):
        dimer = isolated(list(pair), 0.0)
        path = _path(context, dimer, 1, np.array([0.0, 0.0, 1.0]))
        scans.append((f"{pair[0]}–{pair[1]} dimer", path, np.arange(start, context.reach, 0.03), "cluster"))
    cluster = context.cluster
    if len(cluster) > 2:
        arms = cluster.positions - cluster.positions.mean(axis=0)
        outer = int(np.argmax(np.linalg.norm(arms, axis=1)))
        way = np.arange(0.0, context.reach - start, 0.04)
        scans.append(("atom leaving cluster", _path(context, cluster, outer, arms[outer]), way, "cluster"))
    name, atoms = context.main()
    if len(atoms) > 2:
        direction = context.generator().normal(size=3)
        scans.append((f"atom moved in {name}", _path(context, atoms, 0, direction), np.arange(-0.3, 0.3, 0.01), name))
    return scans


def _path(context: Context, atoms: Atoms, index: int, direction: Array) -> Path:
    unit = direction / np.linalg.norm(direction)

    def at(position: float) -> _Point:
        moved = atoms.copy()
        moved.positions[index] += position * unit
        numbers = context.numbers(moved)
        return _Point(position, numbers.energy, numbers.forces)

    return at


def _scan(path: Path, way: Array) -> list[_Point]:
    """Evaluate from near to far, up to where the calculator refuses."""
    points: list[_Point] = []
    for position in way:
        try:
            points.append(path(float(position)))
        except Exception:  # every calculator has errors of its own for atoms without neighbours; "isolated" tells them
            break
    return points


def _largest_jumps(
    path: Path, points: Sequence[_Point], hints: Sequence[float], limits: Array
) -> list[tuple[float, float]]:
    """Return the largest jump of energy (eV), and of forces (eV/Å), each with its position."""
    position = np.array([point.position for point in points])
    misses = _misses(points)
    chosen = [k for hint in hints for k in range(3, len(points) - 4) if position[k] <= hint < position[k + 1]]
    by_energy, by_forces = _candidates(misses[:, 0]), _candidates(misses[:, 1])
    chosen += [k for pair in zip(by_energy, by_forces, strict=True) for k in pair]
    distinct: list[int] = []
    for k in chosen:
        if len(distinct) < _CANDIDATES and all(abs(k - other) > 1 for other in distinct):
            distinct.append(k)
    found = [_zoom(path, position[k], position[k + 1], limits) for k in distinct]
    nothing = (0.0, float(position[0]))
    return [max((item[quantity] for item in found), default=nothing) for quantity in (0, 1)]


def _misses(points: Sequence[_Point]) -> Array:
    """Return, (points, 2), by how much cubics from the left and the right miss each other between points k and k + 1.

    A step between the two points is found as it is; what is smooth gives the fourth power of the interval. Columns:
    energy, largest of the forces. Zero where there are too few points on one side.
    """
    weights = np.array([-5.0, 21.0, -35.0, 35.0]) / 16.0  # Lagrange: values at −3, −2, −1, 0 taken to ½
    values = np.array([[point.energy, *point.forces.ravel()] for point in points])
    values = values - values.mean(axis=0)
    ks = np.arange(3, len(values) - 4)
    before: Array = sum((weights[m] * values[ks - 3 + m] for m in range(4)), np.zeros(1))
    after: Array = sum((weights[m] * values[ks + 4 - m] for m in range(4)), np.zeros(1))
    miss = np.abs(before - after)
    out = np.zeros((len(values), 2))
    out[ks, 0] = miss[:, 0]
    out[ks, 1] = miss[:, 1:].max(axis=1)
    return out


def _candidates(miss: Array) -> list[int]:
    """Return the intervals where the miss stands out most from its surroundings, and where it is largest."""
    near = np.array([np.median(miss[max(0, k - 15) : k + 16]) for k in range(len(miss))])
    ratio = miss / (near + 1e-6 * miss.max(initial=0.0) + 1e-300)
    first = int(np.argmax(ratio))
    ratio[max(0, first - 3) : first + 4] = 0.0
    return [first, int(np.argmax(ratio)), int(np.argmax(miss))]


def _zoom(path: Path, a: float, b: float, limits: Array) -> list[tuple[float, float]]:
    """Return the jump of energy and forces that is left when the interval [a, b] and its neighbours shrink."""
    for _ in range(_LEVELS):
        step = (b - a) / 4
        # The intervals beside a step miss as much as its own: look at both sides, and give the cubics their points.
        points = [path(a + step * k) for k in range(-7, 12)]
        misses = _misses(points)
        k = int(np.argmax((misses / limits).max(axis=1)))
        a, b = points[k].position, points[k + 1].position
        if (misses[k] < 0.1 * limits).all():
            return [(float(misses[k, quantity]), b) for quantity in (0, 1)]
    return [(jump, b) for jump in _jump(path, 0.5 * (a + b), b - a)]


def _jump(path: Path, centre: float, step: float) -> tuple[float, float]:
    """Return what cubics fitted left and right of ``centre`` differ by there, beyond their standard errors.

    The noise is that of the points themselves: it is not the same everywhere. Where the zoom ended is known within
    the gap between both sides; curves that cross somewhere in it are a kink, which is no jump.
    """
    distance = step * np.arange(3, 3 + _SIDE)  # the jump may be an interval away from where the zoom ended
    basis = np.polynomial.polynomial.polyvander(distance / distance[-1], 3)
    variance = float(np.linalg.inv(basis.T @ basis)[0, 0])  # of the value at the centre, per variance of a point
    gap = np.linspace(-1.0, 1.0, 13) * distance[0] / distance[-1]
    ends, spread = [], []
    for sign in (-1.0, 1.0):
        points = [path(float(centre + sign * item)) for item in distance]
        values = np.array([[point.energy, *point.forces.ravel()] for point in points])
        middle = values.mean(axis=0)
        coefficients = np.linalg.lstsq(basis, values - middle, rcond=None)[0]
        residual = values - middle - basis @ coefficients
        ends.append(np.polynomial.polynomial.polyvander(sign * gap, 3) @ coefficients + middle)
        spread.append((residual**2).sum(axis=0) / (_SIDE - 4))
    difference = ends[1] - ends[0]
    crossing = difference.min(axis=0) * difference.max(axis=0) <= 0
    jump = np.where(crossing, 0.0, np.abs(difference).min(axis=0))
    jump = jump - _SIGNIFICANCE * np.sqrt(variance * (spread[0] + spread[1]))
    jump = np.maximum(jump, 0.0)
    return float(jump[0]), float(jump[1:].max())
