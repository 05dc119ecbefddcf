"""Magnetic moments reach the calculator at every step of a workflow, and phonons keep their symmetry."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from mlcalc.records import structure_hash
from mlcalc.workflows import elastic, eos, gruneisen, phonons

RATIO = 1.21


class MomentsScaleEMT(EMT):
    """EMT, 1.21 times as strong where every atom has a moment of 2."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=()) -> None:
        super().calculate(atoms, properties, system_changes)
        strength = 1.0 + (RATIO - 1.0) * np.abs(atoms.get_initial_magnetic_moments()).mean() / 2.0
        self.results = {name: strength * value for name, value in self.results.items()}


def copper(moment: float) -> Atoms:
    atoms = bulk("Cu", a=3.5886)
    atoms.set_initial_magnetic_moments([moment])
    return atoms


@pytest.mark.filterwarnings("ignore::mlcalc.workflows.WorkflowWarning")
@pytest.mark.parametrize("kept", [False, True])
def test_everything_is_as_strong_as_the_moments_say(kept: bool, tmp_path: Path) -> None:
    figures = []
    for moment in (0.0, 2.0):
        out = tmp_path / f"{moment:g}" if kept else None
        atoms, calculator = copper(moment), MomentsScaleEMT()
        lattice = {"supercell": (2, 2, 2), "mesh": [3, 3, 3]}
        for _ in range(2 if kept else 1):  # the second time from what is kept
            constants = elastic(atoms, calculator, amplitudes=(0.004,), out=out and out / "elastic")
            curve = eos(atoms, calculator, points=5, out=out and out / "eos")
            vibrations = phonons(atoms, calculator, out=out and out / "phonons", path_points=5, **lattice)
            means = gruneisen(atoms, calculator, out=out and out / "gruneisen", **lattice)
        assert curve.structures[0].get_initial_magnetic_moments() == moment
        assert constants.atoms.get_initial_magnetic_moments() == moment
        figures.append(
            [
                constants.stiffness_gpa[0, 0],
                constants.stiffness_gpa[3, 3],
                curve.fit.bulk_modulus_gpa,
                vibrations.max_frequency_thz**2,
                means.bulk_modulus_gpa,
                means.frequency_thz.max() ** 2,
            ]
        )
    np.testing.assert_allclose(figures[1], RATIO * np.array(figures[0]), rtol=1e-5)


def test_an_antiferromagnet_keeps_its_cell_and_its_symmetry() -> None:
    atoms = bulk("Cu", a=3.5886, cubic=True)
    atoms.set_initial_magnetic_moments([2.0, 2.0, -2.0, -2.0])  # layers along x
    with pytest.warns(UserWarning, match="magnetic ordering"):
        ordered = phonons(atoms, MomentsScaleEMT(), supercell=(2, 2, 2), mesh=[3, 3, 3], path_points=5)
    assert len(ordered.primitive) == 2
    assert len(ordered.phonopy.primitive_symmetry.pointgroup_operations) == 16  # 4/mmm, not m-3m


def test_moments_and_charges_are_part_of_what_identifies_a_structure() -> None:
    plain, charged = copper(0.0), copper(0.0)
    charged.set_initial_charges([1.0])
    assert structure_hash(plain) == structure_hash(bulk("Cu", a=3.5886))
    assert len({structure_hash(item) for item in (plain, charged, copper(1.0), copper(-1.0))}) == 4
