"""The coordinate image: there and back, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell

from mlcalc.crystals import make_codec
from mlcalc.crystals.coordinate_image import GEOMETRY, CoordinateImage, cell_of_log, log_cell
from mlcalc.crystals.io import read_crystals
from mlcalc.errors import CodecError

CODEC = CoordinateImage(("Li", "O", "Zn", "Si", "Na", "Cl"), max_atoms=16)


def furthest_ang(before: Atoms, after: Atoms) -> float:
    """Largest displacement of any atom or change of any cell length or angle (Å), orientation aside."""
    cell = np.abs(before.cell.array @ before.cell.array.T - after.cell.array @ after.cell.array.T).max()
    scaled = before.get_scaled_positions() * (1 if before.cell.handedness > 0 else -1)
    difference = scaled - after.get_scaled_positions()
    moved = (difference - np.rint(difference)) @ after.cell.array
    assert list(before.symbols) == list(after.symbols)
    assert after.cell.handedness == 1
    return float(max(np.linalg.norm(moved, axis=1).max(), cell / before.cell.lengths().min()))


@pytest.mark.parametrize(
    "atoms",
    [
        bulk("ZnO", "wurtzite", a=3.25, c=5.21),
        bulk("Si", cubic=True),
        bulk("NaCl", "rocksalt", a=5.64),
        Atoms("Li", cell=[2.5, 2.6, 2.7], pbc=True, scaled_positions=[[0.999999, 0.0, 0.000001]]),
        Atoms("LiO", cell=[[4, 0, 0], [-1.5, 4.4, 0], [1.2, 0.8, 5.0]], pbc=True, positions=[[0.1, 9, -3], [2, 1, 1]]),
        make_supercell(bulk("Si"), [[0, 1, 1], [1, 0, 1], [3, 1, -1]]),
    ],
    ids=lambda a: str(a.symbols),
)
def test_there_and_back(atoms: Atoms) -> None:
    array = CODEC.encode(atoms)
    assert array.shape == CODEC.shape
    assert array.dtype == np.float32
    assert furthest_ang(atoms, CODEC.decode(array)) < 1e-4


def test_left_handed_cells_are_the_same_crystal() -> None:
    atoms = Atoms("LiOZn", cell=[[4, 0, 0], [0, 5, 0], [0.5, 1.0, -6.0]], pbc=True)
    atoms.set_scaled_positions([[0, 0, 0], [0.3, 0.4, 0.1], [0.6, 0.1, 0.8]])
    back = CODEC.decode(CODEC.encode(atoms))
    assert furthest_ang(atoms, back) < 1e-4
    # Turned, not mirrored: one proper rotation takes cell and positions to those that came back.
    rotation = np.linalg.inv(-atoms.cell.array) @ back.cell.array
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-5)
    assert np.linalg.det(rotation) > 0
    apart = (atoms.positions @ rotation - back.positions) @ np.linalg.inv(back.cell.array)
    np.testing.assert_allclose(apart, np.rint(apart), atol=1e-5)


def test_zero_and_one_meet() -> None:
    low, high = (Atoms("Li", cell=[3.0] * 3, pbc=True, scaled_positions=[[x, 0, 0]]) for x in (1e-5, 1 - 1e-5))
    assert np.abs(CODEC.encode(low) - CODEC.encode(high)).max() < 2e-4


def test_layout_is_what_the_docstring_says() -> None:
    array = CODEC.encode(Atoms("OLi", cell=[5.0, 5.0, 10.0], pbc=True, scaled_positions=[[0.25, 0, 0.5], [0, 0, 0]]))
    np.testing.assert_allclose(array[:GEOMETRY, 0], [0, 0, np.log(2), 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(array[:GEOMETRY, 1], [0, 1, 1, 0, -1, 0], atol=1e-6)
    assert array[GEOMETRY:, 1].tolist() == [0, 0, 1, 0, 0, 0, 0]
    assert array[GEOMETRY:, 2].tolist() == [0, 1, 0, 0, 0, 0, 0]
    assert (array[CODEC.EMPTY, 3:] == 1).all()
    assert array[CODEC.EMPTY, :3].tolist() == [0, 0, 0]
    assert np.abs(array[:, 3:]).sum() == 14


def test_any_six_numbers_are_a_cell() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        log = np.array([1.5, 1.5, 1.5, 0, 0, 0]) + rng.normal(scale=0.2, size=6)
        cell = cell_of_log(log)
        assert np.linalg.det(cell) == pytest.approx(np.exp(log[:3].sum()))
        np.testing.assert_allclose(log_cell(cell), log, atol=1e-9)
        turned = cell @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
        np.testing.assert_allclose(log_cell(turned), log, atol=1e-9)


def test_description_makes_an_equal_codec() -> None:
    codec = CoordinateImage(("Li", "O"), max_atoms=5, length_ang=4.0)
    again = make_codec(codec.to_dict())
    assert isinstance(again, CoordinateImage)
    assert again.to_dict() == codec.to_dict()
    assert again.shape == codec.shape == (9, 6)


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (Atoms("Fe", cell=[3] * 3, pbc=True), "Fe: not among the codec's elements"),
        (make_supercell(bulk("Si", cubic=True), np.diag([3, 1, 1])), "24 atoms do not fit into a coordinate image"),
        (Atoms("Li", cell=[3] * 3), "periodic along three axes"),
        (Atoms(cell=[3] * 3, pbc=True), "without atoms"),
        (
            Atoms("Li", cell=[3] * 3, pbc=True, info={"occupancy": {"0": {"Li": 0.5, "Na": 0.5}}}),
            "site kind 0 is partly occupied",
        ),
        (
            Atoms("NaLiO", cell=[4] * 3, pbc=True, positions=[[2, 2, 2], [0.1, 0, 0], [3.8, 0, 0]]),
            r"atoms 1 \(Li\) and 2 \(O\) clash: 0\.300 Å",
        ),
        (Atoms("Li", cell=[0.4, 5, 5], pbc=True), r"atoms 0 \(Li\) and 0 \(Li\) clash: 0\.400 Å"),
        (Atoms("Li", cell=[[9, 0, 0], [9, 1, 0], [0, 0, 9]], pbc=True), "lattice is degenerate"),
    ],
)
def test_encoding_refuses(atoms: Atoms, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        CODEC.encode(atoms)


def test_decoding_refuses_what_is_no_crystal() -> None:
    good = CODEC.encode(bulk("NaCl", "rocksalt", a=5.64))

    def refused(change: object, message: str) -> None:
        array = good.copy()
        change(array)  # type: ignore[operator]
        with pytest.raises(CodecError, match=message):
            CODEC.decode(array)

    def put(where: object, value: object) -> object:
        return lambda array: array.__setitem__(where, value)

    refused(put((slice(0, 6), 2), good[:6, 1]), r"clash: 0\.000 Å")
    refused(put((slice(0, 6), 0), [2.5, -2.5, 0, 0, 0, 0]), "clash")
    refused(put((slice(0, 6), 0), [-9, 0, 0, 0, 0, 0]), "lattice is degenerate")
    refused(put((slice(0, 6), 0), [0, 0, 0, 4, 0, 0]), "lattice is degenerate")
    refused(put((slice(0, 2), 1), 0.0), "cosine and sine of a coordinate both vanish")
    refused(put((CODEC.EMPTY, slice(None)), 2.0), "no atoms")
    refused(put((0, 0), np.nan), "not finite")
    with pytest.raises(CodecError, match=r"shape \(13, 17\), not"):
        CODEC.decode(good[:, :-1])


@pytest.mark.parametrize("arguments", [((),), (("Xx",),), (("Li", "Li"),), (("Li",), 0)])
def test_codecs_that_make_no_sense(arguments: tuple) -> None:
    with pytest.raises(CodecError):
        CoordinateImage(*arguments)


@pytest.mark.parametrize(("file", "every"), [("mp_crystals_train", 12), ("perov_5_val", 12)])
def test_real_crystals_come_back(data_folder: Path, file: str, every: int) -> None:
    crystals = [c.atoms for c in read_crystals(data_folder / "crystals" / f"{file}.jsonl.gz")[::every]]
    codec = CoordinateImage(sorted({e for a in crystals for e in a.symbols}), max_atoms=20)
    worst = max(furthest_ang(a, codec.decode(codec.encode(a))) for a in crystals)
    assert worst < 1e-3
