"""Radial tables: what they change is bounded and written down, forces stay derivatives, and nobody has to have them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from typer.testing import CliRunner

from mlcalc.calculators import MLCalculator
from mlcalc.cli import app
from mlcalc.deploy import export, load_model, read_document, save_weights
from mlcalc.deploy.tables import with_tables
from mlcalc.errors import SettingsError
from mlcalc.potentials import PotentialInfo, build
from mlcalc.potentials._tables import polynomials
from mlcalc.potentials.base import Potential

NETWORK = {"channels": [6, 4, 3], "layers": 2, "n_radial": 24, "radial_hidden": [8], "cutoff_on": 3.5}


@pytest.fixture
def potential() -> Potential:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        info = PotentialInfo(elements=("Na", "Cl"), cutoff=5.0, layers=2, name="quick")
        made = build({"architecture": "nequip", "network": NETWORK}, info, torch.float64)
    made.set_energies([-1.0, -2.0], 0.3)
    return made


def salt() -> Atoms:
    atoms = bulk("NaCl", "rocksalt", a=5.3, cubic=True)
    atoms.rattle(0.1, seed=1)
    return atoms


def forces(source: Potential | str | Path, **options: bool) -> np.ndarray:
    atoms = salt()
    atoms.calc = MLCalculator(source, **options)
    return atoms.get_forces()


def test_polynomials_meet_value_slope_and_curvature() -> None:
    """sin(2 r) and exp(−r); between knots the error falls with the sixth power of the interval."""

    def function(r: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.sin(2 * r), torch.exp(-r)], dim=1)

    r = torch.linspace(0.4, 3.99, 301, dtype=torch.float64)
    errors = []
    for intervals in (20, 40):
        table = polynomials(function, 4.0, intervals)
        position = r * intervals / 4.0
        s, k = (position - position.floor()).unsqueeze(1), position.floor().long()
        value = sum(table[k, j] * s**j for j in range(6))
        errors.append((value - function(r)).abs().max().item())
    assert errors[0] < 1e-7
    assert errors[0] / errors[1] == pytest.approx(64, rel=0.2)
    knots = torch.arange(1, 20, dtype=torch.float64) * 0.2
    table = polynomials(function, 4.0, 20)[1:]
    step = 0.2
    expected = torch.stack(
        [torch.sin(2 * knots), 2 * torch.cos(2 * knots) * step, -2 * torch.sin(2 * knots) * step**2], 1
    )
    assert (table[:, :3, 0] - expected).abs().max() < 1e-8


def test_deviation_is_what_is_said(potential: Potential) -> None:
    tabulated, tables = with_tables(potential)
    assert tables is not None
    assert 0.0 < tables.force_deviation <= tables.bound == 1e-4
    difference = np.abs(forces(tabulated) - forces(potential, tables=False)).max()
    assert 0.0 < difference < 10 * tables.force_deviation
    assert np.array_equal(forces(potential, tables=True), forces(tabulated))
    assert np.array_equal(forces(potential), forces(potential, tables=False))  # float64 stays exact


def test_finer_where_the_bound_asks_for_it(potential: Potential) -> None:
    _, coarse = with_tables(potential)
    _, fine = with_tables(potential, coarse.force_deviation / 8)
    assert fine.intervals > coarse.intervals
    with pytest.raises(SettingsError, match=r"800 intervals change forces by .*--no-tables"):
        with_tables(potential, 1e-300)
    with pytest.raises(SettingsError, match="positive"):
        with_tables(potential, 0.0)


def test_forces_are_minus_the_slope_of_the_energy(potential: Potential) -> None:
    atoms = salt()
    atoms.calc = MLCalculator(potential, tables=True)
    expected, h = atoms.get_forces()[1, 2], 1e-4
    energies = []
    for shift in (-2, -1, 1, 2):
        moved = atoms.copy()
        moved.positions[1, 2] += shift * h
        moved.calc = atoms.calc
        energies.append(moved.get_potential_energy())
    slope = (8 * (energies[2] - energies[1]) - (energies[3] - energies[0])) / (12 * h)
    assert expected == pytest.approx(-slope, abs=1e-9)
    assert abs(expected) > 1e-2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_files_say_it(potential: Potential, tmp_path: Path, dtype: str) -> None:
    save_weights(potential, tmp_path / "w.safetensors")
    words = [] if dtype == "float32" else ["--tables"]
    result = CliRunner().invoke(
        app, ["export", str(tmp_path / "w.safetensors"), str(tmp_path / "m.pt"), "--dtype", dtype, *words]
    )
    assert result.exit_code == 0, result.output
    other = ["--no-tables"] if dtype == "float32" else []  # float64 stays exact unless asked
    document = read_document(tmp_path / "m.pt")
    made, bound = document["tables"], 1e-9 if dtype == "float64" else 1e-5
    assert f"radial tables of {made['intervals']} intervals" in result.output
    assert made["force_deviation"] <= made["bound"] == 1e-4
    assert document["operators"] == ["convolve_table"]
    tabulated = with_tables(potential)[0]
    assert np.abs(forces(load_model(tmp_path / "m.pt")) - forces(tabulated)).max() < bound
    result = CliRunner().invoke(
        app, ["export", str(tmp_path / "w.safetensors"), str(tmp_path / "n.pt"), "--dtype", dtype, *other]
    )
    assert result.exit_code == 0, result.output
    document = read_document(tmp_path / "n.pt")
    assert document["tables"] is None
    assert document["operators"] == ["convolve"]
    assert np.abs(forces(load_model(tmp_path / "n.pt")) - forces(potential)).max() < bound


def test_compiled_files_have_them(potential: Potential, tmp_path: Path) -> None:
    export(potential, tmp_path / "m.pt2", tables=True)
    tabulated = with_tables(potential)[0]
    assert read_document(tmp_path / "m.pt2")["operators"] == ["convolve_table"]
    found = forces(load_model(tmp_path / "m.pt2"))
    assert np.abs(found - forces(tabulated)).max() < 1e-12
    assert np.abs(found - forces(potential)).max() > 1e-10


def test_without_compiled_operators(potential: Potential, tmp_path: Path) -> None:
    """Plain torch gives the same, of a fast file too, and makes no tables."""
    export(potential, tmp_path / "m.pt", tables=True)
    save_weights(potential, tmp_path / "w.safetensors")
    code = (
        "import sys, numpy as np, torch; sys.path.insert(0, sys.argv[1]); import test_tables as t\n"
        "from mlcalc.deploy import load_model, load_weights\n"
        "from mlcalc.ops import fused\n"
        "assert not fused()\n"
        "weights = load_weights(sys.argv[2] + '/w.safetensors', 'float64')\n"
        "assert t.with_tables(weights)[1] is None\n"
        "np.save(sys.argv[2] + '/f.npy', [t.forces(load_model(sys.argv[2] + '/m.pt')), t.forces(weights)])\n"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, "MLCALC_OPS": "0"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    fast, plain = np.load(tmp_path / "f.npy")
    assert np.abs(fast - forces(tmp_path / "m.pt")).max() < 1e-12
    assert np.abs(plain - forces(potential)).max() < 1e-12
