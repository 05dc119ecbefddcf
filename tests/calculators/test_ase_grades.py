"""Extrapolation grades in ASE: what is given, what is warned of, what stops."""

import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError

from mlcalc import MLCalculator
from mlcalc.errors import ExtrapolationError, ExtrapolationWarning, SettingsError
from mlcalc.potentials import ZBL

USUAL = {"Ni": ("fcc", 3.52), "Li": ("bcc", 3.44), "Mo": ("bcc", 3.17), "Si": ("diamond", 5.46)}


@pytest.mark.parametrize("element", USUAL)
def test_usual_crystals_are_inside_and_strange_ones_outside(element):
    calculator = MLCalculator("mlearn", grade_warn=None)
    structure, a = USUAL[element]
    crystal = bulk(element, structure, a=a, cubic=True)
    crystal.rattle(0.05, seed=1)
    grades = calculator.get_property("extrapolation_grades", crystal)
    assert grades.shape == (len(crystal),)
    assert 0.0 < grades.max() < 0.9
    squeezed = crystal.copy()
    squeezed.set_cell(squeezed.cell * 0.85, scale_atoms=True)
    assert calculator.get_property("extrapolation_grades", squeezed).min() > 1.5
    assert calculator.get_property("extrapolation_grades", Atoms(element))[0] > 1.5


def test_same_numbers_whichever_property_was_asked_first():
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=3)
    one, two = MLCalculator("mlearn"), MLCalculator("mlearn")
    one.get_potential_energy(atoms)
    two.get_forces(atoms)
    assert np.array_equal(
        one.get_property("extrapolation_grades", atoms), two.get_property("extrapolation_grades", atoms)
    )
    assert "extrapolation_grades" not in MLCalculator("mlearn").implemented_properties[:6]
    atoms.calc = two
    two.grade_warn = None
    atoms.get_stress()
    before = two.get_property("extrapolation_grades", atoms)
    atoms.positions[0] += 0.3
    assert np.abs(two.get_property("extrapolation_grades", atoms) - before).max() > 0.05


def test_warns_once_and_again_after_coming_back():
    usual, strange = bulk("Si"), bulk("Si", "fcc", a=3.9)
    calculator = MLCalculator("mlearn")
    with pytest.warns(ExtrapolationWarning, match=r"mlearn extrapolates \(grades above 1.5.*atom 0 \(\d\.\d\d\)"):
        calculator.get_forces(strange)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calculator.get_potential_energy(bulk("Si", "fcc", a=3.95))
        calculator.get_potential_energy(usual)
    with pytest.warns(ExtrapolationWarning):
        calculator.get_potential_energy(strange)


def test_stops_where_told_and_names_atoms():
    atoms = bulk("Si", cubic=True) * (2, 1, 1)
    del atoms[3]
    calculator = MLCalculator("mlearn", grade_stop=0.3)
    grades = MLCalculator("mlearn").get_property("extrapolation_grades", atoms)
    worst = int(grades.argmax())
    assert grades[worst] > 0.3
    for ask in (calculator.get_forces, calculator.get_forces, calculator.get_potential_energy):
        with pytest.raises(ExtrapolationError, match=rf"above 0.3: atom {worst} \({grades[worst]:.2f}\)"):
            ask(atoms)


@pytest.mark.parametrize("value", ["a", -1.0, 0, float("nan"), True])
def test_thresholds_are_positive_numbers(value):
    with pytest.raises(SettingsError, match="grade_stop must be a positive number or None"):
        MLCalculator("mlearn", grade_stop=value)


def test_potentials_without_grades_say_so():
    with pytest.raises(SettingsError, match=r"no extrapolation grades for grade_stop.*mlcalc grade"):
        MLCalculator(ZBL(("Si",)), grade_stop=2.0)
    with pytest.raises(PropertyNotImplementedError):
        MLCalculator(ZBL(("Si",))).get_property("extrapolation_grades", bulk("Si"))
