from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.spacegroup import crystal
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.io.ase import AseAtomsAdaptor

from mlcalc.crystals import (
    Orbit,
    WyckoffCrystal,
    canonical,
    closest_pair,
    encode,
    equivalents,
    find_space_group,
    lattice_parameters,
    wyckoff,
)
from mlcalc.crystals._tables import tables
from mlcalc.errors import CrystalError


def built(number: int, sites: str, cell: str, setting: int = 1) -> tuple[int, Atoms]:
    """A crystal as ASE's own tables build it: ``"Ti 0 0 0; O 0.305 0.305 0"``, lengths and angles."""
    rows = [site.split() for site in sites.split(";")]
    points = [tuple(float(x) for x in row[1:]) for row in rows]
    cellpar = [float(x) for x in cell.split()]
    return number, crystal([row[0] for row in rows], points, spacegroup=number, setting=setting, cellpar=cellpar)


# Published crystals of all seven systems, with their space groups.
KNOWN = {
    "spinel": built(
        227, "Mg 0.125 0.125 0.125; Al 0.5 0.5 0.5; O 0.2624 0.2624 0.2624", "8.08 8.08 8.08 90 90 90", setting=2
    ),
    "rutile": built(136, "Ti 0 0 0; O 0.305 0.305 0", "4.594 4.594 2.959 90 90 90"),
    "quartz": built(152, "Si 0.4697 0 0.33333333; O 0.4133 0.2672 0.4523", "4.913 4.913 5.405 90 90 120"),
    "corundum": built(167, "Al 0 0 0.35219; O 0.30633 0 0.25", "4.759 4.759 12.991 90 90 120"),
    "wurtzite": (186, bulk("ZnO", "wurtzite", a=3.25, c=5.2)),
    "perovskite": built(
        62,
        "Ca 0.0065 0.0356 0.25; Ti 0 0.5 0; O 0.5711 -0.0161 0.25; O 0.2897 0.2888 0.0373",
        "5.38 5.44 7.64 90 90 90",
    ),
    "baddeleyite": built(
        14, "Zr 0.2754 0.0395 0.2083; O 0.07 0.3317 0.3447; O 0.4496 0.7569 0.4792", "5.15 5.212 5.317 90 99.23 90"
    ),
    "centred": built(
        2, "Al 0.3254 0.704 0.4582; Si 0.2962 0.0649 0.7066; O 0.1095 0.1468 0.1288", "5 5.6 6.1 90 101 106"
    ),
    "diamond": (227, bulk("C", "diamond", a=3.567)),
    "hcp": (194, bulk("Ti", "hcp", a=2.95, c=4.68)),
    "polar": built(1, "Li 0.1 0.2 0.3; Na 0.52 0.61 0.77; K 0.7 0.05 0.4", "5 5.5 6.2 78 81 86"),
}


def disguise(atoms: Atoms, seed: int) -> Atoms:
    """The same crystal in another cell, rotated, shifted, with atoms in another order."""
    rng = np.random.default_rng(seed)
    matrix = rng.integers(-1, 2, (3, 3))
    while abs(round(np.linalg.det(matrix))) not in (1, 2):
        matrix = rng.integers(-1, 2, (3, 3))
    if np.linalg.det(matrix) < 0:
        matrix = -matrix
    other = make_supercell(atoms, matrix)
    other = other[rng.permutation(len(other))]
    other.rotate(rng.uniform(0, 360), rng.standard_normal(3), rotate_cell=True)
    other.translate(rng.standard_normal(3))
    other.wrap()
    return other


def matches(one: Atoms, two: Atoms) -> bool:
    to_structure = AseAtomsAdaptor.get_structure
    return bool(StructureMatcher(scale=False).fit(to_structure(one), to_structure(two)))


