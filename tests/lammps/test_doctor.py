"""``mlcalc doctor`` and ``mlcalc lammps``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.lj import LennardJones as OtherCalculator
from typer.testing import CliRunner

from mlcalc import MLCalculator
from mlcalc.cli import app
from mlcalc.lammps.build import LIBRARY
from mlcalc.lammps.check import compare


def test_doctor_finds_agreement(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", "--json", str(tmp_path / "found.json")])
    assert result.exit_code == 0, result.output
    assert "LAMMPS on 2 ranks against ASE" in result.output
    found = json.loads((tmp_path / "found.json").read_text())
    assert [test["ranks"] for test in found["self_test"]] == [1, 2]
    assert all(test["forces_ev_per_ang"] < 1e-8 < test["largest_force_ev_per_ang"] for test in found["self_test"])
    assert found["lammps"].startswith("20")


def test_doctor_takes_a_potential(equivariant_file: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", str(equivariant_file)])
    assert result.exit_code == 0, result.output
    assert f"self-test      {equivariant_file}, float64" in result.output


def test_doctor_names_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "problem: the C++ compiler named by CXX, no-such-compiler, is not on the path" in result.output


def test_a_different_potential_does_not_pass(equivariant_file: Path) -> None:
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=2)
    assert compare(atoms, MLCalculator(str(equivariant_file)), equivariant_file, in_process=True).passed
    other = compare(atoms, OtherCalculator(sigma=2.0, rc=4.0), equivariant_file, in_process=True)
    assert not other.passed
    assert np.isfinite(other.forces_ev_per_ang)


def test_build_and_status() -> None:
    built = CliRunner().invoke(app, ["lammps", "build"])
    assert built.exit_code == 0
    assert built.output.strip().endswith(LIBRARY)
    status = CliRunner().invoke(app, ["lammps", "status"])
    assert status.exit_code == 0
    assert "built            True" in status.output
