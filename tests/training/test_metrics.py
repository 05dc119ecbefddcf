"""Error figures against hand calculation, and against ASE for a potential whose answers are known."""

import numpy as np
import pytest
from ase.build import bulk
from ase.units import GPa

from mlcalc.training.dataset import Labelled
from mlcalc.training.metrics import Predictions, errors, errors_by_group


def _labelled(n: int, energy: float, force: float, stress: float | None, group: str) -> Labelled:
    atoms = bulk("Cu") * (n, 1, 1)
    sigma = None if stress is None else np.full((3, 3), stress)
    return Labelled(atoms, energy, np.full((n, 3), force), sigma, group)


@pytest.fixture
def predictions() -> Predictions:
    data = (_labelled(1, -1.0, 0.0, 0.0, "a"), _labelled(4, -8.0, 1.0, None, "b"))
    return Predictions(
        data,
        np.array([-0.997, -8.016]),  # +3 and -4 meV/atom
        (np.full((1, 3), 0.5), np.full((4, 3), 0.9)),
        (np.full((3, 3), 2.0 * GPa), np.full((3, 3), 7.0)),
    )


def test_overall_figures(predictions):
    got = errors(predictions)
    assert got["n_structures"] == 2
    assert got["n_atoms"] == 5
    assert got["energy_rmse_mev_per_atom"] == pytest.approx(np.sqrt((9 + 16) / 2))
    assert got["energy_mae_mev_per_atom"] == pytest.approx(3.5)
    assert got["forces_rmse_ev_per_ang"] == pytest.approx(np.sqrt((3 * 0.25 + 12 * 0.01) / 15))
    assert got["forces_mae_ev_per_ang"] == pytest.approx((3 * 0.5 + 12 * 0.1) / 15)
    assert got["stress_rmse_gpa"] == pytest.approx(2.0)  # only where there is a label


def test_figures_by_group(predictions):
    got = errors_by_group(predictions)
    assert set(got["groups"]) == {"a", "b"}
    assert got["groups"]["b"]["stress_rmse_gpa"] is None
    assert got["groups"]["b"]["energy_rmse_mev_per_atom"] == pytest.approx(4.0)
    assert got["overall"] == errors(predictions)
