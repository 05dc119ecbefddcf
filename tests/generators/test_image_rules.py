"""What is done with crystals read off images: volume, symmetry, distances, groups."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from _perovskites import cube

from mlcalc.crystals import find_space_group
from mlcalc.generators import Constraints
from mlcalc.generators._image_rules import Finish, broken


def test_symmetry_is_mended_within_its_tolerance() -> None:
    atoms = cube("Sr", "Ti", "O")
    atoms.rattle(0.01, seed=1)
    atoms.set_cell(atoms.cell.array * [[1.0, 1.002, 0.999]], scale_atoms=True)
    failed = Counter[str]()
    mended = Finish(Constraints(), 0.6, 0.1)(atoms, failed)
    assert mended is not None
    assert mended[1] == 221
    assert Finish(Constraints(space_groups=(99, 221)), 0.6, 0.1)(atoms, failed) is not None
    left = Finish(Constraints(), 0.6, 0.0)(atoms, failed)
    assert left is not None
    assert left[1] == 1
    np.testing.assert_allclose(left[0].get_volume(), atoms.get_volume())
    assert not failed
    assert Finish(Constraints(space_groups=(99,)), 0.6, 0.1)(atoms, failed) is None
    assert failed == {"came out in a space group that is not allowed": 1}


@pytest.mark.parametrize("volume", [8.0, 20.0])
def test_volumes_are_brought_into_their_range(volume: float) -> None:
    atoms = cube("Sr", "Ti", "O")
    finish = Finish(Constraints(volume_per_atom=(volume, volume + 0.5)), 0.5, 0.1)
    found = finish(atoms, Counter())
    assert found is not None
    assert volume <= found[0].get_volume() / 5 <= volume + 0.5
    assert found[1] == 221
    exact = Finish(Constraints(volume_per_atom=(volume, volume)), 0.5, 0.1)(atoms, Counter())
    assert exact is not None
    assert exact[0].get_volume() / 5 == pytest.approx(volume)


def test_close_atoms_and_repeated_cells_are_rejected() -> None:
    failed = Counter[str]()
    atoms = cube("Sr", "Ti", "O")
    assert Finish(Constraints(), 1.5, 0.1)(atoms, failed) is None
    # A cell that repeats a smaller one comes down to it, and is then too small.
    assert Finish(Constraints(n_atoms=(10, 10)), 0.6, 0.1)(atoms.repeat((1, 1, 2)), failed) is None
    assert failed == {"atoms too close": 1, "number of atoms not allowed": 1}
    assert find_space_group(atoms) is not None


@pytest.mark.parametrize(
    ("constraints", "reason"),
    [
        (Constraints(), None),
        (Constraints(n_atoms=(1, 4)), "number of atoms not allowed"),
        (Constraints(elements=("Sr", "Ti")), "elements not allowed"),
        (Constraints(elements=("Sr", "Ti", "O", "N")), "elements not allowed"),
        (Constraints(chemical_system=("Sr", "Ti", "O", "N")), None),
        (Constraints(formula="SrTiO3"), None),
        (Constraints(formula="SrTi2O3"), "another formula"),
        (Constraints(volume_per_atom=(1.0, 2.0)), "volume not allowed"),
    ],
)
def test_what_is_broken_is_named(constraints: Constraints, reason: str | None) -> None:
    assert broken(cube("Sr", "Ti", "O"), constraints) == reason
