"""The calculator on the networks of mlcalc, from memory and from both kinds of files."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress

from mlcalc import MLCalculator, load
from mlcalc.deploy import export, save_weights
from mlcalc.errors import ModelFileError, UnknownElementError
from mlcalc.potentials import PotentialInfo, build

NETWORKS = {
    "schnet": {"channels": 8, "layers": 2, "n_radial": 8},
    "equivariant": {"channels": 4, "layers": 2, "l_max": 2},
}


def make(architecture):
    torch.manual_seed(3)
    config = {"architecture": architecture, "network": NETWORKS[architecture], "zbl": True}
    info = PotentialInfo(("Si", "C"), 3.5, 2, name=f"small-{architecture}", energy_scale="none")
    potential = build(config, info, torch.float64)
    potential.set_energies([-3.0, -5.0], {"schnet": 300.0, "equivariant": 2.0}[architecture])  # forces of some eV/Å
    return potential


@pytest.fixture(scope="module", params=sorted(NETWORKS))
def files(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    potential = make(request.param)
    save_weights(potential, folder / "p.safetensors")
    export(potential, folder / "p.pt", dtype="float64")
    return potential, folder


def sliver():
    """Images beyond ±1, two elements."""
    atoms = bulk("SiC", "zincblende", a=4.3)
    atoms.set_cell(np.array([[1, 0, 0], [2, 1, 0], [-1, 0, 1]]) @ atoms.cell.array)
    atoms.rattle(0.1, seed=2)
    return atoms


def test_finite_differences(files):
    atoms = sliver()
    atoms.calc = MLCalculator(files[0])
    forces, stress = atoms.get_forces(), atoms.get_stress()
    assert np.abs(forces).max() > 1e-2
    np.testing.assert_allclose(forces, calculate_numerical_forces(atoms, eps=1e-4), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(stress, calculate_numerical_stress(atoms, eps=1e-5), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(atoms.get_stresses().sum(axis=0), stress, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_files_give_what_memory_gives(files, suffix):
    potential, folder = files
    expected, atoms = sliver(), sliver()
    expected.calc = MLCalculator(potential)
    atoms.calc = MLCalculator(folder / f"p.{suffix}", dtype="float64")
    assert atoms.calc.todict()["potential"].endswith(suffix)
    for name in atoms.calc.implemented_properties:
        ours, theirs = (x.calc.get_property(name, x) for x in (atoms, expected))
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-11)
    atoms.calc = MLCalculator(folder / f"p.{suffix}", dtype="float32")
    np.testing.assert_allclose(atoms.get_forces(), expected.get_forces(), rtol=1e-3, atol=1e-4)
    assert atoms.get_potential_energy() != expected.get_potential_energy()


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_copies_of_calculators_from_files(files, suffix):
    atoms = sliver()
    atoms.calc = MLCalculator(str(files[1] / f"p.{suffix}"))
    forces = atoms.get_forces()
    for twin in (copy.deepcopy(atoms.calc), pickle.loads(pickle.dumps(atoms.calc))):
        twin.reset()
        np.testing.assert_allclose(twin.get_forces(atoms), forces, rtol=1e-12, atol=1e-13)
        assert twin.potential is not atoms.calc.potential


def test_pickle_in_another_process_without_the_file(files, tmp_path):
    atoms = sliver()
    atoms.calc = MLCalculator(files[0])
    forces = atoms.get_forces()
    atoms.positions += 0.0
    (tmp_path / "calc.pickle").write_bytes(pickle.dumps((atoms.calc, atoms.copy())))
    code = (
        "import pickle, sys\n"
        "calc, atoms = pickle.load(open('calc.pickle', 'rb'))\n"
        "calc.reset()\n"
        "calc.get_forces(atoms).tofile('forces')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    np.testing.assert_allclose(np.fromfile(tmp_path / "forces").reshape(-1, 3), forces, rtol=1e-10, atol=1e-12)


def test_structures_without_edges(files):
    calc = MLCalculator(files[0])
    assert calc.get_potential_energy(Atoms()) == 0.0
    assert calc.get_forces(Atoms()).shape == (0, 3)
    one = calc.get_potential_energy(Atoms("Si"))
    far = Atoms("SiCSi", np.diag([0.0, 20.0, 40.0]), cell=[99.0] * 3, pbc=True)
    carbon = calc.get_potential_energy(Atoms("C"))
    assert np.isfinite([one, carbon]).all()
    assert calc.get_potential_energy(far) == pytest.approx(2 * one + carbon, abs=1e-10)
    assert not calc.get_forces(far).any()
    assert not calc.get_stress(far).any()


def test_what_cannot_be_loaded(tmp_path):
    with pytest.raises(ModelFileError, match="no-such-potential"):
        MLCalculator("no-such-potential")
    (tmp_path / "junk.pt").write_bytes(b"junk")
    with pytest.raises(ModelFileError, match=r"junk\.pt"):
        MLCalculator(tmp_path / "junk.pt")


def test_the_callers_potential_is_left_alone(files):
    potential = files[0]
    before = {name: value.clone() for name, value in potential.state_dict().items()}
    requires = [p.requires_grad for p in potential.parameters()]
    calc = MLCalculator(potential, dtype="float32")
    calc.get_forces(sliver())
    assert load(potential) is potential
    assert [p.requires_grad for p in potential.parameters()] == requires
    assert all(torch.equal(value, before[name]) for name, value in potential.state_dict().items())
    with pytest.raises(UnknownElementError, match="knows Si, C"):
        calc.get_forces(bulk("Ge"))
