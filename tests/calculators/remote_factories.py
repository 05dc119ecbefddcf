"""Calculators that the tests of remote calculators make in another environment, by the path of this file."""

import os
import time

import numpy as np
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT


class Echo(Calculator):
    """Energy and more from what i-PI does not carry."""

    implemented_properties = ["energy", "forces", "charges", "dipole"]  # noqa: RUF012

    def calculate(self, atoms=None, properties=(), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        energy = 1000.0 * atoms.info.get("charge", 0) + 100.0 * atoms.get_initial_magnetic_moments().sum()
        self.results = {
            "energy": energy + 10.0 * atoms.get_tags().sum() + atoms.pbc.sum(),
            "forces": np.zeros((len(atoms), 3)),
            "charges": 2 * atoms.get_initial_charges(),
            "dipole": np.array([0.1, 0.2, 0.3]),
        }


class Moody(EMT):
    """Does what the length of the first cell vector asks for."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        asked = round(float(atoms.cell[0, 0]))
        print("asked for", asked)
        if asked == 101:
            raise ArithmeticError("no mood for this one")
        if asked in (102, 103):
            if asked == 103 and os.fork() == 0:
                time.sleep(20)
                os._exit(0)
            time.sleep(60)
        super().calculate(atoms, properties, system_changes)
        if asked == 104:
            self.results["forces"][1] = np.nan


class Harmonic:
    """As calculators were before ASE had a base class for them: no stress, no free energy."""

    def get_potential_energy(self, atoms=None):
        return float((atoms.positions**2).sum())

    def get_forces(self, atoms):
        return -2 * atoms.positions


class Odd(EMT):
    """What ``kwargs`` ask for beside, or in place of, what EMT gives."""

    def __init__(self, magmoms=None, free_energy=None, rows=0):
        super().__init__()
        self.asked = magmoms, free_energy, rows

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        magmoms, free_energy, rows = self.asked
        self.results["dipole"] = np.array([0.1, 0.2, 0.3])
        if magmoms is not None:
            self.results["magmoms"] = {"objects": [object()] * 4, "ragged": [[1.0], [2.0, 3.0]]}[magmoms]
        if free_energy is not None:
            self.results["free_energy"] = float(free_energy)
        self.results["forces"] = np.vstack([self.results["forces"], np.zeros((rows, 3))])


def hang():
    print("loading for ever")
    time.sleep(60)


def fail(reason):
    raise RuntimeError(reason)


def nothing():
    return 42
