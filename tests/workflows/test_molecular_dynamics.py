"""MD with the ASE engine: conservation, ensembles, and runs that survive a kill bit for bit."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from mlcalc import MLCalculator
from mlcalc.errors import NonFiniteError, WorkflowError
from mlcalc.workflows import MDResult, md
from mlcalc.workflows._md_ase import build_dynamics
from mlcalc.workflows._md_settings import MDSettings, draw_momenta

ENSEMBLES = [
    {"ensemble": "nve"},
    {"ensemble": "nvt-langevin"},
    {"ensemble": "nvt-bussi"},
    {"ensemble": "npt-mtk", "pressure_gpa": 1.0},
    {"ensemble": "npt-mtk", "npt_cell": "full"},
]
SHORT = {
    "temperature_k": 900.0,
    "timestep_fs": 4.0,
    "steps": 40,
    "tau_fs": 40.0,
    "barostat_tau_fs": 100.0,
    "seed": 7,
    "log_interval": 2,
    "trajectory_interval": 4,
    "checkpoint_interval": 7,
}


def copper(repeat: int = 2) -> Atoms:
    return bulk("Cu", cubic=True).repeat((repeat, 1, 1))


KILLED = """
import json, os, signal, sys
from ase.build import bulk
from ase.calculators.emt import EMT
from mlcalc.workflows import md
out, at, options = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
def progress(step, steps):
    if step == at:
        os.kill(os.getpid(), signal.SIGKILL)
