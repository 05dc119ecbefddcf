"""mlcalc neb: files, configuration, refusal."""

import json
from pathlib import Path

import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read
from typer.testing import CliRunner

from mlcalc.cli import app
from mlcalc.errors import WorkflowError
from mlcalc.workflows import neb


def write_hop(folder: Path) -> tuple[Path, Path]:
    """Write a vacancy jump in an eight-atom cell of copper."""
    crystal = bulk("Cu", a=3.6) * 2
    initial, final = crystal.copy(), crystal.copy()
    final.positions[1] = final.positions[0]
    del initial[0], final[0]
    paths = folder / "first.extxyz", folder / "last.extxyz"
    for atoms, path in zip((initial, final), paths, strict=True):
        atoms.write(path)
    return paths


def test_files_equal_what_the_function_returns_and_the_same_command_goes_on(tmp_path: Path) -> None:
    first, last = write_hop(tmp_path)
    config = tmp_path / "neb.yaml"
    config.write_text("calculator: ase.calculators.emt:EMT\nimages: 3\nfmax: 0.02\n")
    out = tmp_path / "o"
    call = ["neb", str(first), str(last), "--config", str(config), "--out", str(out)]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    assert "yes" in done.output
    document = json.loads((out / "neb.json").read_text())
    expected = neb(read(first), read(last), EMT(), images=3, fmax=0.02)
    assert document["barrier_forward_ev"] == pytest.approx(expected.barrier_forward_ev, abs=1e-6)
    assert document["settings"]["images"] == 3
    assert len(read(out / "path.extxyz", ":")) == 5
    assert (out / "path.png").stat().st_size > 5000
    again = CliRunner().invoke(app, call)
    assert f"went on from step {expected.steps}" in again.output
    with pytest.raises(WorkflowError, match=r"another run \(different: images\)"):
        CliRunner().invoke(app, [*call, "--images", "5"], catch_exceptions=False)


def test_an_unfinished_path_says_no(tmp_path: Path) -> None:
    first, last = write_hop(tmp_path)
    with pytest.warns(UserWarning, match="NOT converged"):
        done = CliRunner().invoke(
            app,
            f"neb {first} {last} --calculator ase.calculators.emt:EMT --out {tmp_path / 'o'} --images 3 --max-steps 1",
        )
    assert done.exit_code == 0
    assert "NO" in done.output
