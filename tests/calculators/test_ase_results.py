"""Numbers of the ASE calculator: against ASE's own Lennard-Jones and against finite differences."""

import numpy as np
import pytest
from analytic_potentials import AngularPotential, LennardJonesPotential
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.calculators.lj import LennardJones

from mlcalc import MLCalculator

SHEAR = np.array([[1.0, 0.5, -0.2], [0.0, 1.0, 0.4], [0.1, 0.0, 0.9]])


def argon(kind):
    if kind == "bulk":
        atoms = bulk("Ar", cubic=True, a=5.2).repeat(2)
    elif kind == "triclinic":  # one atom, images up to ±4
        atoms = bulk("Ar", a=5.2)
        atoms.set_cell(np.array([[1, 0, 0], [2, 1, 0], [-1, 2, 1]]) @ atoms.cell.array)
        atoms.set_cell(atoms.cell.array @ SHEAR, scale_atoms=True)
    elif kind == "slab":
        atoms = fcc111("Ar", (2, 2, 3), a=5.2, vacuum=4.0)
    elif kind == "wire":
        atoms = bulk("Ar", cubic=True, a=5.2)
        atoms.pbc = (False, True, False)
        atoms.positions[1] += 3 * atoms.cell[1]
    else:
        atoms = Atoms("Ar4", np.array([[0, 0, 0], [3.6, 0, 0], [0, 3.7, 0], [1, 2, 3.4]]))
    if len(atoms) > 1:
        atoms.rattle(0.1, seed=3)
    return atoms


@pytest.mark.parametrize("kind", ["bulk", "triclinic", "slab", "wire", "cluster"])
def test_same_as_lennard_jones_of_ase(kind):
    ours, theirs = argon(kind), argon(kind)
    ours.calc = MLCalculator(LennardJonesPotential())
    theirs.calc = LennardJones(sigma=3.4, epsilon=0.0104, rc=7.0, ro=4.5, smooth=True)
    for name in ("energy", "free_energy", "energies", "forces"):
        expected = theirs.calc.get_property(name, theirs)
        np.testing.assert_allclose(ours.calc.get_property(name, ours), expected, rtol=1e-11, atol=1e-12)
    assert np.ptp(ours.get_forces()) > 1e-3 or len(ours) == 1
    if all(ours.pbc):
        np.testing.assert_allclose(ours.get_stress(), theirs.get_stress(), rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(ours.get_stresses(), theirs.get_stresses(), rtol=1e-10, atol=1e-14)
        assert np.abs(ours.get_stress()).max() > 1e-5


def carbide(kind):
    atoms = bulk("SiC", "zincblende", a=4.2)
    if kind == "triclinic":
        atoms.set_cell(atoms.cell.array @ SHEAR, scale_atoms=True)
    else:
        atoms = atoms.repeat((2, 1, 1))
    if kind == "slab":
        atoms.center(vacuum=3.0, axis=2)
        atoms.pbc = (True, True, False)
    elif kind == "molecule":
        atoms = molecule("CH4")
        atoms.symbols[:] = ["C", "Si", "Si", "C", "Si"]
        atoms.positions *= 1.6
    atoms.rattle(0.08, seed=1)
    atoms.info["total_charge"] = 1.5
    return atoms


@pytest.mark.parametrize("kind", ["bulk", "triclinic", "slab", "molecule"])
def test_finite_differences(kind):
    atoms = carbide(kind)
    atoms.calc = MLCalculator(AngularPotential())
    forces = atoms.get_forces()
    np.testing.assert_allclose(forces, calculate_numerical_forces(atoms, eps=1e-4), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=1e-12)
    assert np.abs(forces).max() > 0.1
    if all(atoms.pbc):
        stress = atoms.get_stress()
        np.testing.assert_allclose(stress, calculate_numerical_stress(atoms, eps=1e-5), rtol=1e-6, atol=1e-8)
        stresses = atoms.get_stresses()
        assert stresses.shape == (len(atoms), 6)
        np.testing.assert_allclose(stresses.sum(axis=0), stress, rtol=1e-12, atol=1e-14)
        assert np.ptp(stress) > 1e-3


def test_energies_sum_to_energy():
    atoms = carbide("bulk")
    atoms.calc = MLCalculator(AngularPotential())
    energies = atoms.get_potential_energies()
    assert energies.shape == (len(atoms),)
    np.testing.assert_allclose(energies.sum(), atoms.get_potential_energy(), rtol=1e-14)
    assert atoms.calc.results["free_energy"] == atoms.get_potential_energy(force_consistent=True)
    assert np.ptp(energies) > 1e-3


@pytest.mark.parametrize("pbc", [(True, True, False), (False, False, False)])
def test_stress_needs_three_periodic_axes(pbc):
    atoms = bulk("Ar", cubic=True)
    atoms.pbc = pbc
    atoms.calc = MLCalculator(LennardJonesPotential())
    for name in ("stress", "stresses"):
        with pytest.raises(PropertyNotImplementedError, match="periodic"):
            atoms.calc.get_property(name, atoms)
    assert np.isfinite(atoms.get_forces()).all()
    atoms.pbc = True
    assert np.isfinite(atoms.get_stress()).all()


@pytest.mark.parametrize("symbols", ["", "Ar", "Ar2"])
@pytest.mark.parametrize("periodic", [False, True])
def test_structures_without_edges(symbols, periodic):
    positions = 20.0 * np.arange(3 * len(Atoms(symbols))).reshape(-1, 3)
    atoms = Atoms(symbols, positions, cell=[300.0] * 3 if periodic else None, pbc=periodic)
    atoms.calc = MLCalculator(LennardJonesPotential())
    assert atoms.get_potential_energy() == 0.0
    assert atoms.get_forces().shape == (len(atoms), 3)
    assert not atoms.get_forces().any()
    if periodic:
        assert not atoms.get_stress().any()
        assert atoms.get_stresses().shape == (len(atoms), 6)


def test_float32_and_float64():
    potential = AngularPotential()
    doubles, singles = carbide("bulk"), carbide("bulk")
    doubles.calc = MLCalculator(potential)
    singles.calc = MLCalculator(potential, dtype="float32")
    # Far from the origin float32 positions would lose digits; edge vectors are made before the cast.
    singles.positions += 1e4
    error = np.abs(singles.get_forces() - doubles.get_forces()).max()
    assert 1e-12 < error < 1e-4
    assert singles.get_potential_energy() == pytest.approx(doubles.get_potential_energy(), rel=1e-6)
    np.testing.assert_allclose(singles.get_stress(), doubles.get_stress(), rtol=1e-4, atol=1e-6)
    assert singles.get_forces().dtype == np.float64
    np.testing.assert_allclose(singles.get_forces().sum(axis=0), 0.0, atol=1e-12)
    assert potential.weight.requires_grad, "the caller's potential must stay as it was"
    assert str(potential.dtype) == "torch.float64"
    assert str(singles.calc.potential.dtype) == "torch.float32"
