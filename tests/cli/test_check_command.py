"""mlcalc check: table, files, exit status."""

import json
import sys
from pathlib import Path

import ase.io
import pytest
from ase.build import bulk

from mlcalc import cli

FEW = ("--only", "forces,stress,smoothness")


@pytest.fixture
def mlcalc(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run ``mlcalc …`` in this process: (exit status, stdout, stderr)."""
    monkeypatch.setattr(cli.warnings, "showwarning", cli.warnings.showwarning)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mlcalc", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_status:
            cli.main()
        captured = capsys.readouterr()
        return int(exit_status.value.code or 0), captured.out, captured.err

    return run


def test_a_right_calculator_ends_with_zero(mlcalc, tmp_path: Path) -> None:
    structure = tmp_path / "copper.cif"
    ase.io.write(structure, bulk("Cu"))
    out = tmp_path / "o"
    call = ("check", "--calculator", "ase.calculators.emt:EMT", "--structure", structure, *FEW, "--out", out)
    status, stdout, _ = mlcalc(*call)
    assert status == 0
    assert "all checks passed" in stdout
    document = json.loads((out / "check.json").read_text())
    assert [item["name"] for item in document["checks"]] == ["forces", "stress", "smoothness"]
    assert (out / "check.png").stat().st_size > 5000


def test_a_finding_ends_with_one_and_says_where_to_look(mlcalc, tmp_path: Path) -> None:
    # LennardJones() has sigma = 1 and a cutoff of 3: a crystal of that size, and no switch at the cutoff.
    structure = tmp_path / "lj.extxyz"
    ase.io.write(structure, bulk("He", "fcc", a=1.6, cubic=True))
    call = ("check", "--calculator", "ase.calculators.lj:LennardJones", "--structure", structure)
    status, stdout, _ = mlcalc(*call, "--only", "smoothness", "--out", tmp_path / "o")
    assert status == 1
    assert "cutoff functions" in stdout
    assert "failed: smoothness" in stdout
    assert json.loads((tmp_path / "o/check.json").read_text())["failed"] == ["smoothness"]


def test_a_family_is_checked_member_by_member(mlcalc, tmp_path: Path) -> None:
    status, _, _ = mlcalc("check", "mlearn", "--only", "net force,rotation", "--out", tmp_path / "o")
    assert status == 0
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["Li", "Mo", "Ni", "Si"]


def test_what_is_missing_or_too_much(mlcalc, tmp_path: Path) -> None:
    emt = ("check", "--calculator", "ase.calculators.emt:EMT")
    assert "give elements" in mlcalc(*emt)[2]
    assert "not both" in mlcalc(*emt, "--elements", "Cu", "--structure", "x.cif")[2]
    assert "either --potential" in mlcalc("check")[2]
    status, _, stderr = mlcalc(*emt, "--elements", "Cu", "--only", "speed", "--out", tmp_path)
    assert status == 1
    assert "unknown check speed" in stderr
