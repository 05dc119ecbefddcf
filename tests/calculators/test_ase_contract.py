"""How the calculator behaves: what it computes and keeps, how it copies, what it refuses."""

import copy
import json
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from analytic_potentials import AngularPotential, LennardJonesPotential
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError, get_calculator_class
from ase.io import read, write

from mlcalc import MLCalculator
from mlcalc.errors import MlcalcError, NonFiniteError, OverlapError, UnknownElementError


@pytest.fixture
def atoms():
    atoms = bulk("Ar", cubic=True, a=5.2)
    atoms.rattle(0.1, seed=1)
    atoms.calc = MLCalculator(LennardJonesPotential())
    return atoms


def record_calls(calc):
    """Return a list that grows by True or False at each call of the potential: whether a gradient is wanted."""
    calls = []
    calc.potential.register_forward_hook(lambda module, args, output: calls.append(args[2].requires_grad))
    return calls


def test_computes_only_what_was_asked(atoms):
    calls = record_calls(atoms.calc)
    atoms.get_potential_energy()
    assert calls == [False]
    assert set(atoms.calc.results) == {"energy", "free_energy", "energies"}
    atoms.get_potential_energies()
    assert calls == [False]
    atoms.get_forces()
    assert calls == [False, True]
    assert "stress" not in atoms.calc.results
    atoms.get_stress()
    atoms.get_stresses()
    atoms.get_potential_energy()
    assert calls == [False, True], "stress comes from the gradient that gave the forces"
    assert set(atoms.calc.results) == set(atoms.calc.implemented_properties)


def test_every_implemented_property_is_given_and_no_other(atoms):
    for name in atoms.calc.implemented_properties:
        assert atoms.calc.get_property(name, atoms) is not None
    for name in ("magmoms", "dipole", "charges"):
        with pytest.raises(PropertyNotImplementedError):
            atoms.calc.get_property(name, atoms)
        with pytest.raises(PropertyNotImplementedError):
            atoms.calc.calculate(atoms, [name])


def test_cache_keeps_what_does_not_matter(atoms):
    calls = record_calls(atoms.calc)
    forces = atoms.get_forces()
    atoms.set_tags([1, 2, 3, 4])
    atoms.set_momenta(np.ones((4, 3)))
    atoms.set_initial_magnetic_moments([1.0, -1.0, 0.0, 2.0])
    atoms.set_initial_charges([1.0, -1.0, 0.0, 0.0])
    atoms.set_masses([1.0] * 4)
    atoms.info["name"] = "argon"
    np.testing.assert_array_equal(atoms.get_forces(), forces)
    assert len(calls) == 1


@pytest.mark.parametrize("change", ["positions", "cell", "pbc", "numbers", "atoms"])
def test_cache_drops_what_matters(change):
    atoms = bulk("Ar", cubic=True, a=5.2)
    potential = AngularPotential(("Ar", "Ne"), 6.0, inputs=())
    atoms.calc = MLCalculator(potential)
    calls = record_calls(atoms.calc)
    before = atoms.get_potential_energy()
    if change == "positions":
        atoms.positions[2, 1] += 1e-6
    elif change == "cell":
        atoms.cell[0, 0] += 1e-6
    elif change == "pbc":
        atoms.pbc[2] = False
    elif change == "numbers":
        atoms.symbols[1] = "Ne"
    else:
        del atoms[0]
    after = atoms.get_potential_energy()
    assert len(calls) == 2
    assert after != before
    fresh = atoms.copy()
    fresh.calc = MLCalculator(potential)
    assert after == pytest.approx(fresh.get_potential_energy(), rel=1e-13)


def test_cache_sees_the_inputs_a_potential_declares():
    atoms = bulk("Si", cubic=True)
    atoms.calc = MLCalculator(AngularPotential(inputs=("total_charge",)))
    with pytest.raises(MlcalcError, match=r"atoms.info\['total_charge'\]"):
        atoms.get_potential_energy()
    atoms.info["total_charge"] = 0.0
    neutral = atoms.get_potential_energy()
    calls = record_calls(atoms.calc)
    atoms.info["total_charge"] = 1
    assert atoms.get_potential_energy() == pytest.approx(1.1 * neutral)
    atoms.info["comment"] = "x"
    atoms.get_potential_energy()
    assert len(calls) == 1
    for bad in ("many", np.nan, [1.0, 2.0]):
        atoms.info["total_charge"] = bad
        with pytest.raises(MlcalcError, match="total_charge"):
            atoms.get_potential_energy()


