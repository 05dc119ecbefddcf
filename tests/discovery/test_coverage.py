"""The usual measures: validity and coverage."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlcalc.discovery._coverage import (
    Fingerprints,
    composition_is_valid,
    coverage,
    fingerprints,
    structure_is_valid,
)


def perovskite(a: str, b: str, x: str, size: float = 3.9) -> Atoms:
    places = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Atoms([a, b, x, x, x], cell=[size] * 3, pbc=True, scaled_positions=places)


@pytest.mark.parametrize(
    ("atoms", "valid"),
    [
        (perovskite("Sr", "Ti", "O"), True),
        (perovskite("Na", "Sr", "F"), True),
        (bulk("Cu"), True),
        (bulk("NiTi", "cesiumchloride", a=3.0), True),  # metals alone
        (perovskite("Na", "K", "F"), False),
    ],
    ids=lambda x: str(getattr(x, "symbols", x)),
)
def test_valid_compositions(atoms: Atoms, valid: bool) -> None:
    assert composition_is_valid(atoms) is valid


def test_valid_structures() -> None:
    assert structure_is_valid(bulk("Cu"))
    assert structure_is_valid(perovskite("Sr", "Ti", "O"))
    close = bulk("NaCl", "rocksalt", a=5.6)
    close.positions[1] = close.positions[0] + [0.3, 0, 0]
    assert not structure_is_valid(close)
    # Across a cell's face, too; but not an atom's own images, as published numbers are counted.
    across = Atoms("NaCl", cell=[5, 5, 5], pbc=True, scaled_positions=[[0.02, 0, 0], [0.98, 0, 0]])
    assert not structure_is_valid(across)
    assert structure_is_valid(Atoms("Na", cell=[0.4, 5, 5], pbc=True))
    assert not structure_is_valid(Atoms("Na", cell=[0.4, 0.4, 0.4], pbc=True))


def test_coverage_on_points() -> None:
    """Structure and composition must both be near, of the same crystal or not; NaN is near nothing."""
    scale = np.array([[-1.0], [1.0]])  # mean 0, standard deviation 1
    reference = Fingerprints(np.array([[0.0], [1.0], [5.0]]), np.array([[0.0], [10.0], [50.0]]))
    generated = Fingerprints(np.array([[0.1], [0.1], [3.0], [np.nan]]), np.array([[9.0], [30.0], [0.0], [0.0]]))
    precision, recall = coverage(generated, reference, scale, cutoffs=(0.2, 4.0))
    assert precision.tolist() == [True, False, False, False]
    assert recall.tolist() == [True, False, False]
    _, wide = coverage(generated, reference, scale, cutoffs=(1.0, 4.0))
    assert wide.tolist() == [True, True, False]
    narrow, _ = coverage(generated, reference, 2 * scale, cutoffs=(0.2, 0.4))
    assert narrow.tolist() == [False] * 4
    none = Fingerprints(np.zeros((0, 1)), np.zeros((0, 1)))
    assert [x.tolist() for x in coverage(none, reference, scale)] == [[], [False] * 3]


def test_fingerprints_of_crystals() -> None:
    told: list[tuple[int, int]] = []
    crystals = [perovskite("Sr", "Ti", "O"), perovskite("Sr", "Ti", "O").repeat((1, 1, 2)), bulk("Cu")]
    found = fingerprints(crystals, lambda done, total: told.append((done, total)))
    assert found.structure.shape == (3, 61)
    assert found.composition.shape == (3, 132)
    assert told == [(1, 3), (2, 3), (3, 3)]
    # How the crystal is cut into cells does not matter.
    np.testing.assert_allclose(found.structure[0], found.structure[1], atol=1e-6)
    np.testing.assert_allclose(found.composition[0], found.composition[1], atol=1e-9)
    precision, recall = coverage(found, Fingerprints(found.structure[:1], found.composition[:1]), found.composition)
    assert precision.tolist() == [True, True, False]
    assert recall.tolist() == [True]
