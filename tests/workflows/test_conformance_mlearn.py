"""Conformance of the potential that ships, LAMMPS included."""

import torch

import mlcalc
from mlcalc import MLCalculator, check


def status(report, *names):
    return {name: report[name].status for name in names}


def test_mlearn_holds_in_both_precisions() -> None:
    single = check(MLCalculator("mlearn"), elements=["Mo"])
    assert single.passed
    assert status(single, "LAMMPS", "atomic stresses") == {"LAMMPS": "pass", "atomic stresses": "pass"}
    names = ["noise", "forces", "stress", "rotation", "LAMMPS"]
    double = check(MLCalculator("mlearn", dtype="float64"), elements=["Mo"], only=names)
    assert double.passed
    assert max(item.value for item in double["noise"].deviations) < 1e-9
    assert max(item.value for item in double["forces"].deviations) < 1e-6
    assert max(item.value for item in double["LAMMPS"].deviations) < 1e-8
    assert single["noise"].value > 100 * double["noise"].value


def test_elements_of_a_family_and_state_of_torch() -> None:
    threads, kind = torch.get_num_threads(), torch.get_default_dtype()
    report = check(MLCalculator("mlearn"), only=["net force"])
    assert report.settings["elements"] == ["Li"]
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, kind)
    assert mlcalc.check is check
