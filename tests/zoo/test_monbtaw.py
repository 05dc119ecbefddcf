"""The shipped alloy potential: bars on frames it was not trained on, metals, alloys, grades."""

import numpy as np
import pytest
from ase.build import bulk

from mlcalc import MLCalculator, load
from mlcalc.errors import UnknownElementError
from mlcalc.training.dataset import read_sets
from mlcalc.training.metrics import errors, predict
from mlcalc.training.settings import settings_from_dict
from mlcalc.workflows import relax

# Experimental lattice constants in Å (Kittel); PBE is within one per cent.
LATTICE = {"Nb": 3.30, "Mo": 3.15, "Ta": 3.30, "W": 3.16}


def test_errors_on_the_validation_set_are_below_those_of_the_published_snap(data_folder):
    path = data_folder / "potentials" / "MoNbTaW_train.xyz"
    _, validation, _ = read_sets(settings_from_dict({"seed": 1, "data": {"train": [str(path)]}}))
    assert len(validation) == 538
    found = errors(predict(load("MoNbTaW"), validation[::4]))
    assert found["energy_mae_mev_per_atom"] < 5.0
    assert found["forces_mae_ev_per_ang"] < 0.125


@pytest.mark.parametrize("element", LATTICE)
def test_metals(element):
    result = relax(bulk(element, "bcc", a=3.25), MLCalculator("MoNbTaW"), cell="full", symmetry=True)
    assert result.converged
    a = result.atoms.cell.lengths()[0] * 2 / np.sqrt(3)
    assert a == pytest.approx(LATTICE[element], rel=0.015)
    grades = MLCalculator("MoNbTaW").get_property("extrapolation_grades", result.atoms)
    assert grades.max() < 1.0


def test_elements_mix_and_others_are_refused():
    alloy = bulk("Mo", "bcc", a=3.24, cubic=True) * 2
    alloy.symbols[:] = ["Nb", "Mo", "Ta", "W"] * 4
    relaxed = relax(alloy, MLCalculator("MoNbTaW", grade_warn=None), cell="isotropic")
    assert relaxed.converged
    volume = relaxed.atoms.get_volume() / len(alloy)
    metals = np.mean([a**3 / 2 for a in LATTICE.values()])  # Vegard, well enough
    assert volume == pytest.approx(metals, rel=0.04)
    with pytest.raises(UnknownElementError, match="Fe"):
        MLCalculator("MoNbTaW").get_potential_energy(bulk("Fe"))
