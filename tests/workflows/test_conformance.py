"""Conformance of calculators people use: what holds, what is found, and what is refused."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from mlcalc import check
from mlcalc.errors import WorkflowError
from mlcalc.records import write_json
from mlcalc.workflows import CHECK_NAMES, plot_check
from mlcalc.workflows._check_derivatives import slope


def status(report, *names):
    return {name: report[name].status for name in names}


def test_emt_holds(tmp_path) -> None:
    report = check(EMT(), elements=["Cu"])
    assert report.passed
    assert [item.name for item in report.checks] == list(CHECK_NAMES)
    assert status(report, "atomic stresses", "LAMMPS") == dict.fromkeys(["atomic stresses", "LAMMPS"], "not applicable")
    assert status(report, "noise", "mirror") == {"noise": "reported", "mirror": "reported"}
    assert report["mirror"].value < 1e-9
    order = next(item for item in report["dynamics"].deviations if item.what.startswith("order"))
    assert order.value < 0.2
    write_json(tmp_path / "check.json", report.to_dict())
    document = json.loads((tmp_path / "check.json").read_text())
    assert document["passed"] is True
    assert document["checks"][1]["name"] == "forces"
    assert plot_check(report, tmp_path / "check.png").stat().st_size > 5000


def test_mixtures_and_own_structures() -> None:
    assert check(EMT(), elements=["Cu", "Au"], only=["forces", "stress", "permutation", "state"]).passed
    given = bulk("Al", cubic=True)
    report = check(EMT(), given, only=["stress", "supercell", "images"])
    assert report.passed
    assert set(report.structures["crystal"].get_chemical_symbols()) == {"Al"}
    np.testing.assert_array_equal(given.positions, bulk("Al", cubic=True).positions)


def test_a_molecule_stands_alone() -> None:
    report = check(
        EMT(), molecule("CH3OH"), only=["forces", "stress", "net torque", "wrapping", "supercell", "dynamics"]
    )
    assert set(report.structures) == {"cluster"}
    assert status(report, "forces", "net torque") == {"forces": "pass", "net torque": "pass"}
    names = ("stress", "wrapping", "supercell")
    assert status(report, *names) == dict.fromkeys(names, "not applicable")


def test_force_jump_of_ases_lennard_jones() -> None:
    # ASE shifts the energy to zero at the cutoff, not the force: it jumps by |dV/dr|.
    sigma, epsilon, cutoff = 3.4, 0.0104, 8.5
    jump = abs(24 * epsilon / cutoff * (2 * (sigma / cutoff) ** 12 - (sigma / cutoff) ** 6))
    plain = check(LennardJones(sigma=sigma, epsilon=epsilon, rc=cutoff), elements=["Ar"])
    assert plain.failed == ("smoothness",)
    dimer = next(item for item in plain["smoothness"].deviations if item.what.startswith("jump of forces, Ar–Ar dimer"))
    assert dimer.value == pytest.approx(jump, rel=1e-2)
    assert f"at {cutoff:.3f} Å" in dimer.what
    smooth = LennardJones(sigma=sigma, epsilon=epsilon, rc=cutoff, ro=7.0, smooth=True)
    assert check(smooth, elements=["Ar"], only=["smoothness", "forces"]).passed


class Shy(Calculator):
    """Refuses whatever is not copper."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if set(atoms.symbols) != {"Cu"}:
            raise KeyError("parameters")
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3))}


def test_what_cannot_be_checked_is_said_at_once() -> None:
    with pytest.raises(WorkflowError, match="give elements"):
        check(EMT())
    with pytest.raises(WorkflowError, match="unknown check speed"):
        check(EMT(), elements=["Cu"], only=["speed"])
    with pytest.raises(WorkflowError, match="Xy"):
        check(EMT(), elements=["Xy"])
    with pytest.raises(WorkflowError, match=r"fails for the crystal .*KeyError"):
        check(Shy(), elements=["Ni"])
    with pytest.raises(WorkflowError, match="no forces on any"):
        check(Shy(), elements=["Cu"])
    with pytest.raises(WorkflowError, match="three directions or in none"):
        check(EMT(), Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2.5]], cell=[3, 3, 9], pbc=[True, True, False]))


def test_slope_finds_the_best_step_in_noise() -> None:
    steps = 0.04 * 0.5 ** np.arange(8)
    exact = slope(lambda h: float(np.exp(3 * h)), steps, 1e-15)
    assert abs(exact.value - 3) < 1e-9
    single = slope(lambda h: float(np.float32(np.exp(3 * h))), steps, 3e-8)
    assert abs(single.value - 3) < 3 * single.error < 1e-4
    # A step at zero has no derivative, and no entry may claim otherwise.
    broken = slope(lambda h: 0.1 * (h > 0) + h, steps, 1e-15)
    assert broken.error > 0.1
