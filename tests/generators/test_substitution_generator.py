from __future__ import annotations

from collections import Counter
from itertools import permutations
from math import exp, log
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlcalc.crystals import closest_pair, find_space_group
from mlcalc.errors import GeneratorError
from mlcalc.generators import Candidate, Constraints, make_generator
from mlcalc.generators._prototypes import aflow_sources


def rock_salt() -> Atoms:
    return bulk("NaCl", "rocksalt", a=5.64)


def perovskite() -> Atoms:
    a = 3.9
    sites = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    return Atoms("SrTiO3", cell=[a, a, a], scaled_positions=sites, pbc=True)


def sample(n: int, seed: int = 0, prototypes: object = None, **constraints: object) -> list[Candidate]:
    generator = make_generator("substitution", prototypes=prototypes)
    return list(generator.sample(n, Constraints(**constraints), seed))  # type: ignore[arg-type]


def test_all_constraints_hold() -> None:
    allowed = (186, 194, 216, 221, 225)
    for candidate in sample(12, formula="ZnS", n_atoms=(2, 8), space_groups=allowed, volume_per_atom=(18.0, 19.0)):
        counts = candidate.atoms.symbols.formula.count()
        assert set(counts) == {"Zn", "S"}
        assert counts["Zn"] == counts["S"] <= 4
        assert 18.0 - 1e-9 <= candidate.atoms.get_volume() / len(candidate.atoms) <= 19.0 + 1e-9
        found = find_space_group(candidate.atoms)
        assert found is not None
        assert found.number in allowed
        assert found.number == candidate.provenance.found_space_group
        assert closest_pair(candidate.atoms, 0.7) is None


def test_chemical_system_with_required_elements() -> None:
    seen = set()
    for candidate in sample(15, elements=("O",), chemical_system=("Li", "Mn", "O"), n_atoms=(1, 8)):
        symbols = set(candidate.atoms.symbols)
        assert "O" in symbols
        assert symbols <= {"Li", "Mn", "O"}
        assert len(candidate.atoms) <= 8
        seen.add(frozenset(symbols))
    assert len(seen) > 1


def test_structure_is_the_prototypes() -> None:
    """One replacement in one prototype: the crystal is known, its volume from experiment."""
    (candidate,) = sample(1, formula="KBr", prototypes=[rock_salt()])
    expected = bulk("KBr", "rocksalt", a=6.60)
    assert candidate.atoms.get_volume() == pytest.approx(expected.get_volume(), rel=0.05)
    assert candidate.provenance.found_space_group == 225
    d, e = (a.get_all_distances(mic=True)[0, 1] / a.get_volume() ** (1 / 3) for a in (candidate.atoms, expected))
    assert d == pytest.approx(e, rel=1e-6)
    details = candidate.provenance.details
    assert details["prototype"] == "0 ClNa"
    assert details["replaced"] == {"Na": "K", "Cl": "Br"}
    assert details["oxidation_states"] == {"Na": 1, "Cl": -1}


@pytest.mark.parametrize(("formula", "a", "within"), [("LiF", 4.03, 0.12), ("MgO", 4.21, 0.03)])
def test_volumes_are_near_those_measured(formula: str, a: float, within: float) -> None:
    (candidate,) = sample(1, formula=formula, prototypes=[rock_salt()])
    assert candidate.atoms.get_volume() == pytest.approx(a**3 / 4, rel=within)


def test_named_formula_of_the_prototype_gives_it_back() -> None:
    (candidate,) = sample(1, formula="NaCl", prototypes=[rock_salt()])
    assert candidate.atoms.get_volume() == pytest.approx(rock_salt().get_volume())


def test_probabilities_are_those_of_the_table() -> None:
    """Draws of elements in SrTiO3 against products of pymatgen's conditional probabilities."""
    from pymatgen.analysis.structure_prediction.substitution_probability import SubstitutionProbability

    from mlcalc.generators._prototypes import Library, user_sources
    from mlcalc.generators._substitution_choices import Choices

    table = SubstitutionProbability()
    constraints = Constraints(elements=("Ba", "Zr", "O"), n_atoms=(5, 5))
    (prototype,) = Library(user_sources([perovskite()]), 0.01).fitting(constraints)
    assert prototype.states == {"Sr": 2, "Ti": 4, "O": -2}

    def chance(old: str, new: str) -> float:
        return sum(float(table.cond_prob(s, old)) for s in table.species if s.element.symbol == new)

    expected = {
        picked: chance("Sr2+", picked[0]) * chance("Ti4+", picked[1]) * chance("O2-", picked[2])
        for picked in permutations(("Ba", "Zr", "O"))
    }
    total = sum(expected.values())
    choices = Choices([prototype], constraints, ())
    rng = np.random.default_rng(1)
    drawn = [choices.draw(rng) for _ in range(4000)]
    found = Counter(tuple(choice.new[old] for old in ("Sr", "Ti", "O")) for choice in drawn)
    for picked, value in expected.items():
        share = value / total
        assert found[picked] / 4000 == pytest.approx(share, abs=4 * (share * (1 - share) / 4000) ** 0.5 + 1e-3)
    for choice in drawn[:5]:
        picked = tuple(choice.new[old] for old in ("Sr", "Ti", "O"))
        assert choice.log_probability == pytest.approx(log(expected[picked]))  # type: ignore[index]
    # Barium, which is large, where strontium was, and zirconium where titanium was.
    assert found[("Ba", "Zr", "O")] > 3000
    assert exp(max(c.log_probability for c in drawn)) < 1


