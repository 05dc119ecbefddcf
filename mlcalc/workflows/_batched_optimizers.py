"""ASE's optimisers, step by step the same, for many structures side by side.

Coordinates are rows (R, 3): the atoms of each structure and, where its cell is free, three rows of the cell. What ASE
takes over all rows of one structure, dot products and largest norms, is taken here segment by segment.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

# Largest step of ASE's optimisers, Å; and their guess of the curvature, eV/Å².
MAX_STEP, ALPHA = 0.2, 70.0


class Rows:
    """Which rows belong to which structure.

    Args:
        counts: rows of each structure, at least one.

    Attributes:
        starts: (B + 1,) first row of each structure.
        batch: (R,) structure of each row.
    """

    def __init__(self, counts: Ints) -> None:
        self.starts: Ints = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.batch: Ints = np.repeat(np.arange(len(counts)), counts)

    def of(self, structures: Ints) -> Ints:
        """Return the rows of these structures, in their order."""
        return np.concatenate([np.arange(self.starts[b], self.starts[b + 1]) for b in structures] or [self.batch[:0]])

    def dot(self, a: Array, b: Array) -> Array:
        """Return (B,) products of (R, 3) with (R, 3)."""
        return np.add.reduceat((a * b).sum(axis=1), self.starts[:-1])

    def longest(self, a: Array) -> Array:
        """Return (B,) the largest norm of a row."""
        return np.sqrt(np.maximum.reduceat((a * a).sum(axis=1), self.starts[:-1]))

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return (R, 1) the value of each row's structure."""
        return values[self.batch, None]


class BatchedOptimizer:
    """Steps of structures that come and go.

    Attributes:
        rows: of the structures present.
    """

    def __init__(self) -> None:
        self.rows = Rows(np.zeros(0, dtype=np.int64))
        self.fresh: NDArray[np.bool_] = np.zeros(0, dtype=bool)

    def replace(self, keep: Ints, counts: Ints) -> None:
        """Keep the structures at these places, in this order, and put new ones with so many rows behind them."""
        rows = self.rows.of(keep)
        counts_now = np.concatenate([np.diff(self.rows.starts)[keep], counts]).astype(np.int64)
        self.rows, old = Rows(counts_now), self.rows
        self.fresh = np.concatenate([self.fresh[keep], np.ones(len(counts), dtype=bool)])
        self._replace(old, keep, rows, counts)

    def _replace(self, old: Rows, keep: Ints, rows: Ints, counts: Ints) -> None:
        raise NotImplementedError

    def step(self, x: Array, forces: Array) -> Array:
        """Return the change (R, 3) of coordinates ``x`` (R, 3) under ``forces`` (R, 3)."""
        with np.errstate(all="ignore"):  # NaN of one structure is found where its energy is NaN
            change = self._step(x, forces)
        self.fresh[:] = False
        return change

    def _step(self, x: Array, forces: Array) -> Array:
        raise NotImplementedError


class BatchedFIRE(BatchedOptimizer):
    """FIRE as ASE has it: Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006), with Euler steps of limited length."""

    dt_start, dt_max, n_min, grow, shrink, a_start, a_shrink = 0.1, 1.0, 5, 1.1, 0.5, 0.1, 0.99

    def __init__(self) -> None:
        super().__init__()
        self.velocity: Array = np.zeros((0, 3))
        self.dt: Array = np.zeros(0)
        self.a: Array = np.zeros(0)
        self.downhill: Ints = np.zeros(0, dtype=np.int64)

    def _replace(self, old: Rows, keep: Ints, rows: Ints, counts: Ints) -> None:
        new = len(counts)
        self.velocity = np.concatenate([self.velocity[rows], np.zeros((int(counts.sum()), 3))])
        self.dt = np.concatenate([self.dt[keep], np.full(new, self.dt_start)])
        self.a = np.concatenate([self.a[keep], np.full(new, self.a_start)])
        self.downhill = np.concatenate([self.downhill[keep], np.zeros(new, dtype=np.int64)])

    def _step(self, x: Array, forces: Array) -> Array:
        rows, v = self.rows, self.velocity
        good = rows.dot(forces, v) > 0.0
        pull = np.where(good, self.a * np.sqrt(rows.dot(v, v)) / np.sqrt(rows.dot(forces, forces)), 0.0)
        v = rows.spread(np.where(good, 1.0 - self.a, 0.0)) * v + rows.spread(pull) * forces
        quicker = good & (self.downhill > self.n_min)
        bad = ~good & ~self.fresh
        self.dt = np.where(quicker, np.minimum(self.dt * self.grow, self.dt_max), self.dt)
        self.a = np.where(quicker, self.a * self.a_shrink, self.a)
        self.dt = np.where(bad, self.dt * self.shrink, self.dt)
        self.a = np.where(bad, self.a_start, self.a)
        self.downhill = np.where(good, self.downhill + 1, 0)
        self.velocity = v + rows.spread(self.dt) * forces
        change = rows.spread(self.dt) * self.velocity
        length = np.sqrt(rows.dot(change, change))
        return change * rows.spread(np.where(length > MAX_STEP, MAX_STEP / length, 1.0))


