"""Diffusion against walks of known D, Langevin atoms and an exact Arrhenius law; solids and free flight are told."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.io import write
from pymatgen.io.ase import AseAtomsAdaptor

from mlcalc.errors import WorkflowError
from mlcalc.workflows import (
    WorkflowWarning,
    diffusion,
    diffusion_from_trajectory,
    fit_arrhenius,
    md,
    mean_squared_displacement,
    plot_arrhenius,
    plot_diffusion,
)


class Nothing(Calculator):
    """Atoms that do not see each other."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.zeros((len(self.atoms), 3))}


def walk(seed: int, frames: int = 400, step: float = 0.1, **options) -> list[Atoms]:
    """Twelve H with steps of spread ``step`` per axis and frame, eight heavy O with half of that, and a drift."""
    generator = np.random.default_rng(seed)
    spread = np.array([step] * 12 + [step / 2] * 8)[:, None]
    positions = np.cumsum(spread * generator.standard_normal((frames, 20, 3)), axis=0)
    drift = 0.05 * np.arange(frames)[:, None, None]
    return [Atoms("H12O8", positions=item, **options) for item in positions + drift]


def known(symbol: str, step: float = 0.1) -> float:
    """D of ``walk`` with 1 fs a frame, cm²/s: s²/2 Å²/fs for each atom, less what the centre of mass takes along."""
    masses = np.array([1.008] * 12 + [15.999] * 8)
    spread = np.array([step**2] * 12 + [step**2 / 4] * 8)
    share = masses / masses.sum()
    which = 0 if symbol == "H" else 12
    relative = spread[which] * (1 - 2 * share[which]) + (share**2 * spread).sum()
    return 0.1 * relative / 2


def test_error_bars_cover_the_known_value() -> None:
    inside = {"H": 0, "O": 0}
    deviations = []
    for seed in range(100):
        found = diffusion_from_trajectory(walk(seed), interval_fs=1.0)
        for name, element in found.elements.items():
            deviation = (element.diffusion_cm2_per_s - known(name)) / element.error_cm2_per_s
            deviations.append(deviation)
            inside[name] += abs(deviation) < 1.0
            assert element.error_cm2_per_s < 0.2 * known(name)
    # Student's t with 9 degrees of freedom: 0.657 within one standard error; three binomial spreads of 100 seeds.
    for count in inside.values():
        assert 0.657 - 3 * 0.0475 < count / 100 < 0.657 + 3 * 0.0475
    assert abs(np.mean(deviations)) < 4 * np.sqrt(9 / 7 / 200)


def test_one_long_walk_in_numbers() -> None:
    found = diffusion_from_trajectory(walk(1, frames=20000), interval_fs=1.0, fit_stop_fs=200.0, fit_start_fs=20.0)
    for name, element in found.elements.items():
        assert element.diffusive
        assert element.bound is None
        assert element.exponent == pytest.approx(1.0, abs=0.05)
        assert element.diffusion_cm2_per_s == pytest.approx(known(name), abs=3 * element.error_cm2_per_s)
        assert element.error_cm2_per_s < 0.03 * known(name)
        assert element.msd_ang2[5] == pytest.approx(6 * known(name) / 0.1 * 5.0, rel=0.02)
        assert element.msd_ang2[5] == pytest.approx(6 * known(name) / 0.1 * 5.0, abs=4 * element.msd_error_ang2[5])
        assert (element.fit_start_fs, element.fit_stop_fs) == (20.0, 200.0)
    flat = diffusion_from_trajectory(walk(1, frames=20000), interval_fs=2.0, axes="xz", fit_stop_fs=40.0)
    assert flat.elements["H"].diffusion_cm2_per_s == pytest.approx(known("H") / 2, rel=0.03)


def test_wrapped_positions_and_files_give_the_same(tmp_path: Path) -> None:
    cell = np.array([[6.0, 0, 0], [2.5, 6.5, 0], [-1.0, 2.0, 7.0]])
    frames = walk(3, cell=cell, pbc=True)
    expected = diffusion_from_trajectory(frames, interval_fs=5.0, unwrap=False)
    wrapped = [frame.copy() for frame in frames]
    for number, frame in enumerate(wrapped):
        frame.wrap()
        frame.info["time_fs"] = 5.0 * number
    assert np.abs(wrapped[-1].positions - frames[-1].positions).max() > 3.0
    write(tmp_path / "run.extxyz", wrapped)
    structures = [AseAtomsAdaptor.get_structure(frame) for frame in wrapped]
    for given in (wrapped, tmp_path / "run.extxyz"):
        found = diffusion_from_trajectory(given)
        assert found.interval_fs == 5.0
        for name in ("H", "O"):
            ours, theirs = found.elements[name], expected.elements[name]
            np.testing.assert_allclose(ours.msd_ang2, theirs.msd_ang2, atol=1e-5)
            assert ours.diffusion_cm2_per_s == pytest.approx(theirs.diffusion_cm2_per_s, rel=1e-5)
    again = diffusion_from_trajectory(structures, interval_fs=5.0)
    assert again.elements["H"].diffusion_cm2_per_s == pytest.approx(expected.elements["H"].diffusion_cm2_per_s)
    with pytest.warns(WorkflowWarning, match="crossed unseen"):
        diffusion_from_trajectory(walk(3, step=1.0, cell=cell, pbc=True), interval_fs=1.0)


