from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest
from ase import Atoms
from ase.formula import Formula

from mlcalc.crystals import closest_pair
from mlcalc.errors import GeneratorError
from mlcalc.generators import Candidate, Constraints, make_generator


def sample(n: int, seed: int = 0, **constraints: object) -> list[Candidate]:
    return list(make_generator("random").sample(n, Constraints(**constraints), seed))  # type: ignore[arg-type]


def same(one: Atoms, two: Atoms) -> bool:
    return one == two  # ASE compares numbers, positions, cell and pbc exactly


def test_hard_constraints_hold() -> None:
    for candidate in sample(60, formula="MgO2", n_atoms=(3, 12), volume_per_atom=(9.0, 14.0)):
        atoms = candidate.atoms
        units, rest = divmod(len(atoms), 3)
        assert rest == 0
        assert 1 <= units <= 4
        assert atoms.symbols.formula.count() == {"Mg": units, "O": 2 * units}
        assert 9.0 - 1e-9 <= atoms.get_volume() / len(atoms) <= 14.0 + 1e-9
        assert closest_pair(atoms, 0.85) is None
        assert atoms.pbc.all()
        assert atoms.cell.handedness == 1


def test_space_groups_asked_for_are_found() -> None:
    import spglib

    allowed = (2, 62, 166, 194, 225, 227)
    seen = set()
    for candidate in sample(40, elements=("Si",), n_atoms=(2, 8), space_groups=allowed):
        a = candidate.atoms
        dataset = spglib.get_symmetry_dataset((a.cell.array, a.get_scaled_positions(), a.numbers), symprec=1e-3)
        assert dataset.number == candidate.provenance.found_space_group
        assert dataset.number in allowed
        seen.add(dataset.number)
    assert len(seen) >= 4


def test_symmetry_drawn_is_a_symmetry_of_the_crystal() -> None:
    """Where special positions raise the symmetry, the order of the point group grows by a whole factor."""
    from spglib import get_symmetry_dataset

    from mlcalc.crystals import wyckoff

    raised = 0
    for candidate in sample(60, seed=3, elements=("Si", "C"), n_atoms=(2, 8)):
        a, p = candidate.atoms, candidate.provenance
        assert p.requested_space_group is not None
        dataset = get_symmetry_dataset((a.cell.array, a.get_scaled_positions(), a.numbers), symprec=1e-3)
        found = len({rotation.tobytes() for rotation in dataset.rotations})
        general = wyckoff.sites(p.requested_space_group)[0].multiplicity
        assert found % general == 0, p
        raised += found > general
    assert 0 < raised < 60


def test_space_groups_are_drawn_uniformly() -> None:
    """Chi-square over the groups that can hold two to four silicon atoms; diamond's is no favourite."""
    from mlcalc.generators.random import _draw_group

    compositions = [(2,), (3,), (4,)]
    groups = list(range(1, 231))
    rng = np.random.default_rng(5)
    from mlcalc.crystals.wyckoff import compatible

    possible = [g for g in groups if any(compatible(g, c) for c in compositions)]
    draws = Counter(_draw_group(groups, compositions, rng)[0] for _ in range(100 * len(possible)))
    assert set(draws) == set(possible)
    chi_square = sum((draws[g] - 100) ** 2 / 100 for g in possible)
    degrees = len(possible) - 1
    assert abs(chi_square - degrees) < 5 * np.sqrt(2 * degrees)


def test_same_seed_same_candidates_whatever_the_number() -> None:
    state = np.random.get_state()[1].copy()  # type: ignore[union-attr,call-overload] # noqa: NPY002
    long, short = sample(12, seed=7, elements=("Si",)), sample(5, seed=7, elements=("Si",))
    assert all(same(a.atoms, b.atoms) and a.provenance == b.provenance for a, b in zip(long, short, strict=False))
    other = sample(5, seed=8, elements=("Si",))
    assert not any(same(a.atoms, b.atoms) for a, b in zip(short, other, strict=True))
    assert (state == np.random.get_state()[1]).all()  # type: ignore[index] # noqa: NPY002 - global state untouched


def test_many_groups_and_sizes_appear() -> None:
    found = sample(60, elements=("Si",))
    assert len({c.provenance.requested_space_group for c in found}) > 30
    assert {len(c.atoms) for c in found} >= {1, 2, 4, 6, 8}
    assert all(1 <= len(c.atoms) <= 8 for c in found)


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ({"formula": "Si3O", "n_atoms": (1, 3)}, "no cell of 1 to 3 atoms"),
        ({"elements": ("Si",), "space_groups": (227,), "n_atoms": (1, 1)}, "fits the Wyckoff positions"),
        ({"elements": ("Na", "Cl", "K"), "space_groups": (225,), "n_atoms": (3, 3)}, "fits the Wyckoff positions"),
        ({"elements": ("Qq",)}, "not a chemical element"),
        ({"formula": "Na(Cl"}, "not a chemical formula"),
        ({"elements": ("Si",), "n_atoms": (4, 2)}, "1 <= 4 <= 2"),
        ({"elements": ("Si",), "space_groups": (0,)}, "1 to 230"),
        ({"elements": ("Si",), "volume_per_atom": (-1.0, 2.0)}, "volumes per atom"),
        ({"elements": ("Si", "Si")}, "twice"),
        ({"elements": ("Si",), "formula": "SiO2"}, "exactly the elements"),
        ({}, "neither elements nor a formula"),
    ],
)
def test_impossible_constraints_are_one_clear_error(constraints: dict, message: str) -> None:
    with pytest.raises(GeneratorError, match=message):
        sample(1, **constraints)


def test_gives_up_and_says_why() -> None:
    generator = make_generator("random", geometries=5, choices=4)
    start = time.perf_counter()
    with pytest.raises(GeneratorError, match=r"no crystal of Si in 20 attempts over 4 choices.*atoms too close"):
        list(generator.sample(1, Constraints(elements=("Si",), volume_per_atom=(3.0, 4.0)), seed=0))
    assert time.perf_counter() - start < 10
    # One atom in P432 always comes out as Pm-3m.
    with pytest.raises(GeneratorError, match="space group that is not allowed"):
        list(generator.sample(1, Constraints(elements=("Si",), n_atoms=(1, 1), space_groups=(207,)), seed=0))
    with pytest.raises(GeneratorError, match="unknown generator 'wishful'"):
        make_generator("wishful")


def test_compositions_of_a_chemical_system() -> None:
    found = Constraints(elements=("Li", "O"), n_atoms=(2, 4)).compositions()
    assert sorted(found) == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (3, 1)]
    assert Constraints(formula="Li2O2", n_atoms=(1, 4)).compositions() == [(1, 1), (2, 2)]
    assert Formula("Li2O2").reduce()[0].count() == {"Li": 1, "O": 1}
