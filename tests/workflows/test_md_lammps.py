"""The LAMMPS engine of md: same record as ASE, ensembles, continuation."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from scripted_lennard_jones import ScriptedLennardJones

from mlcalc import MLCalculator
from mlcalc.deploy import export, load_model
from mlcalc.errors import WorkflowError
from mlcalc.workflows import md

pytestmark = pytest.mark.xdist_group("mpi")

COLUMNS = ("time_fs", "temperature_k", "potential_ev", "kinetic_ev", "total_ev", "volume_ang3")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "lj.pt"
    export(ScriptedLennardJones(), path, dtype="float64")
    return path


def argon(repeat: int = 2) -> Atoms:
    return bulk("Ar", a=5.3, cubic=True).repeat(repeat)


def sheared() -> Atoms:
    """A triclinic, left-handed cell with atoms outside of it."""
    atoms = argon()
    atoms.set_cell(atoms.cell.array @ np.array([[1, 0.1, 0], [0, 1, -0.2], [0.05, 0, 1]]), scale_atoms=True)
    atoms.set_cell(atoms.cell.array[[1, 0, 2]])
    atoms.positions += [7.0, -20.0, 3.0]
    return atoms


def slab() -> Atoms:
    atoms = argon()
    atoms.center(vacuum=8.0, axis=2)
    atoms.pbc = (True, True, False)
    return atoms


@pytest.mark.parametrize(("structure", "ranks"), [(sheared, 1), (sheared, 2), (slab, 2)])
def test_nve_is_the_same_trajectory_in_both_engines(structure, ranks: int, model: Path) -> None:
    call = {
        "ensemble": "nve", "temperature_k": 40.0, "timestep_fs": 4.0, "steps": 60, "seed": 5,
        "log_interval": 5, "trajectory_interval": 20, "checkpoint_interval": 25,
    }  # fmt: skip
    by_ase = md(structure(), MLCalculator(model), **call)
    by_lammps = md(structure(), model, engine="lammps", ranks=ranks, **call)
    np.testing.assert_array_equal(by_lammps.step, by_ase.step)
    for name in COLUMNS:
        # LAMMPS' and ASE's constants differ in the eighth digit.
        np.testing.assert_allclose(getattr(by_lammps, name), getattr(by_ase, name), rtol=2e-6, err_msg=name)
    np.testing.assert_allclose(by_lammps.pressure_gpa, by_ase.pressure_gpa, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(by_lammps.frames(), by_ase.frames(), strict=True):
        assert ours.info["step"] == theirs.info["step"]
        np.testing.assert_allclose(ours.positions, theirs.positions, atol=1e-5)
        np.testing.assert_allclose(ours.get_momenta(), theirs.get_momenta(), atol=1e-5)
        np.testing.assert_allclose(ours.get_forces(), theirs.get_forces(), atol=1e-5)
        np.testing.assert_allclose(ours.cell.array, theirs.cell.array)
        assert ours.get_potential_energy() == pytest.approx(theirs.get_potential_energy(), abs=1e-6)
    np.testing.assert_allclose(by_lammps.atoms.positions, by_ase.atoms.positions, atol=1e-5)


@pytest.mark.parametrize("ensemble", ["nvt-langevin", "nvt-bussi", "npt-mtk"])
def test_mean_temperature_and_pressure_are_those_asked_for(ensemble: str, model: Path) -> None:
    pressure = 0.2 if ensemble == "npt-mtk" else 0.0
    result = md(
        argon(), model, engine="lammps", ensemble=ensemble, temperature_k=40.0, pressure_gpa=pressure, npt_cell="full",
        timestep_fs=4.0, steps=20_000, tau_fs=100.0, log_interval=10, trajectory_interval=1000,
        checkpoint_interval=2000, seed=2,
    )  # fmt: skip
    late = result.temperature_k[200:]
    assert late.mean() == pytest.approx(40.0, rel=0.03)
    assert late.var() / late.mean() ** 2 == pytest.approx(2.0 / 93.0, rel=0.3)
    if pressure:
        assert result.pressure_gpa[200:].mean() == pytest.approx(pressure, abs=0.02)
        assert np.ptp(result.volume_ang3) > 1.0
        cells = np.array([frame.cell.array for frame in result.frames()])
        assert np.abs(cells[-1] - np.diag(np.diag(cells[-1]))).max() > 0.01
        np.testing.assert_allclose(
            [frame.get_volume() for frame in result.frames()], result.volume_ang3[::100], rtol=1e-6
        )


@pytest.mark.parametrize("ensemble", ["nve", "nvt-langevin", "nvt-bussi", "npt-mtk"])
def test_an_extended_run_equals_an_unbroken_one(ensemble: str, model: Path, tmp_path: Path) -> None:
    call = {
        "engine": "lammps", "ensemble": ensemble, "temperature_k": 40.0, "timestep_fs": 4.0, "checkpoint_interval": 20,
        "log_interval": 5, "trajectory_interval": 10, "out": tmp_path / "two",
    }  # fmt: skip
    md(argon(), model, steps=40, **call)
    two = md(argon(), model, steps=90, **call)
    one = md(argon(), model, steps=90, **{**call, "out": tmp_path / "one"})
    assert (one.resumed_from, two.resumed_from) == (0, 40)
    assert [path.name for path in (tmp_path / "two/lammps").glob("restart.*")] == ["restart.90"]
    np.testing.assert_array_equal(two.step, np.arange(0, 91, 5))
    for name in (*COLUMNS, "pressure_gpa"):
        np.testing.assert_allclose(getattr(two, name), getattr(one, name), rtol=1e-8, atol=1e-9, err_msg=name)
    assert [frame.info["step"] for frame in two.frames()] == list(range(0, 91, 10))
    np.testing.assert_allclose(two.atoms.positions, one.atoms.positions, atol=1e-8)
    again = md(argon(), model, steps=90, **call)
    np.testing.assert_array_equal(again.total_ev, two.total_ev)


KILLED = """
import sys
from ase.build import bulk
from mlcalc.workflows import md
md(bulk("Ar", a=5.3, cubic=True).repeat(2), sys.argv[1], out=sys.argv[2], engine="lammps", ensemble="nvt-bussi",
   temperature_k=40.0, timestep_fs=4.0, steps=int(sys.argv[3]), checkpoint_interval=200)