def test_fixed_atoms_hold_the_frame_and_do_not_count() -> None:
    generator = np.random.default_rng(5)
    positions = np.zeros((20000, 4, 3))
    positions[:, 0] = np.cumsum(0.1 * generator.standard_normal((20000, 3)), axis=0)
    for symbols in ("Cu4", "CuH3"):
        frames = [Atoms(symbols, positions=item, constraint=FixAtoms([1, 2, 3])) for item in positions]
        found = diffusion_from_trajectory(frames, interval_fs=1.0, fit_start_fs=10.0, fit_stop_fs=100.0)
        assert list(found.elements) == ["Cu"]
        copper = found.elements["Cu"]
        assert copper.atoms == 1
        assert copper.diffusion_cm2_per_s == pytest.approx(0.1 * 0.1**2 / 2, abs=3 * copper.error_cm2_per_s)
        assert copper.error_cm2_per_s < 0.05 * copper.diffusion_cm2_per_s
        msd = mean_squared_displacement(frames, interval_fs=1.0).msd_ang2
        assert msd[5] == pytest.approx(3 * 5 * 0.1**2 / 4, rel=0.03)


def test_frames_of_a_run_have_its_masses_and_constraints(tmp_path: Path) -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.set_masses([1.0, 60.0, 61.0, 62.0])
    atoms.set_constraint(FixAtoms([3]))
    run = md(atoms, EMT(), temperature_k=300, steps=20, trajectory_interval=10, out=tmp_path)
    for frame in run.frames():
        np.testing.assert_array_equal(frame.get_masses(), atoms.get_masses())
        np.testing.assert_array_equal(frame.constraints[0].index, [3])
        np.testing.assert_allclose(frame.positions[3], atoms.positions[3], atol=1e-12)


def test_nothing_that_moves_is_refused_before_any_dynamics() -> None:
    options = {"temperatures_k": 300, "steps": 1000, "equilibration_steps": 0}
    with pytest.raises(WorkflowError, match=r"repeat the cell \(--supercell\)"):
        diffusion(bulk("Cu"), None, **options)
    held = bulk("Cu", cubic=True)
    held.set_constraint(FixAtoms(range(4)))
    with pytest.raises(WorkflowError, match="all atoms are fixed"):
        diffusion(held, None, **options)


def test_langevin_atoms_follow_einstein(tmp_path: Path) -> None:
    # Without forces D = k_B T / (m γ), γ = 1/τ; a fixed centre of mass takes 1/N of it.
    count, tau = 100, 50.0
    gas = Atoms(f"Ar{count}", positions=np.zeros((count, 3)))
    options = {
        "temperatures_k": (600, 300),
        "ensemble": "nvt-langevin",
        "steps": 4000,
        "equilibration_steps": 200,
        "timestep_fs": 5.0,
        "tau_fs": tau,
        "fit_start_fs": 400.0,
        "out": tmp_path,
    }

    def kill(temperature: float, step: int, steps: int) -> None:
        if temperature == 600 and step >= 2500:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), pytest.warns(WorkflowWarning, match="friction slows"):
        diffusion(gas, Nothing(), **options, progress=kill)
    seen: list[tuple[float, int]] = []
    with pytest.warns(WorkflowWarning, match="friction slows"):
        result = diffusion(gas, Nothing(), **options, progress=lambda t, step, steps: seen.append((t, step)))
    assert min(step for t, step in seen if t == 600) >= 2000  # went on, and did not run 300 K again
    assert not [step for t, step in seen if t == 300 and step < 4000]
    assert result.converged
    assert [run.temperature_k for run in result.runs] == [300.0, 600.0]
    for run in result.runs:
        element = run.elements["Ar"]
        expected = units.kB * run.temperature_k * (tau * units.fs) / 39.948  # Å²/ASE time
        expected *= 0.1 * units.fs * (1 - 1 / count)
        assert element.error_cm2_per_s < 0.06 * expected
        assert element.diffusion_cm2_per_s == pytest.approx(expected, abs=3 * element.error_cm2_per_s)
        assert run.mean_temperature_k == pytest.approx(run.temperature_k, rel=0.03)
    line = result.arrhenius["Ar"]  # D ~ T, so ln 2 over the difference of 1/k_B T
    apparent = np.log(2.0) * units.kB / (1 / 300 - 1 / 600)
    assert line.activation_energy_ev == pytest.approx(apparent, abs=3 * line.activation_energy_error_ev)
    assert line.activation_energy_error_ev < 0.1 * apparent
    assert plot_arrhenius(result, tmp_path / "line.png").stat().st_size > 5000
    runs = {f"{run.temperature_k:g} K": run for run in result.runs}
    assert plot_diffusion(runs, tmp_path / "msd.png").stat().st_size > 5000


