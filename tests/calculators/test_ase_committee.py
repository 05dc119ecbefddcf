"""Committees in ASE: means and standard deviations over members, by formula and against members run alone."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from analytic_potentials import AngularPotential, LennardJonesPotential
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError

from mlcalc import MLCalculator
from mlcalc.cli._calculator import dynamics_calculator, make_calculator, read_potentials
from mlcalc.errors import ExtrapolationError, ExtrapolationWarning, SettingsError, UnknownElementError, WorkflowError
from mlcalc.potentials.base import PotentialInfo
from mlcalc.potentials.registry import build
from mlcalc.workflows import check

EPSILONS = np.array([0.010, 0.012, 0.017])


def network(seed, elements=("Si", "C"), cutoff=4.0, dtype=torch.float64):
    torch.manual_seed(seed)
    info = PotentialInfo(elements=elements, cutoff=cutoff, layers=2, name=f"net{seed}")
    config = {"architecture": "schnet", "network": {"layers": 2, "channels": 8}, "zbl": False}
    potential = build(config, info, dtype)
    potential.set_energies([-1.0, -2.0] if elements[0] == "Si" else [-2.1, -0.9], 200.0)
    return potential.eval()


@pytest.fixture(scope="module")
def members():
    """Another order of elements, another cutoff, another dtype."""
    return [network(1), network(2, ("C", "Si"), 3.4), network(3, dtype=torch.float32)]


@pytest.fixture
def carbide():
    atoms = bulk("SiC", "zincblende", a=4.36, cubic=True)
    atoms.rattle(0.1, seed=4)
    return atoms


def get(calculator, atoms, *names):
    return [calculator.get_property(name, atoms) for name in names]


@pytest.fixture
def argon():
    atoms = bulk("Ar", cubic=True, a=5.3)
    atoms.rattle(0.1, seed=1)
    return atoms


def test_lennard_jones_of_three_depths(argon):
    """Everything is proportional to ε, so means and deviations are those of three numbers."""
    unit = MLCalculator(LennardJonesPotential(epsilon=1.0))
    energy, energies, forces, stress = get(unit, argon, "energy", "energies", "forces", "stress")
    committee = MLCalculator([LennardJonesPotential(epsilon=e) for e in EPSILONS])
    mean, std = EPSILONS.mean(), EPSILONS.std()
    found = get(committee, argon, "energy", "free_energy", "energies", "forces", "stress", "stresses")
    stresses = unit.get_property("stresses", argon)
    for value, of_unit in zip(found, (energy, energy, energies, forces, stress, stresses), strict=True):
        assert np.allclose(value, mean * of_unit, rtol=1e-12, atol=1e-13)
    found = get(committee, argon, "energy_std", "energies_std", "force_deviation", "stress_std")
    expected = (abs(energy), abs(energies), np.linalg.norm(forces, axis=1), abs(stress))
    for value, of_unit in zip(found, expected, strict=True):
        assert np.allclose(value, std * of_unit, rtol=1e-10, atol=1e-13)
    assert found[2].shape == (4,)
    assert found[2].min() > 1e-4


def test_equal_members_agree(carbide, members):
    alone = MLCalculator(members[0])
    committee = MLCalculator([members[0]] * 2)
    for name in ("energy", "energies", "forces", "stress", "stresses"):
        assert np.array_equal(alone.get_property(name, carbide), committee.get_property(name, carbide))
    for name in ("energy_std", "energies_std", "force_deviation", "stress_std"):
        assert not np.any(committee.get_property(name, carbide))


def test_the_same_as_members_run_alone(carbide, members):
    committee = MLCalculator(members)
    names = ("energy", "energies", "forces", "stress", "stresses")
    alone = [dict(zip(names, get(MLCalculator(member), carbide, *names), strict=True)) for member in members]
    for name in names:
        mean = np.mean([one[name] for one in alone], axis=0)
        assert np.allclose(committee.get_property(name, carbide), mean, rtol=0, atol=1e-12)
    for name, std in (("energy", "energy_std"), ("energies", "energies_std"), ("stress", "stress_std")):
        wanted = np.std([one[name] for one in alone], axis=0)
        assert np.allclose(committee.get_property(std, carbide), wanted, rtol=0, atol=1e-11)
    forces = np.array([one["forces"] for one in alone])
    wanted = np.sqrt(np.mean(np.sum((forces - forces.mean(axis=0)) ** 2, axis=2), axis=0))
    assert np.allclose(committee.get_property("force_deviation", carbide), wanted, rtol=0, atol=1e-12)
    assert wanted.min() > 1e-2
    assert committee.info.cutoff == committee.verlet.cutoff == 4.0
    assert committee.info.elements == ("Si", "C")
    assert committee.parameters["dtype"] == "float64, float32"
    assert all(one.dtype == torch.float64 for one in MLCalculator(members, dtype="float64").potentials)


def test_forces_and_stress_are_slopes_of_the_mean_energy(carbide, members):
    carbide.calc = MLCalculator(members, dtype="float64")
    forces, stress, volume = carbide.get_forces(), carbide.get_stress(), carbide.get_volume()
    assert np.abs(forces.sum(axis=0)).max() < 1e-12
    step = 1e-4

    def slope(change):
        energies = []
        for sign in (1.0, -1.0):
            moved = carbide.copy()
            change(moved, sign * step)
            moved.calc = carbide.calc
            energies.append(moved.get_potential_energy())
        return (energies[0] - energies[1]) / (2.0 * step)

    def shift(atoms, length):
        atoms.positions[3, 1] += length

    def shear(atoms, strain):
        matrix = np.eye(3)
        matrix[1, 2] = matrix[2, 1] = strain / 2.0
        atoms.set_cell(atoms.cell.array @ matrix, scale_atoms=True)

    assert forces[3, 1] == pytest.approx(-slope(shift), abs=1e-6)
    assert stress[3] == pytest.approx(slope(shear) / volume, abs=1e-7)


def test_one_derivative_a_member_and_none_for_energies(carbide, members):
    calculator = MLCalculator(members)
    with_gradient = []
    for potential in calculator.potentials:
        potential.register_forward_hook(lambda module, args, output: with_gradient.append(args[2].requires_grad))
    get(calculator, carbide, "energy", "energy_std", "energies_std")
    assert with_gradient == [False] * 3
    get(calculator, carbide, "forces", "force_deviation", "stress", "stress_std", "stresses", "energy_std")
    assert with_gradient[3:] == [True] * 3


def test_only_what_is_asked_goes_into_results(carbide, members):
    carbide.calc = MLCalculator(members)
    carbide.get_forces()
    assert set(carbide.calc.results) == {"energy", "free_energy", "energies", "forces"}
    assert carbide.calc.export_properties()["forces"].shape == (8, 3)
    slab = carbide.copy()
    slab.pbc = [True, True, False]
    with pytest.raises(PropertyNotImplementedError, match="three periodic axes"):
        carbide.calc.get_property("stress_std", slab)


def test_copies_agree(carbide, members):
    calculator = MLCalculator(members)
    deviation = calculator.get_property("force_deviation", carbide)
    for twin in (copy.deepcopy(calculator), pickle.loads(pickle.dumps(calculator))):
        assert np.array_equal(twin.get_property("force_deviation", carbide), deviation)
        assert twin.potentials[0] is not calculator.potentials[0]


def test_copies_that_hold_an_energy_still_know_how_members_differ(carbide, members):
    """A copy has results but not the members' numbers behind them, which it computes again."""
    calculator = MLCalculator(members)
    names = ("energy", "energy_std", "energies_std")
    wanted = get(MLCalculator(members), carbide, *names)
    assert wanted[1] > 1e-3
    calculator.get_potential_energy(carbide)
    for twin in (copy.deepcopy(calculator), pickle.loads(pickle.dumps(calculator))):
        for value, expected in zip(get(twin, carbide, *names), wanted, strict=True):
            assert np.array_equal(value, expected)
    graded = MLCalculator("mlearn")
    silicon = bulk("Si", cubic=True)
    silicon.rattle(0.1, seed=3)
    grades = MLCalculator("mlearn").get_property("extrapolation_grades", silicon)
    graded.get_potential_energy(silicon)
    assert np.array_equal(copy.deepcopy(graded).get_property("extrapolation_grades", silicon), grades)