def test_results_are_the_callers_to_change(atoms):
    forces = atoms.get_forces()
    atoms.get_forces()[:] = 0.0
    np.testing.assert_array_equal(atoms.get_forces(), forces)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda calc: pickle.loads(pickle.dumps(calc))])
def test_copies_are_independent_and_equal(atoms, clone):
    forces = atoms.get_forces()
    twin = clone(atoms.calc)
    calls = record_calls(twin)
    np.testing.assert_array_equal(twin.get_forces(atoms), forces)
    assert calls == [], "results travel along"
    stress = twin.get_stress(atoms)
    np.testing.assert_allclose(stress, atoms.get_stress(), rtol=1e-13)
    atoms.positions[0] += 0.1
    other = atoms.copy()
    np.testing.assert_allclose(twin.get_forces(other), atoms.get_forces(), rtol=1e-12, atol=1e-14)
    with torch.no_grad():
        twin.potential.epsilon.mul_(2.0)
    twin.reset()
    assert twin.get_potential_energy(other) == pytest.approx(2.0 * atoms.get_potential_energy())


def test_copies_before_the_first_use():
    calc = MLCalculator(LennardJonesPotential(), dtype="float32", skin=0.3)
    twin = pickle.loads(pickle.dumps(copy.deepcopy(calc)))
    assert twin.todict() == calc.todict()
    assert np.isfinite(twin.get_potential_energy(bulk("Ar")))


def test_file_formats_of_ase(atoms, tmp_path):
    forces, energy = atoms.get_forces(), atoms.get_potential_energy()
    for name in ("a.traj", "a.extxyz", "a.json"):
        write(tmp_path / name, atoms)
        back = read(tmp_path / name)
        np.testing.assert_allclose(back.get_forces(), forces, atol=1e-7)
        assert back.get_potential_energy() == pytest.approx(energy, abs=1e-7)


def test_todict_is_json(atoms):
    settings = json.loads(json.dumps(atoms.calc.todict()))
    assert settings == {"potential": "lj", "dtype": "float64", "device": "cpu", "skin": 1.0}
    assert atoms.calc.name == "mlcalc"
    with pytest.raises(ValueError, match="skin"):
        atoms.calc.set(skin=2.0)


def test_registered_with_ase():
    from ase._4.plugins import plugins

    assert get_calculator_class("mlcalc") is MLCalculator
    (plugin,) = [plugin for plugin in plugins.calculators if plugin.name == "mlcalc"]
    assert plugin.implementation is MLCalculator
    assert plugin.package == "mlcalc"


@pytest.mark.parametrize("first", ["mlcalc.calculators.ase_plugin", "ase._4.plugins"])
def test_import_is_light_and_plugin_order_does_not_matter(first):
    code = (
        f"import sys, mlcalc, {first}\n"
        "from ase._4.plugins import plugins\n"
        "assert 'mlcalc' in {p.name for p in plugins.calculators}\n"
        "assert 'torch' not in sys.modules\n"
        "assert {'MLCalculator', 'load'} <= set(dir(mlcalc)) and mlcalc.__version__\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_torch_globals_stay(atoms):
    before = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads(), torch.get_default_device()
    MLCalculator(LennardJonesPotential(), dtype="float32").get_stress(atoms)
    after = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads(), torch.get_default_device()
    assert before == after


def test_skin_changes_nothing_but_speed(atoms):
    rng = np.random.default_rng(2)
    kept, fresh = MLCalculator(LennardJonesPotential()), MLCalculator(LennardJonesPotential(), skin=0.0)
    for _ in range(30):
        atoms.positions += rng.normal(0.0, 0.02, atoms.positions.shape)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0.0, 0.003, (3, 3))), scale_atoms=True)
        assert kept.get_potential_energy(atoms) == pytest.approx(fresh.get_potential_energy(atoms), abs=1e-10)
        np.testing.assert_allclose(kept.get_stress(atoms), fresh.get_stress(atoms), atol=1e-12)
    assert kept.verlet.calls == fresh.verlet.calls == fresh.verlet.rebuilds == 30
    assert kept.verlet.rebuilds < 15


