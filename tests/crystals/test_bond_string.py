from __future__ import annotations

import re

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlcalc.crystals import atoms_of_net, bond_net, bond_string, find_space_group, parse_bond_string
from mlcalc.crystals.io import read_crystals
from mlcalc.errors import CodecError

# Quotient graphs of nets whose most symmetric embedding is known, with its space group and the ratio of cell vectors.
NETS = {
    "C C 0 1 ooo 0 1 -oo 0 1 o-o 0 1 oo-": 227,  # diamond
    "Po 0 0 +oo 0 0 o+o 0 0 oo+": 221,  # simple cubic
    "Cs Cl 0 1 ooo 0 1 -oo 0 1 o-o 0 1 oo- 0 1 --o 0 1 -o- 0 1 o-- 0 1 ---": 221,
    "Na Cl 0 1 ooo 0 1 -oo 0 1 o-o 0 1 oo- 0 1 +-- 0 1 -o- 0 1 --o": None,  # 7 bonds: of no known type
}


@pytest.mark.parametrize("text", [text for text, group in NETS.items() if group])
def test_bonds_alone_make_the_symmetric_crystal(text: str) -> None:
    found = find_space_group(atoms_of_net(parse_bond_string(text)), 0.05)
    assert found is not None
    assert found.number == NETS[text]


def test_angles_of_diamond_from_its_bonds() -> None:
    atoms = atoms_of_net(parse_bond_string("C C 0 1 ooo@1.54 0 1 -oo@1.54 0 1 o-o@1.54 0 1 oo-@1.54"))
    # Four lengths leave the angles free; the equilibrium placement is the tetrahedral one.
    angles = np.array([atoms.cell.angles()])
    assert angles == pytest.approx(np.full((1, 3), 60.0), abs=0.5)
    assert atoms.cell.lengths() == pytest.approx(np.full(3, 1.54 * np.sqrt(8 / 3)), rel=0.01)


def test_a_line_with_lengths_is_the_crystal(awkward: Atoms, same_crystal) -> None:
    text = bond_string(awkward, lengths=True)
    assert same_crystal(awkward, atoms_of_net(parse_bond_string(text)))


def test_a_line_is_read_as_it_was_written(awkward: Atoms) -> None:
    net = bond_net(awkward)
    for lengths in (False, True):
        read = parse_bond_string(bond_string(net, lengths))
        assert read.symbols == net.symbols
        assert np.array_equal(read.pairs, net.pairs)
        assert np.array_equal(read.shifts, net.shifts)
        assert np.array_equal(read.weak, net.weak)
        assert np.isnan(read.lengths).all() if not lengths else np.allclose(read.lengths, net.lengths, atol=1e-5)


def test_known_lines() -> None:
    text = bond_string(bulk("Cu"))
    assert text.startswith("Cu 0 0 ")
    assert len(text.split()) == 1 + 3 * 6  # twelve neighbours, each bond once
    assert "~" not in text
    with pytest.raises(CodecError, match="unknown length"):
        bond_string(parse_bond_string("Po 0 0 +oo 0 0 o+o 0 0 oo+"), lengths=True)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("", 1, "begin with the elements"),
        ("   ", 1, "begin with the elements"),
        ("Xx Cl 0 1 ooo", 1, "begin with the elements"),
        ("Na Cl", 6, "expected bonds"),
        ("Na Cl 0 1", 10, "too early"),
        ("Na Cl 0 2 ooo", 9, "there are 2 atoms"),
        ("Na Cl 0 -1 ooo", 9, "number of an atom"),
        ("Na Cl 0 ² ooo", 9, "number of an atom"),
        ("Na Cl 0 1 oo", 11, "expected an image"),
        ("Na Cl 0 1 ooo@", 11, "expected an image"),
        ("Na Cl 0 1 ooo@nan", 11, "expected an image"),
        ("Na Cl 0 1 ooo@-2", 11, "expected an image"),
        ("Na Cl 0 1 ooo@0.0", 11, "length 0"),
        ("Na Cl 0 1 ooo 1 0 ooo", 15, "written before"),
        ("Na Cl 0 1 +oo 1 0 -oo", 15, "written before"),
        ("Na Cl 1 1 ooo", 11, "bonded to itself"),
        ("Na Cl 0 1 ooo Na", 15, "number of an atom"),
        ("Na Cl 0 1 ooo 999999999999999999999 1 ooo", 15, "number of an atom"),
    ],
)
def test_malformed_lines_name_the_place(text: str, place: int, message: str) -> None:
    with pytest.raises(CodecError, match=message) as error:
        parse_bond_string(text)
    assert f"character {place}" in str(error.value)


def test_whatever_is_typed_is_a_net_or_an_error_with_a_place() -> None:
    rng = np.random.default_rng(0)
    lines = [bond_string(bulk("NaCl", "rocksalt", a=5.64), lengths=bool(k)) for k in (0, 1)]
    alphabet = list("0123456789-+o~@. NaClXx²\t\n")
    errors = nets = 0
    for trial in range(2000):
        letters = list(lines[trial % 2])
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(len(letters)))
            what = rng.integers(3)
            letters[at : at + (what != 1)] = [] if what == 0 else [alphabet[int(rng.integers(len(alphabet)))]]
        text = "".join(letters)
        try:
            net = parse_bond_string(text)
        except CodecError as error:
            place = re.search(r"character (\d+)", str(error))
            assert place is not None
            assert 1 <= int(place.group(1)) <= len(text) + 1
            errors += 1
        else:
            assert net.pairs.max() < len(net.symbols)
            nets += 1
    assert errors > 500
    assert nets > 100


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Na Cl 0 0 +oo 0 0 o+o 0 0 oo+", "do not connect all atoms"),
        ("C C 0 1 ooo 0 1 -oo 0 1 o-o", "along 2 directions"),
        ("H H 0 1 ooo@0.1 0 0 +oo@4 0 0 o+o@4 0 0 oo+@4", "clash"),
        ("C 0 0 +oo@1.5 0 0 o+o@1.5 0 0 oo+@1.5 0 0 ++o@0.8 0 0 +-o@0.8", "contradict"),
    ],
)
def test_nets_of_no_crystal(text: str, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        atoms_of_net(parse_bond_string(text))


def test_of_real_crystals_most_come_back_from_bonds_alone(data_folder) -> None:
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.io.ase import AseAtomsAdaptor

    matcher, structure = StructureMatcher(), AseAtomsAdaptor.get_structure
    crystals = read_crystals(data_folder / "crystals" / "mp_crystals_train.jsonl.gz")
    drawn = [c.atoms for c in crystals if len(c.atoms) <= 20][7::200]
    back = 0
    for atoms in drawn:
        try:
            found = atoms_of_net(parse_bond_string(bond_string(atoms)))
        except CodecError:
            continue
        back += bool(matcher.fit(structure(atoms), structure(found)))
    assert len(drawn) > 40
    assert back >= 0.8 * len(drawn)
