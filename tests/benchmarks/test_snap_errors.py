"""SNAP fitted to frames: descriptors have the right derivatives, and a fit finds a potential it can represent."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "mlearn"))

from snap_errors import Frame, bispectra, cross_validated

from mlcalc.training.dataset import Labelled

# A sliver, left-handed, and rotated out of LAMMPS' frame.
CELL = np.array([[0.2, 3.9, 1.1], [4.2, 0.1, -1.7], [0.8, 0.4, 4.4]])


def crystal(seed: int) -> Atoms:
    random = np.random.default_rng(seed)
    scaled = np.array([[0.0, 0.0, 0.0], [0.5, 0.45, 0.1], [0.1, 0.5, 0.6]])
    atoms = Atoms("Si3", cell=CELL, scaled_positions=scaled, pbc=True)
    atoms.positions += random.normal(scale=0.15, size=(3, 3)) + 20.0  # far outside of the cell
    return atoms


@pytest.mark.parametrize("quadratic", [False, True])
def test_derivatives_of_bispectra_are_those_of_their_sums(quadratic: bool) -> None:
    atoms, step = crystal(0), 1e-4
    assert np.linalg.det(CELL) < 0
    rows = bispectra(atoms, 4, quadratic, 4.3).forces.reshape(3, 3, -1)
    assert np.abs(rows).max() > 1.0
    for k, axis in ((0, 0), (1, 1), (2, 2)):
        sums = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[k, axis] += sign * step
            sums.append(3 * bispectra(moved, 4, quadratic, 4.3).energy)
        np.testing.assert_allclose(rows[k, axis], -(sums[0] - sums[1]) / (2 * step), rtol=1e-5, atol=2e-4)


def test_a_potential_of_its_own_kind_is_found() -> None:
    """Labels made from known coefficients come back exactly on frames left out; made from others they do not."""
    frames = [bispectra(crystal(seed), 4, False, 4.3) for seed in range(24)]
    coefficients = np.random.default_rng(1).normal(size=frames[0].energy.size)

    def labelled(frame: Frame, error: float) -> Labelled:
        return Labelled(
            Atoms("Si3", cell=CELL, pbc=True),
            float(3 * frame.energy @ coefficients) + error,
            (frame.forces @ coefficients).reshape(3, 3),
            None,
            "shaken",
        )

    exact = cross_validated(frames, [labelled(frame, 0.0) for frame in frames], 3, 30.0)
    assert np.abs(exact.energies - [x.energy for x in exact.data]).max() < 1e-4
    assert max(np.abs(f - x.forces).max() for f, x in zip(exact.forces, exact.data, strict=True)) < 1e-3
    noisy = cross_validated(frames, [labelled(frame, 0.3 * (k % 2)) for k, frame in enumerate(frames)], 3, 30.0)
    assert np.abs(noisy.energies - [x.energy for x in noisy.data]).max() > 0.05