def test_non_finite_structures_are_refused(atoms):
    atoms.positions[2, 0] = np.nan
    with pytest.raises(NonFiniteError, match="atom 2"):
        atoms.get_forces()
    atoms.positions[2, 0] = 0.0
    atoms.cell[1, 1] = np.inf
    with pytest.raises(NonFiniteError, match="cell"):
        atoms.get_forces()


def test_non_finite_results_are_refused(atoms):
    with torch.no_grad():
        atoms.calc.potential.epsilon.fill_(torch.nan)
    atoms.positions = [[0, 0, 0], [3.5, 0, 0], [40, 0, 0], [80, 0, 0]]
    atoms.pbc = False
    with pytest.raises(NonFiniteError, match="energies for atoms 0, 1:"):
        atoms.get_potential_energy()
    assert "energy" not in atoms.calc.results


def test_non_finite_gradients_are_refused():
    class Kink(LennardJonesPotential):
        """Finite energy, infinite slope at 2 Å."""

        def forward(self, species, edge_index, edge_vectors, extra=None):
            r2 = edge_vectors.pow(2).sum(dim=1)
            return r2.new_zeros(species.shape[0]).index_add(0, edge_index[0], (r2 - 4.0).abs().sqrt())

    atoms = Atoms("Ar3", [[9, 0, 0], [0, 0, 0], [2, 0, 0]])
    atoms.calc = MLCalculator(Kink(rc=5.0))
    assert atoms.get_potential_energy() == 0.0
    with pytest.raises(NonFiniteError, match="forces for atoms 1, 2:"):
        atoms.get_forces()


def test_unknown_elements_and_mixtures_are_refused():
    calc = MLCalculator(LennardJonesPotential(("Ni", "Si", "Li"), element_sets=(("Ni",), ("Si", "Li"))))
    with pytest.raises(UnknownElementError, match=r"Mo \(atom 1\), W \(atoms 0, 2\); it knows Ni, Si, Li"):
        calc.get_potential_energy(Atoms("WMoW", np.diag([0, 3, 6])))
    with pytest.raises(UnknownElementError, match=r"Ni \(atoms 0, 2\), Si \(atom 1\) together.*Ni; Si, Li"):
        calc.get_potential_energy(Atoms("NiSiNi", [[0, 0, 0], [3, 0, 0], [6, 0, 0]]))
    assert np.isfinite(calc.get_potential_energy(Atoms("LiSi", [[0, 0, 0], [3, 0, 0]])))


def test_overlapping_atoms_are_refused(atoms):
    atoms.positions[3] = atoms.positions[1] + atoms.cell[0]
    with pytest.raises(OverlapError, match=r"atoms 1 and 3 \(0\.000 Å\)"):
        atoms.get_forces()
    flat = Atoms("Ar", cell=[0.05, 5, 5], pbc=True)
    with pytest.raises(OverlapError, match=r"atom 0 and its own image \(0\.050 Å\)"):
        atoms.calc.get_potential_energy(flat)


def test_atoms_closer_than_ever_seen_warn_once():
    atoms = Atoms("Ar3", [[0, 0, 0], [2.0, 0, 0], [6, 0, 0]])
    calc = MLCalculator(LennardJonesPotential(min_distance=3.0))
    with pytest.warns(UserWarning, match=r"2\.40 Å.*atoms 0 and 1 \(2\.000 Å\)"):
        calc.get_potential_energy(atoms)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        atoms.positions[1, 0] = 2.1
        calc.get_potential_energy(atoms)
        atoms.positions[1, 0] = 2.5
        calc.get_potential_energy(atoms)
    atoms.positions[1, 0] = 1.9
    with pytest.warns(UserWarning, match="extrapolations"):
        calc.get_forces(atoms)


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="float32 or float64"):
        MLCalculator(LennardJonesPotential(), dtype="float16")
    with pytest.raises(ValueError, match="skin"):
        MLCalculator(LennardJonesPotential(), skin=-1.0)