def assert_same(one: WyckoffCrystal, two: WyckoffCrystal, tolerance: float = 1e-4) -> None:
    assert one.key() == two.key()
    assert one.lattice == pytest.approx(two.lattice, abs=10 * tolerance)
    for a, b in zip(one.orbits, two.orbits, strict=True):
        difference = np.array(a.free) - np.array(b.free)
        assert np.abs(difference - np.rint(difference)).max(initial=0.0) < tolerance


@pytest.mark.parametrize("name", KNOWN)
def test_known_crystals_come_back_with_exact_symmetry(name: str) -> None:
    number, atoms = KNOWN[name]
    description = encode(atoms, symprec=0.01)
    assert description.space_group == number
    back = description.atoms()
    found = find_space_group(back, symprec=1e-6)
    assert found is not None
    assert found.number == number
    assert matches(atoms, back)
    assert back.get_volume() / len(back) == pytest.approx(atoms.get_volume() / len(atoms), rel=1e-6)
    assert len(back) == sum(description.multiplicities()) == sum(description.counts().values())
    for seed in range(3):
        assert_same(encode(disguise(atoms, seed), symprec=0.01), description)


def test_published_letters_and_coordinates() -> None:
    spinel = encode(KNOWN["spinel"][1], symprec=0.01)
    letters = {o.element: o.letter for o in spinel.orbits}
    assert letters == {"Mg": "a", "Al": "d", "O": "e"}
    assert spinel.multiplicities() == (2, 4, 8)  # 8a, 16d, 32e of a face-centred cell
    (oxygen,) = (o for o in spinel.orbits if o.element == "O")
    assert min(abs(oxygen.free[0] % 1 - u) for u in (0.2624, 1 - 0.2624, 0.75 - 0.5124 + 0.0, 0.25 - 0.0124)) < 1e-4
    quartz = encode(KNOWN["quartz"][1], symprec=0.01)
    assert {o.element: o.letter for o in quartz.orbits} == {"Si": "a", "O": "c"}
    assert quartz.lattice == pytest.approx((4.913, 5.405))


@pytest.mark.parametrize("number", range(1, 231))
def test_every_space_group(number: int) -> None:
    """Generic crystals: general and special positions of all letters, through spglib and back."""
    rng = np.random.default_rng(number)
    cell = {"a": 9.0, "b": 10.3, "c": 11.9, "alpha": 82.0, "beta": 97.0, "gamma": 104.0}
    lattice = tuple(cell[name] for name in lattice_parameters(number))
    general, *special = wyckoff.sites(number)
    special = special or [general]
    chosen = [general, special[int(rng.integers(len(special)))]]
    for _ in range(50):
        orbits = tuple(
            Orbit(element, site.letter, tuple(rng.random(site.free)))
            for element, site in zip(("O", "Si"), chosen, strict=True)
        )
        if number == 1:
            orbits += (Orbit("Al", "a", tuple(rng.random(3))),)  # two atoms alone have an inversion between them
        made = WyckoffCrystal(number, orbits, lattice)
        atoms = made.atoms()
        if closest_pair(atoms, 0.1) is None:
            break
    assert len(atoms) == sum(made.multiplicities())
    found = find_space_group(atoms, 1e-4)
    assert found is not None
    assert found.number == number
    assert_same(encode(disguise(atoms, number), 1e-3), canonical(made), tolerance=2e-3)


def test_equivalents_of_rock_salt_and_perovskite() -> None:
    salt = encode(bulk("NaCl", "rocksalt", a=5.64))
    assert [tuple(o.letter for o in e.orbits) for e in equivalents(salt)] == [("a", "b"), ("b", "a")]
    ideal = WyckoffCrystal(221, (Orbit("Sr", "b"), Orbit("Ti", "a"), Orbit("O", "d")), (3.9,))
    letters = {tuple((o.element, o.letter) for o in e.orbits) for e in equivalents(ideal)}
    assert letters == {(("Sr", "b"), ("Ti", "a"), ("O", "d")), (("Sr", "a"), ("Ti", "b"), ("O", "c"))}
    assert canonical(ideal).key() == (221, (("O", "c"), ("Sr", "a"), ("Ti", "b")))


