from __future__ import annotations

import itertools

import numpy as np
import pytest
from pyxtal.symmetry import Group

from mlcalc.crystals import find_space_group, wyckoff
from mlcalc.crystals.symmetry import conventional_cell, primitive_cell


@pytest.mark.parametrize("number", range(1, 231))
def test_every_position_has_its_multiplicity_in_the_primitive_cell(number: int) -> None:
    rng = np.random.default_rng(number)
    for site in wyckoff.sites(number):
        assert wyckoff.place(number, site, rng).shape == (site.multiplicity, 3)
    assert round(1 / np.linalg.det(wyckoff.primitive_vectors(number))) == Group(number).cellsize()


@pytest.mark.parametrize("counts", [(1,), (3,), (8,), (1, 1), (2, 4), (1, 1, 3)])
def test_compatible_compositions_agree_with_pyxtal(counts: tuple[int, ...]) -> None:
    for number in range(1, 231):
        table = Group(number)
        theirs = table.check_compatible(np.array(counts) * table.cellsize())[0]
        assert wyckoff.compatible(number, counts) == theirs, number


def test_fixed_positions_are_used_once() -> None:
    # Fm-3m has 4a and 4b without freedom (one atom each in the primitive cell), then 8c (two atoms).
    assert wyckoff.compatible(225, (1, 1))
    assert not wyckoff.compatible(225, (1, 1, 1))
    assert not wyckoff.compatible(225, (3, 1, 1))
    for seed in range(50):
        drawn = wyckoff.draw_sites(225, (3, 1), np.random.default_rng(seed))
        assert drawn is not None
        letters = [site.letter for element in drawn for site in element if not site.free]
        assert len(letters) == len(set(letters))
        assert [sum(site.multiplicity for site in element) for element in drawn] == [3, 1]
    assert wyckoff.draw_sites(225, (1, 1, 1), np.random.default_rng(0)) is None


def test_drawing_reaches_every_combination() -> None:
    # Two atoms in P-1: two of eight fixed positions, or the general one (2i).
    drawn = [wyckoff.draw_sites(2, (2,), np.random.default_rng(seed)) for seed in range(600)]
    found = {"".join(sorted(site.letter for site in d[0])) for d in drawn if d}
    assert found == {"i", *("".join(pair) for pair in itertools.combinations("abcdefgh", 2))}


def test_space_groups_of_known_crystals() -> None:
    from ase.build import bulk

    silicon = bulk("Si", cubic=True)
    found = find_space_group(silicon)
    assert found is not None
    assert (found.number, found.symbol) == (227, "Fd-3m")
    assert len(primitive_cell(silicon)) == 2
    assert len(conventional_cell(primitive_cell(silicon))) == 8
    silicon.pbc = (True, True, False)
    with pytest.raises(ValueError, match="three directions"):
        find_space_group(silicon)
    with pytest.raises(ValueError, match="1 to 230"):
        wyckoff.group(231)
