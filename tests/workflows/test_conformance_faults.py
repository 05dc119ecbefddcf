"""Each deliberate fault of a calculator fails the checks that are about it, and no others."""

import broken_calculators as broken
import pytest

from mlcalc import check

# Faults in what several checks look at fail them all: a field in space leaves nothing invariant.
FAULTS = {
    broken.Morse: set(),
    broken.SinglePrecision: set(),
    broken.ScaledForces: {"forces"},
    broken.WrongShearSign: {"stress", "rotation"},
    broken.NearImagesOnly: {"images", "equivalent cells"},
    broken.NotExtensive: {"supercell", "images", "copies", "far atoms"},
    broken.BlindToCells: {"state"},
    broken.StalePositions: {"state", "dynamics"},
    broken.CutWithoutSwitch: {"smoothness", "dynamics"},
    broken.WrapsInPlace: {"atoms untouched"},
    broken.NoLoneAtoms: {"isolated atoms", "far atoms"},
    broken.FieldInSpace: {"translation", "rotation", "wrapping", "net force", "net torque", "stress"}
    | {"supercell", "images", "copies", "isolated atoms", "far atoms"},
    broken.ExchangedForces: {"permutation", "forces", "net torque", "supercell", "copies", "dynamics"},
    broken.RandomForces: {"noise", "dynamics", "isolated atoms", "far atoms"},
    broken.WrongShares: {"atomic energies", "atomic stresses"},
    broken.PartialForces: {"requests"},
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_right_checks_fail(fault: type[broken.Morse]) -> None:
    report = check(fault(), elements=["Cu"])
    assert set(report.failed) == FAULTS[fault], [(name, report[name].explanation) for name in report.failed]
    for name in report.failed:
        item = report[name]
        assert item.value is None or item.value > item.tolerance
        assert item.where_to_look


def test_figures_of_faults_have_their_size() -> None:
    scaled = check(broken.ScaledForces(), elements=["Cu"], only=["forces"])
    crystal = scaled.structures["crystal"].copy()
    crystal.calc = broken.Morse()
    # Along the forces themselves, the work is wrong by 0.001 |F|.
    errors = {item.what: item.value for item in scaled["forces"].deviations}
    assert errors["forces, crystal"] == pytest.approx(1e-3 * (crystal.get_forces() ** 2).sum() ** 0.5, rel=1e-3)

    cut = check(broken.CutWithoutSwitch(), elements=["Cu"], only=["smoothness"])
    value, slope = broken.CutWithoutSwitch().pair(broken.CUTOFF)
    jumps = {item.what.split(" at ")[0]: item for item in cut["smoothness"].deviations}
    assert jumps["jump of energy, Cu–Cu dimer"].value == pytest.approx(abs(value), rel=1e-3)
    assert jumps["jump of forces, Cu–Cu dimer"].value == pytest.approx(abs(slope), rel=1e-2)
    assert jumps["jump of energy, Cu–Cu dimer"].what.endswith(f"at {broken.CUTOFF:.3f} Å")

    more = check(broken.NotExtensive(), elements=["Cu"], only=["supercell"])
    energy = next(item for item in more["supercell"].deviations if item.what.startswith("energy"))
    # 1e-4 ((2N)² − 2 N²) / 2N for N = 16.
    assert energy.value == pytest.approx(16e-4, rel=1e-6)


def test_noise_of_single_precision_is_measured() -> None:
    noise = {name: check(kind(), elements=["Cu"], only=["noise"])["noise"] for name, kind in KINDS.items()}
    double = max(item.value for item in noise["double"].deviations)
    energies = [item.value for item in noise["single"].deviations if item.what.startswith("energy, crystal")]
    assert double < 1e-12
    # An energy of −2 eV/atom is stored in steps of 2⁻²³ of itself or so.
    assert 1e-9 < energies[0] < 1e-6
    assert noise["single"].status == "reported"


KINDS = {"double": broken.Morse, "single": broken.SinglePrecision}


def test_a_steep_kink_of_the_force_is_no_jump() -> None:
    report = check(broken.Kinked(), elements=["Cu"], only=["forces", "smoothness"])
    assert report.passed, report["smoothness"].explanation