"""


def test_a_killed_run_goes_on(model: Path, tmp_path: Path) -> None:
    steps = 4_000_000
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(model), str(out), str(steps)], start_new_session=True)
    deadline = time.monotonic() + 100
    while not list(out.glob("lammps/restart.[0-9]*")):
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline, "wrote no restart file"
        time.sleep(0.02)
    with pytest.raises(WorkflowError, match="still runs in"):
        md(argon(), model, out=out, engine="lammps", ensemble="nvt-bussi", temperature_k=40.0, timestep_fs=4.0,
           steps=steps, checkpoint_interval=200)  # fmt: skip
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    at = max(int(path.suffix[1:]) for path in out.glob("lammps/restart.[0-9]*"))
    steps = at + 300
    call = {
        "engine": "lammps", "ensemble": "nvt-bussi", "temperature_k": 40.0, "timestep_fs": 4.0,
        "checkpoint_interval": 200, "steps": steps,
    }  # fmt: skip
    result = md(argon(), model, out=out, **call)
    assert result.resumed_from == at
    np.testing.assert_array_equal(result.step, np.arange(0, steps + 1, 10))
    assert [frame.info["step"] for frame in result.frames()] == list(range(0, steps + 1, 10))
    fresh = md(argon(), model, out=tmp_path / "fresh", **{**call, "steps": 200})
    np.testing.assert_allclose(result.total_ev[:20], fresh.total_ev[:20], rtol=1e-9)


def test_names_and_objects_are_exported_for_lammps() -> None:
    potential = ScriptedLennardJones()
    call = {"ensemble": "nve", "temperature_k": 40.0, "steps": 10, "engine": "lammps"}
    by_object = md(argon(), potential, **call)
    by_calculator = md(argon(), MLCalculator(potential), **call)
    assert (by_object.folder / "lammps/model.pt").exists()
    np.testing.assert_allclose(by_object.total_ev, by_calculator.total_ev, rtol=1e-12)
    from ase.calculators.emt import EMT

    with pytest.raises(WorkflowError, match="not the calculator EMT"):
        md(argon(), EMT(), **call)
    from ase.constraints import FixAtoms

    held = argon()
    held.set_constraint(FixAtoms([0]))
    with pytest.raises(WorkflowError, match="constraints"):
        md(held, potential, **call)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_engines_run_in_the_same_precision(dtype: str, tmp_path: Path) -> None:
    file = tmp_path / f"{dtype}.pt"
    export(ScriptedLennardJones(), file, dtype=dtype)
    call = {"ensemble": "nve", "temperature_k": 40.0, "steps": 0}
    exact = md(argon(), MLCalculator(file, dtype="float64"), **call).potential_ev[0]
    for engine in ("ase", "lammps"):
        error = abs(md(argon(), file, engine=engine, **call).potential_ev[0] / exact - 1.0)
        assert (error > 1e-10) == (dtype == "float32"), engine
        assert error < 1e-5
    with pytest.raises(WorkflowError, match=r"\.pt runs in the dtype it was exported in"):
        md(argon(), file, engine="lammps", dtype="float64", **call)
    with pytest.raises(WorkflowError, match="cannot change a calculator"):
        md(argon(), MLCalculator(file), dtype="float64", **call)


def test_names_run_in_double_and_calculators_in_their_own_precision() -> None:
    silicon = bulk("Si", cubic=True)
    for calculator, dtype in (("mlearn", "float64"), (MLCalculator("mlearn"), "float32")):
        result = md(silicon, calculator, engine="lammps", ensemble="nve", steps=0)
        assert load_model(result.folder / "lammps/model.pt").dtype == getattr(torch, dtype)
        by_ase = md(silicon, calculator, ensemble="nve", steps=0)
        assert dtype in by_ase.settings["calculator"]


def test_zero_steps_give_the_start_in_both_engines(model: Path) -> None:
    for engine, calculator in (("ase", MLCalculator(model)), ("lammps", model)):
        result = md(argon(), calculator, engine=engine, temperature_k=40.0, steps=0)
        np.testing.assert_allclose(result.temperature_k, [40.0], rtol=1e-6)
        assert len(result.frames()) == 1