md(bulk("Cu", cubic=True).repeat((2, 1, 1)), EMT(), out=out, progress=progress, **options)
"""


@pytest.mark.parametrize("options", ENSEMBLES, ids=lambda item: "-".join(map(str, item.values())))
def test_a_killed_run_goes_on_bit_for_bit(options: dict, tmp_path: Path) -> None:
    import json

    call = {**SHORT, **options}
    unbroken = md(copper(), EMT(), out=tmp_path / "unbroken", **call)
    broken = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "broken"), "20", json.dumps(call)], check=False, timeout=120
    )
    assert broken.returncode == -signal.SIGKILL
    # As if the kill had come in the middle of a write: half a line, half a frame.
    for name in ("log.csv", "trajectory.extxyz"):
        with open(tmp_path / "broken" / name, "ab") as file:
            file.write(b"8\nhalf a fra")
    resumed = md(copper(), EMT(), out=tmp_path / "broken", **call)
    assert resumed.resumed_from == 14
    for name in ("log.csv", "trajectory.extxyz"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes()
    np.testing.assert_array_equal(resumed.atoms.positions, unbroken.atoms.positions)
    np.testing.assert_array_equal(resumed.atoms.get_momenta(), unbroken.atoms.get_momenta())
    np.testing.assert_array_equal(resumed.atoms.cell.array, unbroken.atoms.cell.array)
    with np.load(tmp_path / "broken/checkpoint.npz") as a, np.load(tmp_path / "unbroken/checkpoint.npz") as b:
        assert sorted(a.files) == sorted(b.files)
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name])


def test_a_neighbour_list_with_a_skin_does_not_break_the_continuation(tmp_path: Path) -> None:
    from scripted_lennard_jones import ScriptedLennardJones

    class Killed(Exception):
        pass

    def kill(step: int, steps: int) -> None:
        if step == 150:
            raise Killed

    def calculator() -> MLCalculator:
        return MLCalculator(ScriptedLennardJones(), skin=0.4)

    argon = bulk("Ar", a=5.3, cubic=True).repeat(2)
    argon.rattle(0.2, seed=0)
    call = {"temperature_k": 200.0, "timestep_fs": 5.0, "steps": 200, "checkpoint_interval": 60, "ensemble": "nve"}
    one = calculator()
    md(argon, one, out=tmp_path / "one", **call)
    assert one.verlet.rebuilds > 5
    with pytest.raises(Killed):
        md(argon, calculator(), out=tmp_path / "two", progress=kill, **call)
    assert md(argon, calculator(), out=tmp_path / "two", **call).resumed_from == 120
    for name in ("log.csv", "trajectory.extxyz"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_finished_run_is_read_back_and_can_be_extended(tmp_path: Path) -> None:
    first = md(copper(), EMT(), out=tmp_path, **SHORT)
    calls = []
    again = md(copper(), EMT(), out=tmp_path, progress=lambda *at: calls.append(at), **SHORT)
    assert not calls
    np.testing.assert_array_equal(again.total_ev, first.total_ev)
    longer = md(copper(), EMT(), out=tmp_path, **{**SHORT, "steps": 60})
    assert longer.resumed_from == 40
    assert longer.step[-1] == 60
    np.testing.assert_array_equal(longer.total_ev[: len(first.total_ev)], first.total_ev)
    assert len(longer.frames()) == 16
    with pytest.raises(WorkflowError, match="already holds 60 steps"):
        md(copper(), EMT(), out=tmp_path, **SHORT)


def test_a_run_killed_before_its_first_checkpoint_starts_again(tmp_path: Path) -> None:
    first = md(copper(), EMT(), out=tmp_path, **SHORT)
    (tmp_path / "checkpoint.npz").unlink()
    again = md(copper(), EMT(), out=tmp_path, **SHORT)
    assert again.resumed_from == 0
    np.testing.assert_array_equal(again.total_ev, first.total_ev)
    (tmp_path / "checkpoint.npz").unlink()
    with pytest.raises(WorkflowError, match="a trajectory but no checkpoint"):
        md(copper(3), EMT(), out=tmp_path, **SHORT)


def test_a_folder_of_another_run_is_refused_by_name(tmp_path: Path) -> None:
    md(copper(), EMT(), out=tmp_path, **SHORT)
    with pytest.raises(WorkflowError, match=r"temperature_k \(900.0 then, 500.0 now\)"):
        md(copper(), EMT(), out=tmp_path, **{**SHORT, "temperature_k": 500.0})
    with pytest.raises(WorkflowError, match="differs in structure"):
        md(copper(3), EMT(), out=tmp_path, **SHORT)
    assert md(copper(3), EMT(), out=tmp_path, resume=False, **SHORT).resumed_from == 0
    (tmp_path / "log.csv").write_text("step\n")
    with pytest.raises(WorkflowError, match="shorter than its checkpoint"):
        md(copper(3), EMT(), out=tmp_path, **SHORT)


def test_nve_conserves_energy_and_momentum_to_second_order() -> None:
    def spread(timestep: float) -> MDResult:
        return md(copper(), EMT(), ensemble="nve", timestep_fs=timestep, steps=round(200 / timestep), log_interval=1)

    coarse, fine = spread(4.0), spread(2.0)
    # The error of velocity Verlet falls with the square of the step.
    assert np.ptp(coarse.total_ev) / np.ptp(fine.total_ev) == pytest.approx(4.0, rel=0.4)
    assert abs(fine.drift_ev_per_atom_per_ps) < 1e-4
    np.testing.assert_allclose(fine.atoms.get_momenta().sum(axis=0), 0.0, atol=1e-9)
    assert fine.temperature_k[0] == pytest.approx(300.0)


@pytest.mark.parametrize("ensemble", ["nvt-langevin", "nvt-bussi", "npt-mtk"])
def test_mean_temperature_is_the_one_asked_for_in_a_small_cell(ensemble: str) -> None:
    # Four atoms: counting 3N instead of 3N − 3 degrees of freedom would be off by a third.
    result = md(
        copper(1),
        EMT(),
        ensemble=ensemble,
        temperature_k=400.0,
        timestep_fs=4.0,
        steps=2000 if ensemble == "npt-mtk" else 4000,
        tau_fs=30.0,
        barostat_tau_fs=300.0,
        log_interval=2,
        trajectory_interval=1000,
        seed=3,
    )
    late = result.temperature_k[100:]
    assert late.mean() == pytest.approx(400.0, rel=0.08)
    # Canonical fluctuation: var(T)/T² = 2/Nf.
    assert late.var() / late.mean() ** 2 == pytest.approx(2.0 / 9.0, rel=0.4)


@pytest.mark.parametrize("npt_cell", ["isotropic", "full"])
def test_mtk_conserves_its_extended_energy_and_meets_the_pressure(npt_cell: str) -> None:
    atoms = copper()
    atoms.calc = EMT()
    settings = MDSettings(
        ensemble="npt-mtk",
        temperature_k=300.0,
        pressure_gpa=2.0,
        timestep_fs=2.0,
        steps=0,
        tau_fs=100.0,
        barostat_tau_fs=300.0,
        npt_cell=npt_cell,
        seed=1,
        engine="ase",
        ranks=1,
        log_interval=1,
        trajectory_interval=1,
        checkpoint_interval=1,
    )
    draw_momenta(atoms, settings)
    dynamics = build_dynamics(atoms, settings, np.random.default_rng(0))
    conserved, total = [], []
    for _ in range(120):
        dynamics.step()
        conserved.append(dynamics.get_conserved_energy())
        total.append(atoms.get_total_energy())
    assert np.ptp(conserved) < 0.02 * np.ptp(total)
    result = md(
        copper(1), EMT(), ensemble="npt-mtk", pressure_gpa=2.0, npt_cell=npt_cell, timestep_fs=5.0, steps=800,
        barostat_tau_fs=300.0, log_interval=2, trajectory_interval=100,
    )  # fmt: skip
    assert result.pressure_gpa[40:].mean() == pytest.approx(2.0, abs=0.25)


def test_recorded_numbers_agree_with_ase_and_with_the_trajectory() -> None:
    result = md(copper(), EMT(), ensemble="nvt-bussi", steps=20, log_interval=5, trajectory_interval=10)
    frames = result.frames()
    assert [frame.info["step"] for frame in frames] == [0, 10, 20]
    last = result.atoms.copy()
    last.calc = EMT()
    assert result.potential_ev[-1] == pytest.approx(last.get_potential_energy(), abs=1e-10)
    assert result.kinetic_ev[-1] == pytest.approx(last.get_kinetic_energy(), abs=1e-12)
    pressure = -last.get_stress(include_ideal_gas=True)[:3].mean() / units.GPa
    assert result.pressure_gpa[-1] == pytest.approx(pressure, abs=1e-9)
    assert result.volume_ang3[-1] == pytest.approx(last.get_volume())
    np.testing.assert_allclose(frames[-1].positions, last.positions, atol=1e-7)
    np.testing.assert_allclose(frames[-1].get_forces(), last.get_forces(), atol=1e-6)
    np.testing.assert_allclose(result.time_fs, [0, 5, 10, 15, 20])
    assert result.rdf(r_max=5.0).frames == 3
    assert result.msd().msd_ang2[0] == pytest.approx(0.0, abs=1e-12)


def test_molecules_slabs_single_atoms_and_constraints_run() -> None:
    from ase.constraints import FixAtoms

    water = md(molecule("CO"), EMT(), ensemble="nvt-langevin", timestep_fs=0.5, steps=10)
    assert np.isnan(water.pressure_gpa).all()
    assert np.isfinite(water.total_ev).all()
    one = Atoms("Ar", cell=[5, 5, 5], pbc=True)
    for ensemble in ("nve", "nvt-langevin", "nvt-bussi"):
        assert md(one, LennardJones(), ensemble=ensemble, steps=10).temperature_k[0] == pytest.approx(300.0)
    held = copper()
    held.set_constraint(FixAtoms([0, 1]))
    result = md(held, EMT(), ensemble="nvt-langevin", steps=20)
    np.testing.assert_array_equal(result.atoms.positions[:2], held.positions[:2])
    assert result.temperature_k[0] == pytest.approx(300.0)
    assert held.get_momenta().max() == 0.0
    with pytest.raises(WorkflowError, match="constraints"):
        md(held, EMT(), ensemble="npt-mtk", steps=1)


def test_given_momenta_are_kept() -> None:
    atoms = copper()
    momenta = np.random.default_rng(0).standard_normal((8, 3))
    atoms.set_momenta(momenta)
    result = md(atoms, EMT(), ensemble="nve", steps=0)
    np.testing.assert_array_equal(result.atoms.get_momenta(), momenta)


def test_explosions_are_reported_not_recorded() -> None:
    close = Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 1e-30]], cell=[9, 9, 9], pbc=True)
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match="step 0"):
        md(close, LennardJones(sigma=3.0), ensemble="nve", steps=5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ensemble": "nvt"}, "choose from nve, nvt-langevin, nvt-bussi, npt-mtk"),
        ({"engine": "gromacs"}, "gromacs"),
        ({"timestep_fs": 0.0}, "timestep_fs"),
        ({"temperature_k": 0.0}, "temperature_k"),
        ({"pressure_gpa": 1.0}, "npt-mtk"),
        ({"log_interval": 3}, "multiple of log_interval"),
        ({"ranks": 2}, "engine='lammps'"),
    ],
)
def test_bad_options_are_named_before_anything_runs(options: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(WorkflowError, match=message):
        md(copper(), EMT(), out=tmp_path / "never", **options)
    assert not os.path.exists(tmp_path / "never")
