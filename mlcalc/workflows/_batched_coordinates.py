"""What an optimiser moves, for many structures side by side: positions, and cells as in ASE's ``FrechetCellFilter``.

With a deformation gradient F, cell = cell₀·Fᵀ and r_i = F·x_i; the coordinates are x_i and n·U of n atoms, where
F = exp(U). Forces on them are Fᵀ·f_i and the adjoint of the derivative of exp at U, applied to W·F⁻ᵀ and divided by n,
with W = −V·(σ + p·1).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray
from scipy.linalg import logm

from mlcalc.workflows._batched_optimizers import Array, Ints, Rows
from mlcalc.workflows._relax_parts import Criteria

_ONE = np.eye(3)


class Coordinates:
    """Positions and cells of structures that come and go.

    Args:
        asked: says what of the cell is free, and under which pressure.

    Attributes:
        atoms: which atoms belong to which structure.
        positions: (N, 3) Å.
        cells: (B, 3, 3) Å.
    """

    def __init__(self, asked: Criteria) -> None:
        self.asked = asked
        self.free = asked.mode is not None
        self.mask: Array | None = None
        if asked.mask is not None:
            self.mask = voigt_6_to_full_3x3_stress(np.array(asked.mask, dtype=np.float64))
        self.works: list[Atoms] = []
        self.atoms = Rows(np.zeros(0, dtype=np.int64))
        self.positions: Array = np.zeros((0, 3))
        self.cells: Array = np.zeros((0, 3, 3))
        self._x: Array = np.zeros((0, 3))
        self._start: Array = np.zeros((0, 3, 3))
        self._log: Array = np.zeros((0, 3, 3))
        self._gradient: Array = np.zeros((0, 3, 3))

    @property
    def counts(self) -> Ints:
        """(B,) atoms of each structure."""
        return np.diff(self.atoms.starts)

    def rows_of(self, n_atoms: int) -> int:
        """Return how many rows of coordinates a structure has."""
        return n_atoms + 3 * self.free

    def replace(self, keep: Ints, new: Sequence[Atoms]) -> None:
        """Keep the structures at these places, in this order, and put new ones behind them."""
        rows = self.atoms.of(keep)
        self.atoms = Rows(np.concatenate([self.counts[keep], [len(work) for work in new]]).astype(np.int64))
        self.works = [self.works[b] for b in keep] + list(new)
        positions = [work.positions for work in new] or [self.positions[:0]]
        cells = np.array([work.cell.array for work in new]).reshape(-1, 3, 3)
        self.positions = np.concatenate([self.positions[rows], *positions])
        self.cells = np.concatenate([self.cells[keep], cells])
        self._x = np.concatenate([self._x[rows], *positions])
        self._start = np.concatenate([self._start[keep], cells])
        self._log = np.concatenate([self._log[keep], np.zeros_like(cells)])
        self._gradient = np.concatenate([self._gradient[keep], np.broadcast_to(_ONE, cells.shape)])
        # Rows of the optimiser: atoms of a structure, then its cell.
        whole = Rows(self.counts + 3 * self.free)
        inside = np.arange(len(self.atoms.batch)) - self.atoms.starts[:-1][self.atoms.batch]
        self._atom_rows = whole.starts[:-1][self.atoms.batch] + inside
        self._cell_rows = (
            (whole.starts[1:, None] - np.arange(3, 0, -1)) if self.free else np.zeros((0, 3), dtype=np.int64)
        )
        self._n_rows = int(whole.starts[-1])

    def rows(self) -> Array:
        """Return coordinates, (R, 3)."""
        return self._join(self._x, self._log * self.counts[:, None, None])

    def forces(self, forces: Array, stress: Array) -> Array:
        """Return minus the gradient with respect to the coordinates, (R, 3).

        Args:
            forces: (N, 3) eV/Å.
            stress: (B, 6) eV/Å³; not looked at where cells are fixed.
        """
        if not self.free:
            return forces
        volume = np.abs(np.linalg.det(self.cells))[:, None, None]
        # ASE's order of components; the function takes one tensor at a time.
        tensor = stress[:, [0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(-1, 3, 3)
        virial = -volume * (tensor + self.asked.pressure * _ONE)
        if self.asked.mode == "isotropic":
            virial = _mean_of_diagonal(virial) * _ONE
        if self.mask is not None:
            virial = virial * self.mask
        pull = virial @ np.linalg.inv(np.swapaxes(self._gradient, 1, 2))
        on_cell = _adjoint_of_exp(self._log, pull)
        if self.asked.mode == "shape":
            on_cell = on_cell - _mean_of_diagonal(on_cell) * _ONE
        on_atoms = (forces[:, None, :] @ self._gradient[self.atoms.batch])[:, 0]
        return self._join(on_atoms, on_cell / self.counts[:, None, None])

    def move(self, change: Array) -> dict[int, RuntimeError]:
        """Add ``change`` (R, 3) to the coordinates; return what constraints refused, by place."""
        x = self._x + change[self._atom_rows]
        if not self.free:
            self._x = self.positions = x
            return self._constrain(self.positions, self.cells)
        with np.errstate(all="ignore"):
            log = self._log + change[self._cell_rows] / self.counts[:, None, None]
            # Else a cell that no evaluation will take.
            sound: NDArray[np.bool_] = np.abs(log).max(axis=(1, 2), keepdims=True) < 30.0
            gradient = torch.matrix_exp(torch.from_numpy(np.where(sound, log, 0.0))).numpy()
            gradient = np.where(sound, gradient, np.nan)
            if self.mask is not None:
                gradient = _ONE + (gradient - _ONE) * self.mask
            cells = self._start @ np.swapaxes(gradient, 1, 2)
            positions = (x[:, None, :] @ np.swapaxes(gradient, 1, 2)[self.atoms.batch])[:, 0]
        self._x, self._log, self._gradient = x, log, gradient
        self.positions, self.cells = positions, cells
        if self.mask is not None:
            for b in range(len(self.works)):
                self._read_back(b, with_positions=False)
        return self._constrain(positions, cells)

    def _constrain(self, positions: Array, cells: Array) -> dict[int, RuntimeError]:
        """Let constraints have their say, through ASE."""
        refused: dict[int, RuntimeError] = {}
        for b, work in enumerate(self.works):
            if not work.constraints:
                continue
            part = slice(self.atoms.starts[b], self.atoms.starts[b + 1])
            try:
                if self.free:
                    work.set_cell(cells[b], scale_atoms=True)
                work.set_positions(positions[part])
            except RuntimeError as error:
                refused[b] = error
                continue
            self.positions[part] = work.positions
            if self.free:
                self.cells[b] = work.cell.array
                self._read_back(b, with_positions=True)
            else:
                self._x[part] = work.positions
        return refused

    def _read_back(self, b: int, with_positions: bool) -> None:
        """Take the coordinates of one structure from its cell and positions, which are not those asked for."""
        gradient = np.linalg.solve(self._start[b], self.cells[b]).T
        if not np.isfinite(gradient).all():
            return
        self._gradient[b] = gradient
        self._log[b] = np.real(logm(gradient))
        if with_positions:
            part = slice(self.atoms.starts[b], self.atoms.starts[b + 1])
            self._x[part] = np.linalg.solve(gradient, self.positions[part].T).T

    def settle(self, b: int) -> Atoms:
        """Return the atoms of one structure where it is now, or was before that became NaN."""
        work = self.works[b]
        positions = self.positions[self.atoms.starts[b] : self.atoms.starts[b + 1]]
        if not work.constraints and np.isfinite(positions).all() and np.isfinite(self.cells[b]).all():
            work.cell[:] = self.cells[b]
            work.positions[:] = positions
        return work

    def _join(self, on_atoms: Array, on_cells: Array) -> Array:
        rows = np.empty((self._n_rows, 3))
        rows[self._atom_rows] = on_atoms
        if self.free:
            rows[self._cell_rows] = on_cells
        return rows


def _mean_of_diagonal(tensors: Array) -> NDArray[np.float64]:
    return np.trace(tensors, axis1=1, axis2=2)[:, None, None] / 3.0


def _adjoint_of_exp(log: Array, pull: Array) -> Array:
    """Return ∂/∂U of pull : exp(U), (B, 3, 3): a block of exp [[Uᵀ, pull], [0, Uᵀ]].

    Higham, Functions of Matrices (SIAM, 2008), eq. (3.16), with L(Uᵀ, ·) as the adjoint of L(U, ·).
    """
    block = torch.zeros((len(log), 6, 6), dtype=torch.float64)
    block[:, :3, :3] = block[:, 3:, 3:] = torch.from_numpy(np.swapaxes(log, 1, 2).copy())
    block[:, :3, 3:] = torch.from_numpy(np.ascontiguousarray(pull))
    return torch.matrix_exp(block)[:, :3, 3:].numpy()
