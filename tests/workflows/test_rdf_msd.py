"""Radial distribution and mean squared displacement against analytic cases."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from pymatgen.io.ase import AseAtomsAdaptor

from mlcalc.errors import WorkflowError
from mlcalc.workflows import mean_squared_displacement, radial_distribution


def test_fcc_shells_hold_their_coordination_numbers_beyond_the_cell() -> None:
    a = 3.6
    rdf = radial_distribution([bulk("Cu", a=a)], r_max=1.6 * a, bins=800)
    for shell, total in [(np.sqrt(0.5), 12), (1.0, 18), (np.sqrt(1.5), 42), (np.sqrt(2.0), 54), (np.sqrt(2.5), 78)]:
        before, after = np.searchsorted(rdf.r_ang, [shell * a - 0.05, shell * a + 0.05])
        assert rdf.coordination[after] == pytest.approx(total)
        assert rdf.coordination[before] < total
    assert rdf.g[rdf.r_ang < 0.7 * a].max() == 0.0


def test_ideal_gas_is_one_in_a_triclinic_cell() -> None:
    generator = np.random.default_rng(0)
    cell = np.array([[9.0, 0, 0], [4.0, 8.0, 0], [-2.0, 3.0, 7.0]])
    frames = [Atoms("H200", scaled_positions=generator.random((200, 3)), cell=cell, pbc=True) for _ in range(20)]
    rdf = radial_distribution(frames, r_max=8.0, bins=16)
    # Pairs in the smallest bin used: about 20·200·200/(2·504)·4π·1.25²·0.5 ~ 8000, a spread near one per cent.
    np.testing.assert_allclose(rdf.g[2:], 1.0 - 1.0 / 200, atol=0.05)
    assert rdf.g[8:].mean() == pytest.approx(1.0 - 1.0 / 200, abs=0.004)


def test_partial_distributions_of_rock_salt() -> None:
    salt = bulk("NaCl", "rocksalt", a=5.64)
    unlike = radial_distribution([salt], pair=("Na", "Cl"), r_max=4.5, bins=450)
    like = radial_distribution([salt], pair=("Na", "Na"), r_max=4.5, bins=450)
    assert unlike.coordination[np.searchsorted(unlike.r_ang, 3.0)] == pytest.approx(6)
    assert like.coordination[-1] == pytest.approx(12)
    with pytest.raises(WorkflowError, match="Fe"):
        radial_distribution([salt], pair=("Na", "Fe"))


def test_open_structures_are_refused() -> None:
    with pytest.raises(WorkflowError, match="periodic in three directions"):
        radial_distribution([Atoms("H2", positions=[[0, 0, 0], [0, 0, 1]])])


def test_ballistic_motion_is_quadratic() -> None:
    velocities = np.array([[0.1, 0, 0], [0, -0.2, 0.05]])
    frames = [Atoms("HO", positions=velocities * t) for t in range(12)]
    msd = mean_squared_displacement(frames, interval_fs=2.0, remove_drift=False)
    lag = np.arange(12)
    np.testing.assert_allclose(msd.msd_ang2, (velocities**2).sum(axis=1).mean() * lag**2, atol=1e-12)
    np.testing.assert_allclose(msd.by_element["H"], 0.01 * lag**2, atol=1e-12)
    np.testing.assert_allclose(msd.time_fs, 2.0 * lag)


def test_fft_equals_the_double_sum_and_drift_goes() -> None:
    generator = np.random.default_rng(3)
    positions = np.cumsum(generator.standard_normal((30, 4, 3)), axis=0)
    frames = [Atoms("Cu4", positions=item + 0.7 * t) for t, item in enumerate(positions)]
    msd = mean_squared_displacement(frames, interval_fs=1.0)
    relative = positions - positions.mean(axis=1, keepdims=True)
    direct = [((relative[lag:] - relative[: 30 - lag]) ** 2).sum(axis=2).mean() for lag in range(30)]
    np.testing.assert_allclose(msd.msd_ang2, direct, atol=1e-9)


def test_brownian_motion_gives_its_diffusion_coefficient() -> None:
    # Steps of spread s per axis and fs: MSD = 3 s² t, D = s²/2 Å²/fs = 0.05 s² cm²/s.
    generator = np.random.default_rng(5)
    positions = np.cumsum(0.1 * generator.standard_normal((2000, 200, 3)), axis=0)
    msd = mean_squared_displacement(
        [Atoms("H200", positions=item) for item in positions], interval_fs=1.0, remove_drift=False
    )
    assert msd.diffusion_cm2_per_s(0.01, 0.1) == pytest.approx(0.05 * 0.1**2, rel=0.05)
    with pytest.raises(WorkflowError, match="too few frames"):
        mean_squared_displacement([Atoms("H"), Atoms("H")], interval_fs=1.0).diffusion_cm2_per_s()


def test_pymatgen_structures_give_the_same() -> None:
    frames = [bulk("Cu", cubic=True) for _ in range(4)]
    for number, frame in enumerate(frames):
        frame.rattle(0.02, seed=number)
    structures = [AseAtomsAdaptor.get_structure(frame) for frame in frames]
    ours, theirs = (radial_distribution(item, r_max=5.0) for item in (structures, frames))
    np.testing.assert_allclose(ours.coordination, theirs.coordination)
    ours, theirs = (mean_squared_displacement(item, interval_fs=1.0) for item in (structures, frames))
    assert theirs.msd_ang2[1] > 1e-4
    np.testing.assert_allclose(ours.msd_ang2, theirs.msd_ang2, atol=1e-10)
    with pytest.raises(WorkflowError, match="got dict"):
        radial_distribution([{}])
