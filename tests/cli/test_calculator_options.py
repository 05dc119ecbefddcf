"""Options that every command with a calculator has: --dispersion, --calculator-python."""

import json
from pathlib import Path

import pytest
import typer
from ase.build import bulk
from ase.io import write

from mlcalc import MLCalculator, cli
from mlcalc.calculators import Dispersion


@pytest.fixture
def silicon(tmp_path: Path) -> Path:
    write(tmp_path / "Si.extxyz", bulk("Si", cubic=True))
    return tmp_path / "Si.extxyz"


def test_relaxation_with_dispersion(mlcalc, silicon: Path, tmp_path: Path) -> None:
    status, _, err = mlcalc(
        "relax", silicon, "-p", "mlearn", "--dispersion", "d3zero:PBEsol", "--dtype", "float64", "-o", tmp_path / "out"
    )
    assert status == 0, err
    energy = json.loads((tmp_path / "out" / "relax.json").read_text())["Si"]["energy_ev"]
    atoms = bulk("Si", cubic=True)
    own = MLCalculator("mlearn", dtype="float64").get_property("energy", atoms)
    added = Dispersion("d3zero", "pbesol").calculator().get_property("energy", atoms)
    assert energy == pytest.approx(own + added, abs=1e-9)
    assert abs(added) > 0.1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("md", "--calculator", "ase.calculators.emt:EMT", "--dispersion", "d3bj"), "--dispersion d3bj is for"),
        (("md", "-p", "mlearn", "--dispersion", "d3bj", "--engine", "lammps"), "--dispersion d3bj is for --engine ase"),
        (("relax", "-p", "mlearn", "--dispersion", "d5"), "'d5' is not known"),
        (("eos", "-p", "mlearn", "--calculator-python", "python"), "--calculator-python is for --calculator"),
        (("eos", "--calculator-python", "python"), "give either --potential"),
        (
            ("relax", "--calculator", "ase.calculators.emt:EMT", "--calculator-python", "/nowhere/python"),
            "/nowhere/python is no Python that can be run",
        ),
    ],
)
def test_refusals(mlcalc, silicon: Path, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    command, *options = arguments
    status, _, err = mlcalc(command, silicon, *options, "-o", tmp_path / "out")
    assert status == 1
    assert words in err


def test_every_command_with_a_calculator_has_them() -> None:
    commands = typer.main.get_command(cli.app).commands
    names = {name: {option for item in command.params for option in item.opts} for name, command in commands.items()}
    taking = [name for name, options in names.items() if "--calculator" in options]
    assert len(taking) >= 13
    assert [name for name in taking if "--calculator-python" not in names[name]] == []
    assert [name for name in taking if "--dispersion" not in names[name]] == ["demo"]
