from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

from mlcalc.crystals import BondImage, bond_net, contact_net, find_space_group, make_codec
from mlcalc.crystals.bond_image import IMAGES
from mlcalc.crystals.io import read_crystals
from mlcalc.errors import CodecError


def codec_for(atoms: Atoms) -> BondImage:
    return BondImage(sorted(set(atoms.get_chemical_symbols())), max_atoms=20)


def test_awkward_crystals_come_back(awkward: Atoms, same_crystal) -> None:
    codec = codec_for(awkward)
    back = codec.decode(codec.encode(awkward))
    assert back.get_chemical_symbols() == awkward.get_chemical_symbols()  # atoms keep their order
    assert back.cell.handedness == 1
    assert same_crystal(awkward, back)


def test_pixels_are_radii_over_distances() -> None:
    a = 5.64
    codec = BondImage(["Cl", "Na"], max_atoms=3)
    picture = codec.encode(bulk("NaCl", "rocksalt", a=a))
    assert picture.shape == codec.shape == (29, 3, 3)
    na, cl = covalent_radii[[11, 17]]
    bonds = np.sort(picture[:27, 0, 1])[::-1]
    assert bonds[:6] == pytest.approx(np.full(6, (na + cl) / (a / 2)), rel=1e-6)  # six neighbours, each once
    assert bonds[6] < 0.75 * bonds[5]
    own = picture[:27, 1, 1]
    assert own[own > 0] == pytest.approx(np.full(12, 2 * cl / (a / np.sqrt(2))), rel=1e-6)
    assert picture[28, 0].tolist() == [1, 1, 1]  # sodium is the second element
    assert picture[:, 2].max() == 0


def test_both_directions_of_an_edge_are_there(awkward: Atoms) -> None:
    picture = codec_for(awkward).encode(awkward)[:27]
    assert np.array_equal(picture, picture[::-1].transpose(0, 2, 1))
    assert np.array_equal(IMAGES[::-1], -IMAGES)


def test_every_edge_is_a_pair_of_the_crystal(awkward: Atoms) -> None:
    # By another route: the lengths are distances that occur between atoms of these elements.
    net = contact_net(awkward)
    i, j, d = neighbor_list("ijd", awkward, float(net.lengths.max()) + 0.01)
    symbols = np.array(awkward.get_chemical_symbols())
    for pair, length in zip(net.pairs, net.lengths, strict=True):
        ours = {symbols[pair[0]], symbols[pair[1]]}
        assert any(abs(d[k] - length) < 1e-6 and {symbols[i[k]], symbols[j[k]]} == ours for k in range(len(d)))


def test_pictures_do_not_turn_and_pixels_survive_shift_and_mirror() -> None:
    atoms = bulk("ZnO", "wurtzite", a=3.25, c=5.3)
    codec = codec_for(atoms)
    net = contact_net(atoms)
    for change in ("rotate", "translate", "mirror"):
        other = atoms.copy()
        if change == "rotate":
            other.rotate(37, (1, 2, 3), rotate_cell=True)
        elif change == "translate":
            other.translate([0.3, 0.2, 0.1])
        else:
            other.set_cell(-other.cell.array, scale_atoms=True)
        found = contact_net(other)
        assert np.sort(found.lengths) == pytest.approx(np.sort(net.lengths), abs=1e-9), change
        # Pairs of atoms keep their pixels, whatever channels these are in.
        pixels = [np.sort(codec.encode(a)[:27], axis=0) for a in (atoms, other)]
        assert np.abs(pixels[1] - pixels[0]).max() < 1e-6, change
    rotated = atoms.copy()
    rotated.rotate(90, "z", rotate_cell=True)
    assert np.abs(codec.encode(rotated) - codec.encode(atoms)).max() < 1e-6


def test_noisy_pictures_are_nearly_the_crystal(same_crystal) -> None:
    atoms = bulk("GaAs", "zincblende", a=5.65)
    codec = codec_for(atoms)
    picture = codec.encode(atoms)
    noise = np.random.default_rng(0).normal(size=picture.shape)
    back = codec.decode(picture + 0.02 * noise)
    assert back.get_volume() == pytest.approx(atoms.get_volume(), rel=0.05)
    assert same_crystal(atoms, back, 0.05)
    # Four times the noise leaves faint pixels everywhere; their lengths mean nothing and must not count for much.
    assert codec.decode(picture + 0.08 * noise).get_volume() == pytest.approx(atoms.get_volume(), rel=0.3)
    assert find_space_group(codec.decode(picture)).number == 216  # type: ignore[union-attr]