@pytest.mark.parametrize("name", ["rutile", "quartz", "wurtzite", "perovskite", "baddeleyite", "polar", "corundum"])
def test_equivalents_are_one_crystal_with_one_canonical_description(name: str) -> None:
    chosen = encode(KNOWN[name][1], symprec=0.01)
    others = equivalents(chosen)
    assert len(others) == len({(e.key(), e.lattice, tuple(o.free for o in e.orbits)) for e in others})
    for other in others:
        assert matches(chosen.atoms(), other.atoms())
        assert_same(canonical(other), chosen)


def test_mirror_images_are_different_crystals() -> None:
    rng = np.random.default_rng(3)
    orbits = (Orbit("Si", "a", tuple(rng.random(3))), Orbit("O", "a", tuple(rng.random(3))))
    left = WyckoffCrystal(19, orbits, (6.0, 7.0, 8.0)).atoms()
    right = left.copy()
    right.set_cell(left.cell.array * [1, 1, -1], scale_atoms=True)
    one, two = encode(left, 1e-3), encode(right, 1e-3)
    assert one.key() == two.key()
    assert np.abs(np.array([o.free for o in one.orbits]) - [o.free for o in two.orbits]).max() > 0.01
    # Of enantiomorphic pairs of groups the other one comes out.
    quartz = KNOWN["quartz"][1].copy()
    quartz.set_cell(quartz.cell.array * [1, 1, -1], scale_atoms=True)
    assert encode(quartz, 0.01).space_group == 154


@pytest.mark.parametrize("number", [1, 5, 7, 14, 19, 43, 62, 122, 146, 166, 194, 216, 227, 230])
def test_changes_of_axes_map_the_group_onto_itself(number: int) -> None:
    table = tables(number)
    assert all(table.keeps(change) for change in table.changes)
    assert all(np.linalg.det(change.rotation) == pytest.approx(1.0) for change in table.changes)
    for names in table.renamed:
        assert sorted(names) == sorted(names.values())


def test_json_and_back() -> None:
    for _, atoms in KNOWN.values():
        description = encode(atoms, 0.01)
        assert WyckoffCrystal.from_dict(json.loads(json.dumps(description.to_dict()))) == description


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((231, (Orbit("Si", "a"),), (5.0,)), "1 to 230"),
        ((225, (), (5.0,)), "without atoms"),
        ((225, (Orbit("Si", "a"),), (5.0, 5.0)), "lattice parameters a"),
        ((225, (Orbit("Si", "a"),), (-5.0,)), "positive lattice"),
        ((225, (Orbit("Si", "z"),), (5.0,)), "no Wyckoff position 'z'"),
        ((225, (Orbit("Qq", "a"),), (5.0,)), "not a chemical element"),
        ((225, (Orbit("Si", "a", (0.1,)),), (5.0,)), "has 0 free"),
        ((225, (Orbit("Si", "a"), Orbit("C", "a")), (5.0,)), "occupied once"),
    ],
)
def test_impossible_descriptions(values: tuple, message: str) -> None:
    with pytest.raises(CrystalError, match=message):
        WyckoffCrystal(*values)


def test_what_cannot_be_encoded() -> None:
    slab = bulk("Si")
    slab.pbc = (True, True, False)
    with pytest.raises(CrystalError, match="three directions"):
        encode(slab)
    with pytest.raises(CrystalError, match="no symmetry found"):
        encode(Atoms("Si2", positions=[(0, 0, 0), (0, 0, 0.001)], cell=[3, 3, 3], pbc=True))
    with pytest.raises(CrystalError, match="not the description"):
        WyckoffCrystal.from_dict({"space_group": 225})
    flat = WyckoffCrystal(1, (Orbit("Si", "a", (0.0, 0.0, 0.0)),), (3.0, 3.0, 3.0, 60.0, 60.0, 150.0))
    with pytest.raises(CrystalError, match="no cell has the angles"):
        flat.atoms()