class _Newton(BatchedOptimizer):
    """What the two BFGS optimisers share: the last coordinates and forces, and steps of limited length."""

    def __init__(self) -> None:
        super().__init__()
        self.x: Array = np.zeros((0, 3))
        self.forces: Array = np.zeros((0, 3))

    def _replace(self, old: Rows, keep: Ints, rows: Ints, counts: Ints) -> None:
        nothing = np.zeros((int(counts.sum()), 3))
        self.x, self.forces = np.concatenate([self.x[rows], nothing]), np.concatenate([self.forces[rows], nothing])

    def _step(self, x: Array, forces: Array) -> Array:
        fresh = self.rows.spread(self.fresh)
        moved = np.where(fresh, 0.0, x - self.x)
        turned = np.where(fresh, 0.0, self.forces - forces)
        change = self._direction(moved, turned, forces)
        self.x, self.forces = x.copy(), forces.copy()
        longest = self.rows.longest(change)
        return change * self.rows.spread(np.where(longest >= MAX_STEP, MAX_STEP / longest, 1.0))

    def _direction(self, moved: Array, turned: Array, forces: Array) -> Array:
        """Return the Newton step, given the last change of coordinates and of gradients; both are zero at first."""
        raise NotImplementedError


class BatchedLBFGS(_Newton):
    """L-BFGS as ASE has it: the two-loop recursion of Nocedal, Math. Comput. 35, 773 (1980), without a line search."""

    memory = 100

    def __init__(self) -> None:
        super().__init__()
        # Latest last; of a structure that came later, the earlier ones are zero and add nothing.
        self.history: list[tuple[Array, Array, Array]] = []

    def _replace(self, old: Rows, keep: Ints, rows: Ints, counts: Ints) -> None:
        super()._replace(old, keep, rows, counts)
        nothing, none = np.zeros((int(counts.sum()), 3)), np.zeros(len(counts))
        self.history = [
            (np.concatenate([s[rows], nothing]), np.concatenate([y[rows], nothing]), np.concatenate([rho[keep], none]))
            for s, y, rho in self.history
            if rho[keep].any()
        ]

    def _direction(self, moved: Array, turned: Array, forces: Array) -> Array:
        rows = self.rows
        if not self.fresh.all():
            rho = np.where(self.fresh, 0.0, 1.0 / rows.dot(turned, moved))
            self.history = [*self.history, (moved, turned, rho)][-self.memory :]
        q = -forces
        weights = []
        for s, y, rho in reversed(self.history):
            weights.append(rho * rows.dot(s, q))
            q = q - rows.spread(weights[-1]) * y
        z = (1.0 / ALPHA) * q
        for (s, y, rho), weight in zip(self.history, reversed(weights), strict=True):
            z = z + rows.spread(weight - rho * rows.dot(y, z)) * s
        return -z


class BatchedBFGS(_Newton):
    """BFGS as ASE has it: a Hessian for each structure, with the absolute values of its eigenvalues."""

    def __init__(self) -> None:
        super().__init__()
        self.hessians: list[Array] = []

    def _replace(self, old: Rows, keep: Ints, rows: Ints, counts: Ints) -> None:
        super()._replace(old, keep, rows, counts)
        self.hessians = [self.hessians[b] for b in keep] + [np.eye(3 * count) * ALPHA for count in counts]

    def _direction(self, moved: Array, turned: Array, forces: Array) -> Array:
        change = np.empty_like(forces)
        for b, hessian in enumerate(self.hessians):
            part = slice(self.rows.starts[b], self.rows.starts[b + 1])
            s, y, g = moved[part].ravel(), turned[part].ravel(), -forces[part].ravel()
            if not self.fresh[b] and np.abs(s).max() >= 1e-7:
                hs = hessian @ s
                hessian += np.outer(y, y) / (s @ y) - np.outer(hs, hs) / (s @ hs)
            try:
                omega, vectors = np.linalg.eigh(hessian)
            except np.linalg.LinAlgError:  # NaN or infinity in it
                change[part] = np.nan
                continue
            change[part] = (-vectors @ (g @ vectors / np.abs(omega))).reshape(-1, 3)
        return change


OPTIMIZERS: dict[str, type[BatchedOptimizer]] = {"BFGS": BatchedBFGS, "FIRE": BatchedFIRE, "LBFGS": BatchedLBFGS}