def test_bonds_of_molecules_and_layers_are_told_from_what_links_them(named_crystals) -> None:
    ice = bond_net(named_crystals["molecules"]())
    strong = ~ice.weak
    assert strong.sum() == 8  # two for each of four molecules
    assert ice.lengths[strong] == pytest.approx(np.full(8, 0.1185 * np.sqrt(3) * 5.63))
    assert ice.directions() == 3
    layers = bond_net(named_crystals["layers"]())
    assert layers.lengths[~layers.weak] == pytest.approx(np.full(3, 2.46 / np.sqrt(3)))
    assert layers.weak.sum() == 1


def test_of_real_crystals_nearly_all_come_back(data_folder, same_crystal) -> None:
    crystals = read_crystals(data_folder / "crystals" / "mp_crystals_train.jsonl.gz")
    drawn = [c.atoms for c in crystals if len(c.atoms) <= 20][::400]
    back = 0
    for atoms in drawn:
        codec = codec_for(atoms)
        back += same_crystal(atoms, codec.decode(codec.encode(atoms)))
    assert len(drawn) > 20
    assert back >= 0.97 * len(drawn)


def test_the_registry_makes_an_equal_codec() -> None:
    codec = BondImage(["O", "Ti"], max_atoms=6, threshold=0.1)
    other = make_codec(codec.to_dict())
    assert isinstance(other, BondImage)
    assert other.to_dict() == codec.to_dict()
    assert other.shape == codec.shape == (29, 6, 6)


def _empty(shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros(shape)


def _without_bonds(shape: tuple[int, ...]) -> np.ndarray:
    array = np.zeros(shape)
    array[27, :2] = 1
    return array


def _chain(shape: tuple[int, ...]) -> np.ndarray:
    array = _without_bonds(shape)
    array[[22, 4], 0, 0] = array[[22, 4], 1, 1] = 1  # along the first axis only
    array[13, 0, 1] = array[13, 1, 0] = 1
    return array


def _contradiction(shape: tuple[int, ...]) -> np.ndarray:
    array = np.zeros(shape)
    array[27, 0] = 1
    for axis in ([1, 0, 0], [0, 1, 0], [0, 0, 1]):
        k = (np.array(axis) + 1) @ [9, 3, 1]
        array[[k, 26 - k], 0, 0] = 1
    for diagonal in ([1, 1, 0], [1, -1, 0]):  # both far shorter than the sides of their parallelogram
        k = (np.array(diagonal) + 1) @ [9, 3, 1]
        array[[k, 26 - k], 0, 0] = 2.5
    return array


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_empty, "no atoms"),
        (_without_bonds, "no bonds"),
        (_chain, "along 1 directions; a crystal needs 3"),
        (_contradiction, "contradict each other"),
        (lambda shape: np.full(shape, np.nan), "not finite"),
        (lambda shape: np.zeros((1, *shape)), "reads arrays of shape"),
    ],
)
def test_pictures_of_no_crystal(make, message: str) -> None:
    codec = BondImage(["Si", "O"], max_atoms=4)
    with pytest.raises(CodecError, match=message):
        codec.decode(make(codec.shape))


def test_what_does_not_fit() -> None:
    codec = BondImage(["Si"], max_atoms=2)
    with pytest.raises(CodecError, match="8 atoms do not fit"):
        codec.encode(bulk("Si", cubic=True))
    with pytest.raises(CodecError, match="Ge: not among the codec's elements Si"):
        codec.encode(bulk("Ge"))
    with pytest.raises(CodecError, match="too far apart"):
        codec.encode(Atoms("Si", cell=[50, 50, 50], pbc=True))
    with pytest.raises(CodecError, match="on top of each other"):
        codec.encode(Atoms("Si2", positions=[[0, 0, 0], [0, 0, 1e-9]], cell=[4, 4, 4], pbc=True))
    slab = bulk("Si")
    slab.pbc = (True, True, False)
    with pytest.raises(CodecError, match="periodic along three axes"):
        codec.encode(slab)
    shared = bulk("Si")
    shared.info["occupancy"] = {"0": {"Si": 0.5, "Ge": 0.5}}
    with pytest.raises(CodecError, match="partly occupied"):
        codec.encode(shared)
    for options in ({"elements": []}, {"elements": ["Si", "Si"]}, {"elements": ["Si"], "threshold": 0.3}):
        with pytest.raises(CodecError):
            BondImage(**options)
