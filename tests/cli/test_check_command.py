"""mlcalc check: table, files, exit status."""

import json
from pathlib import Path

import ase.io
from ase.build import bulk

FEW = ("--only", "forces,stress,smoothness")


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
