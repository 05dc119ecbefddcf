import numpy as np
import pytest

from mlcalc.potentials.references import fit_reference_energies


def test_reference_energies_recovered() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 9, (30, 3)).astype(float)
    truth = np.array([-5.4, -9.1, 2.0])
    np.testing.assert_allclose(fit_reference_energies(counts, counts @ truth, "ABC"), truth, atol=1e-10)


def test_reference_energies_of_one_stoichiometry_predict_it() -> None:
    counts = np.array([[2.0, 4.0], [1.0, 2.0], [3.0, 6.0]])
    energies = counts.sum(axis=1) * -3.0
    found = fit_reference_energies(counts, energies, ["Si", "O"])
    np.testing.assert_allclose(counts @ found, energies, atol=1e-10)
    assert np.abs(found).max() < 6


def test_reference_energies_refuse_what_cannot_work() -> None:
    with pytest.raises(ValueError, match="no structure contains O"):
        fit_reference_energies(np.array([[1.0, 0.0]]), np.array([1.0]), ["Si", "O"])
    with pytest.raises(ValueError, match=r"not finite in structures \[1\]"):
        fit_reference_energies(np.array([[1.0], [1.0]]), np.array([1.0, np.nan]), ["Si"])
    with pytest.raises(ValueError, match=r"do not match"):
        fit_reference_energies(np.array([[1.0]]), np.array([1.0]), ["Si", "O"])
    with pytest.raises(ValueError, match="without atoms"):
        fit_reference_energies(np.array([[1.0], [0.0]]), np.array([1.0, 2.0]), ["Si"])
    with pytest.raises(ValueError, match="no structures"):
        fit_reference_energies(np.zeros((0, 1)), np.zeros(0), ["Si"])
