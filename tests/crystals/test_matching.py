"""Predicted crystals beside true ones, and crystals moved onto their symmetry."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from mlcalc.crystals import find_space_group
from mlcalc.crystals.matching import match_error, rms_displacement
from mlcalc.crystals.symmetry import symmetrized


def test_the_error_of_a_match_is_the_rms_distance() -> None:
    salt = bulk("NaCl", "rocksalt", a=5.64)
    moved = salt.copy()
    moved.positions[0] += [0.4, 0, 0]
    # The mean is taken out, which leaves 0.2 Å for each of two atoms; lengths in (volume per atom)^(1/3) = 2.82 Å.
    assert match_error(moved, salt) == pytest.approx(0.2 / 2.82, rel=1e-3)
    assert match_error(bulk("NaCl", "cesiumchloride", a=3.4), salt) is None
    assert match_error(bulk("KCl", "rocksalt", a=5.64), salt) is None


def test_noise_goes_and_what_has_no_symmetry_stays() -> None:
    rng = np.random.default_rng(0)
    salt = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    noisy = salt.copy()
    noisy.positions += rng.normal(0, 0.01, noisy.positions.shape)
    noisy.set_cell(noisy.cell.array * (1 + rng.normal(0, 0.001, (3, 3))), scale_atoms=True)
    clean = symmetrized(noisy, 0.1)
    group, before = find_space_group(clean), find_space_group(noisy)
    assert group is not None
    assert group.number == 225
    assert before is None or before.number < 225
    assert (clean.numbers == noisy.numbers).all()
    assert clean.get_volume() == pytest.approx(noisy.get_volume(), rel=1e-3)
    assert match_error(clean, salt) == pytest.approx(0, abs=1e-6)
    plain = salt.copy()
    plain.positions += rng.normal(0, 0.5, plain.positions.shape)
    assert symmetrized(plain, 0.01) == plain


def test_displacements_without_drift_strain_and_wrapping() -> None:
    salt = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    moved = salt.copy()
    moved.positions[0] += [0.0, 0.0, 0.8]
    # One of eight atoms: 0.8 Å less the mean of 0.1, and 0.1 for each of the others.
    expected = np.sqrt((0.7**2 + 7 * 0.1**2) / 8)
    assert rms_displacement(salt, moved) == pytest.approx(expected, rel=1e-12)
    moved.positions += [2.9, -1.3, 11.0]
    moved.wrap()
    assert rms_displacement(salt, moved) == pytest.approx(expected, rel=1e-9)
    moved.set_cell(moved.cell.array * 1.1, scale_atoms=True)
    assert rms_displacement(salt, moved) == pytest.approx(1.1 * expected, rel=1e-9)
    assert rms_displacement(salt, salt) == 0.0
    one = bulk("Cu")
    assert rms_displacement(one, bulk("Cu", a=4.0)) == 0.0
