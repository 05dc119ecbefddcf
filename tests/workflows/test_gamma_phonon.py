from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT

from mlcalc.errors import WorkflowError
from mlcalc.workflows import gamma_phonons

#: ω = √(k/μ) with k in eV/Å² and μ in amu, as a frequency in THz.
THZ = units.s * 1e-12


def copper_gold() -> Atoms:
    return Atoms("CuAu", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[3.1] * 3, pbc=True)


def test_two_atoms_vibrate_as_a_spring() -> None:
    atoms = copper_gold()
    copper, gold = atoms.get_masses()
    forces = []
    for step in (0.01, -0.01):
        moved = atoms.copy()
        moved.positions[1, 0] += step
        moved.calc = EMT()
        forces.append(moved.get_forces()[1, 0])
    stiffness = (forces[1] - forces[0]) / 0.02
    reduced = copper * gold / (copper + gold)
    # An imaginary frequency is given as a negative one.
    expected = np.sign(stiffness) * np.sqrt(abs(stiffness) / reduced) / (2 * np.pi) * THZ
    found = gamma_phonons(atoms, EMT())
    assert found.frequencies_thz == pytest.approx([expected] * 3, rel=1e-3)
    assert found.acoustic_thz < 1e-2
    assert found.imaginary == (3 if expected < -0.1 else 0)
    # Against each other, the centre of mass at rest.
    assert found.worst_displacements is not None
    assert np.abs(found.worst_displacements).max() <= 1.0 + 1e-12
    assert np.linalg.norm(found.worst_displacements, axis=1).max() == pytest.approx(1.0)
    assert copper * found.worst_displacements[0] == pytest.approx(-gold * found.worst_displacements[1], abs=1e-6)


def test_an_unstable_cell_has_an_imaginary_mode_that_leads_down() -> None:
    atoms = bulk("Cu", "sc", a=2.4) * (2, 1, 1)  # rows may slide past each other
    found = gamma_phonons(atoms, EMT(), force_tolerance=1.0)
    assert found.imaginary > 0
    assert found.min_frequency_thz < -0.1
    assert found.worst_displacements is not None
    energies = []
    for amplitude in (0.0, 0.1):
        moved = atoms.copy()
        moved.positions += amplitude * found.worst_displacements
        moved.calc = EMT()
        energies.append(moved.get_potential_energy())
    assert energies[1] < energies[0] - 1e-4


def test_one_atom_has_translations_only() -> None:
    found = gamma_phonons(bulk("Cu"), EMT())
    assert len(found.frequencies_thz) == 0
    assert found.min_frequency_thz == 0.0
    assert found.worst_displacements is None
    with pytest.raises(WorkflowError, match="periodic"):
        gamma_phonons(Atoms("Cu"), EMT())