def test_energies_after_forces_were_refused(carbide, members):
    wanted = MLCalculator(members).get_property("energies_std", carbide)
    calculator = MLCalculator(members, deviation_stop=1e-6)
    calculator.get_potential_energy(carbide)
    with pytest.raises(ExtrapolationError):
        calculator.get_forces(carbide)
    assert np.array_equal(calculator.get_property("energies_std", carbide), wanted)


def test_warns_and_stops_where_told(carbide, members):
    deviation = MLCalculator(members).get_property("force_deviation", carbide)
    worst = int(deviation.argmax())
    limit = float(np.sort(deviation)[-2:].mean())
    named = rf"force deviations above {limit:g} eV/Å\): atom {worst} \({deviation[worst]:.2f}\)"
    calculator = MLCalculator(members, deviation_warn=limit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calculator.get_potential_energy(carbide)
    with pytest.warns(ExtrapolationWarning, match=named):
        calculator.get_forces(carbide)
    moved = carbide.copy()
    moved.rattle(1e-4, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calculator.get_forces(moved)
    calculator = MLCalculator(members, deviation_stop=limit)
    for _ in range(2):  # asked again, the answer is the same
        with pytest.raises(ExtrapolationError, match=named):
            calculator.get_forces(carbide)
    MLCalculator(members, deviation_stop=1.01 * deviation.max()).get_forces(carbide)
    with pytest.raises(SettingsError, match="deviation_stop must be a positive number"):
        MLCalculator(members, deviation_stop=-1)


def test_the_largest_grade_of_the_members():
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=3)
    grades = MLCalculator("mlearn").get_property("extrapolation_grades", atoms)
    ungraded = LennardJonesPotential(("Si",), energy_scale=MLCalculator("mlearn").info.energy_scale, rc=4.0, ro=3.0)
    committee = MLCalculator([ungraded, "mlearn"], grade_stop=0.9 * grades.max())
    with pytest.raises(ExtrapolationError, match=f"atom {grades.argmax()}"):
        committee.get_potential_energy(atoms)
    committee = MLCalculator([ungraded, "mlearn"])
    assert np.array_equal(committee.get_property("extrapolation_grades", atoms), grades)


def test_elements_that_no_member_has_seen_together():
    committee = MLCalculator(["mlearn", "mlearn"])
    assert set(committee.info.element_sets) == set(MLCalculator("mlearn").info.element_sets)
    with pytest.raises(UnknownElementError, match="together"):
        committee.get_potential_energy(Atoms("NiSi", positions=[[0, 0, 0], [2.3, 0, 0]]))


def test_what_cannot_be_a_committee(members, carbide):
    with pytest.raises(SettingsError, match=r"mean the same by energy: net1 says 'unknown', lj says 'PBE'"):
        MLCalculator([members[0], LennardJonesPotential(("Si",), energy_scale="PBE")])
    with pytest.raises(SettingsError, match="net1, lj have no element in common"):
        MLCalculator([members[0], LennardJonesPotential()])
    with pytest.raises(SettingsError, match="list of potentials is empty"):
        MLCalculator([])
    with pytest.raises(UnknownElementError, match=r"does not know C \(atom"):
        MLCalculator([members[0], LennardJonesPotential(("Si",))]).get_forces(carbide)
    alone = MLCalculator(members[:1])
    assert alone.potential is alone.potentials[0]
    with pytest.raises(SettingsError, match="deviation_warn and deviation_stop compare several potentials"):
        MLCalculator(members[:1], deviation_warn=1.0)
    with pytest.raises(PropertyNotImplementedError):
        alone.get_property("force_deviation", carbide)
    with pytest.raises(AttributeError, match=r"members are in \.potentials"):
        _ = MLCalculator(members).potential


def test_inputs_and_tables_of_each_member(carbide):
    """A member with index tables and an input beside one that has neither."""
    angular, plain = AngularPotential(), network(1)
    committee = MLCalculator([plain, angular])
    carbide.info["total_charge"] = 2.0
    wanted = np.mean([MLCalculator(one).get_forces(carbide) for one in (plain, angular)], axis=0)
    assert np.allclose(committee.get_forces(carbide), wanted, rtol=0, atol=1e-12)
    carbide.info["total_charge"] = 3.0
    assert np.abs(committee.get_forces(carbide) - wanted).max() > 1e-3


def test_the_check_passes(carbide, members):
    result = check(
        MLCalculator(members, dtype="float64"),
        carbide,
        only=["forces", "stress", "supercell", "permutation", "state", "requests"],
    )
    assert result.failed == ()


def test_the_command_line_names_committees(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a,b.pt").touch()
    assert read_potentials(None) is None
    assert read_potentials(["a.pt"]) == "a.pt"
    assert read_potentials(["a.pt", "b.pt"]) == read_potentials("a.pt, b.pt") == ["a.pt", "b.pt"]
    assert read_potentials("a,b.pt") == "a,b.pt"
    assert len(make_calculator(["mlearn,mlearn", "mlearn"], None, dtype="float64").potentials) == 3
    assert dynamics_calculator("mlearn,mlearn", None, "lammps", None, None) == (["mlearn", "mlearn"], "float64")
    assert dynamics_calculator(["a.pt", "b.pt"], None, "lammps", None, None) == (["a.pt", "b.pt"], None)
    with pytest.raises(WorkflowError, match="runs in the dtype it was exported in"):
        dynamics_calculator(["a.pt", "b.pt"], None, "lammps", "float32", None)
