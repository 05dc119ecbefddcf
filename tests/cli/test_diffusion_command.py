"""mlcalc diffusion: dynamics at two temperatures, a trajectory from a file, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write
from typer.testing import CliRunner

from mlcalc.cli import app
from mlcalc.errors import WorkflowError
from mlcalc.workflows import diffusion_from_trajectory


def test_a_crystal_at_two_temperatures_is_a_loud_bound(tmp_path: Path) -> None:
    write(tmp_path / "Cu.extxyz", bulk("Cu", a=3.65))
    config = tmp_path / "d.yaml"
    config.write_text("calculator: ase.calculators.emt:EMT\ntemperatures-k: 300 500\nsteps: 400\nblocks: 3\n")
    call = ["diffusion", str(tmp_path / "Cu.extxyz"), "--config", str(config), "--out", str(tmp_path / "o")]
    call += ["--equilibration-steps", "20", "--supercell", "2", "--timestep-fs", "5"]
    with pytest.warns(UserWarning, match="not diffusive"):
        done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    assert "NO" in done.output
    document = json.loads((tmp_path / "o/diffusion.json").read_text())
    assert [run["temperature_k"] for run in document["runs"]] == [300.0, 500.0]
    assert document["converged"] is False
    assert document["arrhenius"] == {}
    for name in ("msd.png", "arrhenius.png", "300K/log.csv", "500K/trajectory.extxyz"):
        assert (tmp_path / "o" / name).stat().st_size > 500
    with pytest.warns(UserWarning, match="not diffusive"):
        again = CliRunner().invoke(app, call)
    assert again.exit_code == 0
    repeated = json.loads((tmp_path / "o/diffusion.json").read_text())
    assert repeated["runs"][0]["elements"] == document["runs"][0]["elements"]


def test_a_trajectory_needs_no_calculator(tmp_path: Path) -> None:
    steps = np.random.default_rng(0).standard_normal((300, 20, 3))
    frames = [Atoms("H20", positions=item) for item in np.cumsum(0.1 * steps, axis=0)]
    write(tmp_path / "walk.extxyz", frames)
    call = ["diffusion", str(tmp_path / "walk.extxyz"), "--trajectory", "--out", str(tmp_path / "o")]
    done = CliRunner().invoke(app, [*call, "--interval-fs", "2", "--blocks", "5"])
    assert done.exit_code == 0, done.output
    assert "yes" in done.output
    document = json.loads((tmp_path / "o/diffusion.json").read_text())
    expected = diffusion_from_trajectory(frames, interval_fs=2.0, blocks=5).elements["H"]
    assert document["elements"]["H"]["diffusion_cm2_per_s"] == pytest.approx(expected.diffusion_cm2_per_s, rel=1e-4)
    for extra, message in [
        ([], "give interval_fs"),
        (["--potential", "mlearn"], "needs no --potential"),
    ]:
        with pytest.raises(WorkflowError, match=message):
            CliRunner().invoke(app, [*call, *extra], catch_exceptions=False)
    plain = ["diffusion", str(tmp_path / "walk.extxyz"), "--out", str(tmp_path / "o")]
    for extra, message in [
        ([], "either --potential"),
        (["--interval-fs", "2"], "is for --trajectory"),
        (["--temperatures-k", "hot"], "give numbers"),
        (["--calculator", "ase.calculators.emt:EMT", "--engine", "lammps"], "give --potential instead"),
    ]:
        with pytest.raises(WorkflowError, match=message):
            CliRunner().invoke(app, [*plain, *extra], catch_exceptions=False)
