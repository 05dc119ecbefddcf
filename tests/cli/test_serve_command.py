"""What ``mlcalc serve`` refuses, before and after loading anything."""

from pathlib import Path

import pytest
from ase.build import bulk
from ase.io import write


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--calculator", "ase.calculators.emt:EMT"), "give either --socket NAME or --port NUMBER"),
        (("--socket", "no-such", "--port", 31415, "mlearn"), "give either --socket NAME or --port NUMBER"),
        (("--socket", "no-such"), "give either --potential"),
        (
            ("--socket", "no-such", "--calculator", "ase.calculators.emt:EMT", "--wait-s", 0.3),
            "no server at /tmp/ipi_no-such",
        ),
        (
            ("--socket", "no-such", "mlearn", "--calculator-python", "python"),
            "--calculator-python is for --calculator",
        ),
    ],
)
def test_refusals(mlcalc, tmp_path: Path, arguments: tuple[object, ...], words: str) -> None:
    write(tmp_path / "Cu.extxyz", bulk("Cu"))
    status, _, err = mlcalc("serve", "--structure", tmp_path / "Cu.extxyz", *arguments)
    assert status == 1
    assert words in err


def test_a_structure_is_needed(mlcalc) -> None:
    status, _, err = mlcalc("serve", "mlearn", "--socket", "no-such")
    assert status == 1
    assert "--structure FILE says which elements" in err
