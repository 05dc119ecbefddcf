"""Crystals as images for training: one way of writing each, conditions, sets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, make_supercell
from pymatgen.analysis.structure_matcher import StructureMatcher

from mlcalc.crystals.coordinate_image import CoordinateImage
from mlcalc.crystals.io import LabelledCrystal
from mlcalc.crystals.structures import structure_of
from mlcalc.errors import CodecError
from mlcalc.generators._clearance import clearance
from mlcalc.generators._image_conditions import Conditions
from mlcalc.generators._image_data import encode_set
from mlcalc.generators._image_setting import standard_setting

PLACES = np.array([[0, 0, 0], [0.5, 0.51, 0.52], [0.52, 0.5, 0.03], [0.5, 0.07, 0.5], [0.05, 0.5, 0.55]])
DISTORTED = Atoms("SrTiNOO", cell=[3.9, 4.0, 4.2], pbc=True, scaled_positions=PLACES)


def written_otherwise(atoms: Atoms, seed: int) -> Atoms:
    """The same crystal: other origin, axes permuted and flipped with their handedness kept, atoms in any order."""
    rng = np.random.default_rng(seed)
    turn = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], size=3)[:, None]
    turn *= np.linalg.det(turn)
    other = make_supercell(atoms, np.rint(turn).astype(int))
    other.positions += rng.normal(size=3)
    return other[rng.permutation(len(other))]


@pytest.mark.parametrize("atoms", [DISTORTED, bulk("ZnO", "wurtzite", a=3.25, c=5.2), bulk("NaCl", "rocksalt", a=5.6)])
def test_one_crystal_one_setting(atoms: Atoms) -> None:
    first = standard_setting(atoms)
    assert StructureMatcher(scale=False, primitive_cell=False).fit(structure_of(atoms), structure_of(first))
    np.testing.assert_allclose(first.get_scaled_positions()[0], 0, atol=1e-9)
    for seed in range(12):
        again = standard_setting(written_otherwise(atoms, seed))
        assert list(again.symbols) == list(first.symbols)
        if atoms is DISTORTED:  # symmetric crystals have several equal choices of axes
            difference = again.get_scaled_positions() - first.get_scaled_positions()
            np.testing.assert_allclose(difference, np.rint(difference), atol=1e-6)
            np.testing.assert_allclose(again.cell.lengths(), first.cell.lengths())


def test_a_skew_cell_is_reduced_first() -> None:
    first = standard_setting(DISTORTED)
    assert (first.cell.array != 0).sum() == 3  # it was reduced: nothing done to it
    for skew in ([[1, 1, 0], [0, 1, 0], [0, 0, 1]], [[1, 0, 0], [-2, 1, 0], [1, 3, 1]]):
        again = standard_setting(written_otherwise(make_supercell(DISTORTED, skew), 1))
        assert list(again.symbols) == list(first.symbols)
        difference = again.get_scaled_positions() - first.get_scaled_positions()
        np.testing.assert_allclose(difference, np.rint(difference), atol=1e-6)
        np.testing.assert_allclose(again.cell.cellpar(), first.cell.cellpar())


def test_the_roomiest_site_comes_first() -> None:
    assert standard_setting(DISTORTED).symbols[0] == "Sr"
    swapped = DISTORTED.copy()
    swapped.symbols[[0, 1]] = ["Ti", "Sr"]
    assert list(standard_setting(swapped).symbols) == ["Ti", "Sr", "N", "O", "O"]


def test_sets_count_what_the_codec_refuses() -> None:
    codec = CoordinateImage(("Sr", "Ti", "N", "O"), max_atoms=5)
    crystals = [
        LabelledCrystal(DISTORTED, {"gap": 1.0, "heat": -2.0}, "a"),
        LabelledCrystal(bulk("Cu"), {"gap": 0.0}, "b"),
        LabelledCrystal(DISTORTED.repeat((1, 1, 2)), {}, "c"),
        LabelledCrystal(DISTORTED, {"gap": 3.0}, "d"),
        LabelledCrystal(Atoms("SrO", cell=[4] * 3, pbc=True, positions=[[0, 0, 0], [0, 0, 3.9]]), {"gap": 9.0}, "e"),
    ]
    found = encode_set(crystals, codec, codec.elements)
    assert found.refused.total() == 3
    assert "atoms 0 (Sr) and 1 (O) clash: 0.100 Å" in found.refused
    assert len(found.images) == 2
    assert found.conditions.properties == ("gap",)  # one label of heat is no scale
    assert (found.conditions.middle, found.conditions.spread) == ((2.0,), (1.0,))
    assert (found.conditions.lowest, found.conditions.highest) == ((1.0,), (3.0,))
    assert found.images.properties[:, 0].tolist() == [1.0, 3.0]
    np.testing.assert_allclose(found.images.shares.numpy(), [[0.2, 0.2, 0.2, 0.4]] * 2)
    with pytest.raises(CodecError, match="takes none of 1 crystals"):
        encode_set(crystals[1:2], codec, codec.elements)


def test_conditions_tell_what_they_are_told() -> None:
    conditions = Conditions(("A", "B"), ("gap",), (2.0,), (0.5,), (0.0,), (9.0,))
    shares = torch.tensor([[0.25, 0.75]] * 3)
    rows = conditions.vector(shares, torch.tensor([0, 1, 2]), torch.tensor([[3.0], [torch.nan], [2.0]]), 3)
    assert rows.shape == (3, conditions.width)
    assert rows.tolist() == [
        [0, 0, 0, 0, 0, 0, 2, 1],
        [1, 1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0.25, 0.75, 1, 0, 1],
    ]
    assert conditions.vector(None, None, None, 1).abs().sum() == 0
    assert Conditions.from_dict(conditions.to_dict()) == conditions


def test_clearance_is_the_closest_pair() -> None:
    from mlcalc.crystals import closest_pair

    crystals = [
        DISTORTED,
        bulk("ZnO", "wurtzite", a=3.25, c=5.2),
        Atoms("Sr", cell=[[2, 0, 0], [0.4, 5, 0], [1, 1, 6]], pbc=True),
    ]
    codec = CoordinateImage(("Sr", "Ti", "N", "O", "Zn"), max_atoms=6)
    found = clearance(np.stack([codec.encode(a) for a in crystals]), codec)
    pairs = [closest_pair(a, 3.0) for a in crystals]
    np.testing.assert_allclose(found, [p.ratio for p in pairs if p], rtol=1e-5)