def test_nothing_named_gives_neutral_crystals_that_are_new() -> None:
    for candidate in sample(12, prototypes=[rock_salt(), perovskite()]):
        details = candidate.provenance.details
        assert any(a != b for a, b in details["replaced"].items())
        charges = [details["oxidation_states"][e] for e in details["replaced"]]
        assert len(charges) in (2, 3)
        assert candidate.provenance.found_space_group in (221, 225)


def test_same_seed_same_candidates_and_fewer_are_the_first_of_more() -> None:
    prototypes = [rock_salt(), perovskite(), bulk("ZnO", "wurtzite", a=3.25, c=5.21)]
    many, few, other = (sample(n, seed=s, prototypes=prototypes) for n, s in ((8, 5), (3, 5), (8, 6)))
    assert [c.provenance for c in many[:3]] == [c.provenance for c in few]
    assert all(a.atoms == b.atoms for a, b in zip(many, few, strict=False))
    assert any(a.atoms != b.atoms for a, b in zip(many, other, strict=True))


def test_repeats_come_last_and_say_so() -> None:
    found = sample(4, formula="MgO", prototypes=[rock_salt(), bulk("ZnS", "zincblende", a=5.41)])
    assert [c.provenance.details.get("repeat", False) for c in found] == [False, False, True, True]
    volumes = {c.provenance.found_space_group: c.atoms.get_volume() for c in found[:2]}
    for candidate in found[2:]:
        group = candidate.provenance.found_space_group
        assert candidate.atoms.get_volume() == pytest.approx(volumes[group], rel=0.1)
        assert candidate.atoms.get_volume() != volumes[group]


def test_prototypes_of_aflow_are_all_there() -> None:
    sources = aflow_sources()
    assert len(sources) == 288
    names = {s.name: s for s in sources}
    spinel = next(s for name, s in names.items() if name.endswith("Spinel"))
    assert spinel.elements[0] == "O"
    assert sorted(spinel.counts) == [1, 2, 4]


def test_prototypes_from_a_file(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "mine.extxyz", [rock_salt(), perovskite()])
    (candidate,) = sample(1, formula="CsI", prototypes=tmp_path / "mine.extxyz")
    assert candidate.provenance.details["prototype"] == "mine.extxyz:0"
    assert candidate.provenance.model_hash != make_generator("substitution").model_hash


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ({"formula": "Mg3Al5O7"}, "no cell of 1 to 8 atoms"),
        ({"formula": "Mg3Al5O7", "n_atoms": (1, 30)}, "none of 2 prototypes fits Mg3Al5O7 with 1 to 30 atoms"),
        ({"formula": "MgO", "space_groups": (227,)}, "space groups 227; widen"),
        ({"elements": ("Mg", "O"), "n_atoms": (3, 8)}, "none of 2 prototypes fits Mg-O with 3 to 8"),
        ({"formula": "MgO", "band_gap_ev": (1.0, 2.0)}, "knows nothing of band_gap_ev"),
        ({"formula": "CsI", "volume_per_atom": (1.0, 2.0)}, "atoms too close: 200"),
    ],
)
def test_what_cannot_be_is_said_first(constraints: dict[str, object], message: str) -> None:
    with pytest.raises(GeneratorError, match=message):
        sample(1, prototypes=[rock_salt(), perovskite()], **constraints)


def test_bad_prototypes_are_named() -> None:
    with pytest.raises(GeneratorError, match="prototype 1 \\(H2\\) is not periodic"):
        make_generator("substitution", prototypes=[rock_salt(), Atoms("H2", positions=[(0, 0, 0), (0, 0, 1)])])
    with pytest.raises(GeneratorError, match="list of prototypes is empty"):
        make_generator("substitution", prototypes=[])