def test_a_solid_is_not_diffusive() -> None:
    crystal = bulk("Cu", a=3.65, cubic=True) * 2
    with pytest.warns(WorkflowWarning, match="Cu at 300 K is not diffusive: only a bound"):
        result = diffusion(
            crystal, EMT(), temperatures_k=300, steps=1100, equilibration_steps=100, timestep_fs=4.0, blocks=5
        )
    element = result.runs[0].elements["Cu"]
    assert not result.converged
    assert not element.diffusive
    assert element.exponent < 0.5
    assert element.bound == "upper"
    # Twice the mean square of the vibration, about 0.015 Å² for copper, over the window: a bound, not a coefficient.
    chord = 0.1 * np.interp(element.fit_stop_fs, element.time_fs, element.msd_ang2) / 6 / element.fit_stop_fs
    assert chord < element.bound_cm2_per_s < 2 * chord
    assert result.arrhenius == {}


def test_free_flight_and_rest_are_not_diffusive() -> None:
    velocities = np.random.default_rng(0).standard_normal((10, 3))
    flight = [Atoms("H10", positions=velocities * t) for t in range(200)]
    with pytest.warns(WorkflowWarning, match="lower bound"):
        element = diffusion_from_trajectory(flight, interval_fs=1.0).elements["H"]
    assert element.exponent == pytest.approx(2.0, abs=1e-6)
    assert element.bound == "lower"
    with pytest.warns(WorkflowWarning, match="not diffusive"):
        element = diffusion_from_trajectory([Atoms("H2", [[0, 0, 0], [1, 0, 0]])] * 200, interval_fs=1.0).elements["H"]
    assert np.isnan(element.exponent)
    assert element.bound_cm2_per_s == 0.0


def test_arrhenius_law_comes_back() -> None:
    temperatures = np.array([600.0, 700.0, 850.0, 1000.0, 1200.0])
    exact = 2e-3 * np.exp(-0.45 / (units.kB * temperatures))
    line = fit_arrhenius(temperatures, exact, 0.1 * exact)
    assert line.activation_energy_ev == pytest.approx(0.45, abs=1e-10)
    assert line.prefactor_cm2_per_s == pytest.approx(2e-3, rel=1e-8)
    assert line.diffusion_cm2_per_s(800.0) == pytest.approx(2e-3 * np.exp(-0.45 / (units.kB * 800.0)))
    relative = np.array([0.15, 0.1, 0.05, 0.03, 0.02])
    inside = 0
    for seed in range(100):
        noisy = exact * np.exp(relative * np.random.default_rng(seed).standard_normal(5))
        line = fit_arrhenius(temperatures, noisy, relative * noisy)
        inside += abs(line.activation_energy_ev - 0.45) < line.activation_energy_error_ev
    assert 0.683 - 3 * 0.0465 < inside / 100 < 0.76 + 3 * 0.043  # errors also grow where χ² is above one
    # A point with a large error bar weighs little.
    off = exact * [1, 1, 3, 1, 1]
    assert fit_arrhenius(temperatures, off, exact * [0.1, 0.1, 100, 0.1, 0.1]).activation_energy_ev == pytest.approx(
        0.45, abs=1e-4
    )
    for bad in ((temperatures[:1], exact[:1], exact[:1]), (temperatures, -exact, exact)):
        with pytest.raises(WorkflowError, match="Arrhenius"):
            fit_arrhenius(*bad)


def test_bad_input_is_refused_before_any_dynamics() -> None:
    crystal = bulk("Cu", cubic=True)
    good = {"temperatures_k": 300, "steps": 2000, "equilibration_steps": 100}
    for change, message in [
        ({"ensemble": "npt-mtk"}, "constant cell"),
        ({"steps": 900}, "81 frames in 10 blocks leave 8"),
        ({"equilibration_steps": 105}, "multiple of trajectory_interval"),
        ({"equilibration_steps": 2000}, "smaller than steps"),
        ({"temperatures_k": (300, 300)}, "different"),
        ({"temperatures_k": -5}, "positive"),
        ({"blocks": 2}, "at least 3 blocks"),
        ({"fit_stop_fs": 5000.0}, "inside a block"),
        ({"fit_start_fs": 1800.0}, "three lags"),
    ]:
        with pytest.raises(WorkflowError, match=message):
            diffusion(crystal, None, **{**good, **change})
    frames = walk(0, frames=120)
    for change, message in [
        ({}, "give interval_fs"),
        ({"interval_fs": 0.0}, "interval_fs must be positive"),
        ({"interval_fs": 1.0, "axes": "xx"}, "axes 'xx'"),
    ]:
        with pytest.raises(WorkflowError, match=message):
            diffusion_from_trajectory(frames, **change)
    with pytest.raises(WorkflowError, match="frame 1 holds other atoms"):
        diffusion_from_trajectory([frames[0], frames[0][1:]], interval_fs=1.0)
    for number, frame in enumerate(frames):
        frame.info["time_fs"] = float(number + (number > 50))
    with pytest.raises(WorkflowError, match="not equally spaced"):
        diffusion_from_trajectory(frames)
    with warnings.catch_warnings(), pytest.raises(WorkflowError, match="cannot be read as a trajectory"):
        diffusion_from_trajectory("missing.extxyz")
