"""The generator `wyckoff` with the weights that ship."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.data import chemical_symbols

from mlcalc.crystals import WyckoffCrystal, closest_pair, find_space_group, fingerprint
from mlcalc.crystals.io import read_crystals
from mlcalc.errors import GeneratorError
from mlcalc.generators import Candidate, Constraints, make_generator, read_candidates, write_candidates
from mlcalc.generators._known import KnownFingerprints
from mlcalc.generators._weights import find_weights
from mlcalc.generators._wyckoff_weights import load_network
from mlcalc.generators.wyckoff import WyckoffGenerator

SHIPPED = find_weights("wyckoff")


def sample(n: int, seed: int = 0, options: dict | None = None, **constraints: object) -> list[Candidate]:
    return list(make_generator("wyckoff", **(options or {})).sample(n, Constraints(**constraints), seed))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def free_samples() -> list[Candidate]:
    return sample(256, seed=4, n_atoms=(1, 20))


def test_weights_are_small_and_have_a_card() -> None:
    assert SHIPPED.stat().st_size < 5_000_000
    card = SHIPPED.with_suffix(".md").read_text(encoding="utf-8")
    loaded = load_network(SHIPPED)
    assert loaded.model_hash in card
    assert loaded.facts["licence"] in card
    assert len(loaded.network.elements) > 80


def test_hardly_any_sample_is_without_symmetry(free_samples: list[Candidate]) -> None:
    plain = sum(c.provenance.found_space_group in (None, 1) for c in free_samples)
    assert plain / len(free_samples) < 0.04
    assert len({c.provenance.found_space_group for c in free_samples}) > 25
    assert len({c.atoms.symbols.get_chemical_formula() for c in free_samples}) > 200


def test_samples_hold_what_their_provenance_says(free_samples: list[Candidate]) -> None:
    raised = 0
    for candidate in free_samples[:100]:
        atoms, p = candidate.atoms, candidate.provenance
        found = find_space_group(atoms)
        assert (found.number if found else None) == p.found_space_group
        raised += p.found_space_group != p.requested_space_group
        assert closest_pair(atoms, 0.7) is None
        assert 1 <= len(atoms) <= 20
        assert atoms.cell.handedness == 1
        assert p.log_probability is not None
        assert math.isfinite(p.log_probability)
        assert p.model_hash == load_network(SHIPPED).model_hash
        crystal = WyckoffCrystal.from_dict(p.details["wyckoff"])
        assert crystal.space_group == p.requested_space_group
        assert crystal.counts() == atoms.symbols.formula.count()
        assert crystal.atoms().get_volume() == pytest.approx(atoms.get_volume())
    assert raised < 25


def test_formula_and_volume_hold() -> None:
    for candidate in sample(64, formula="MgO2", n_atoms=(3, 12), volume_per_atom=(9.0, 9.5)):
        atoms = candidate.atoms
        units, rest = divmod(len(atoms), 3)
        assert rest == 0
        assert 1 <= units <= 4
        assert atoms.symbols.formula.count() == {"Mg": units, "O": 2 * units}
        assert 9.0 <= atoms.get_volume() / len(atoms) <= 9.5


def test_elements_and_groups_hold() -> None:
    allowed = (12, 62, 166, 225)
    for candidate in sample(64, elements=("Li", "O"), n_atoms=(3, 9), space_groups=allowed):
        assert set(candidate.atoms.symbols) == {"Li", "O"}
        assert 3 <= len(candidate.atoms) <= 9
        assert candidate.provenance.found_space_group in allowed


def test_chemical_system_may_be_used_in_part() -> None:
    drawn = sample(64, elements=("O",), chemical_system=("Li", "Mn", "O"), n_atoms=(2, 10))
    present = [frozenset(c.atoms.symbols) for c in drawn]
    assert all("O" in p and p <= {"Li", "Mn", "O"} for p in present)
    assert len(set(present)) >= 3


def test_an_unusual_formula_is_met_all_the_same() -> None:
    """Masks alone lead to what the model would never say by itself."""
    for candidate in sample(8, formula="Xe3Al2Mg", n_atoms=(6, 6), volume_per_atom=(30.0, 60.0)):
        assert candidate.atoms.symbols.formula.count() == {"Xe": 3, "Al": 2, "Mg": 1}


def test_same_seed_same_candidates_whatever_the_number() -> None:
    state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # type: ignore[union-attr,call-overload] # noqa: NPY002
    long, short = sample(70, seed=7, elements=("Si", "O")), sample(5, seed=7, elements=("Si", "O"))
    assert all(a.atoms == b.atoms and a.provenance == b.provenance for a, b in zip(long, short, strict=False))
    other = sample(5, seed=8, elements=("Si", "O"))
    assert not any(a.atoms == b.atoms for a, b in zip(short, other, strict=True))
    assert [c.provenance.index for c in long] == list(range(70))
    assert (state == np.random.get_state()[1]).all()  # type: ignore[index] # noqa: NPY002 - global state untouched
    assert torch.equal(torch_state, torch.get_rng_state())


def test_targets_move_the_samples() -> None:
    """Wide gaps are found where there are halides and oxides, none in metals."""
    anions = {"F", "Cl", "Br", "I", "O", "S", "N"}
    wide = sample(64, n_atoms=(1, 12), band_gap_ev=(4.0, 6.0))
    none = sample(64, n_atoms=(1, 12), band_gap_ev=(0.0, 0.0), formation_energy_ev_per_atom=(-0.3, 0.0))
    share = [sum(bool(set(c.atoms.symbols) & anions) for c in some) / 64 for some in (wide, none)]
    assert share[0] > 0.85
    assert share[1] < 0.35
    assert all(4.0 <= c.provenance.details["band_gap_ev"] <= 6.0 for c in wide)


def test_stable_crystals_are_the_aim_unless_told_otherwise() -> None:
    name = "energy_above_hull_ev_per_atom"
    default, same = sample(8, elements=("Mg", "O")), sample(8, elements=("Mg", "O"), **{name: (0.0, 0.0)})
    assert all(c.provenance.details[name] == 0.0 for c in default)
    assert all(a.atoms == b.atoms for a, b in zip(default, same, strict=True))
    other = sample(8, elements=("Mg", "O"), options={"energy_above_hull": None})
    assert not any(name in c.provenance.details for c in other)
    assert not all(a.atoms == b.atoms for a, b in zip(default, other, strict=True))
    wished = sample(8, elements=("Mg", "O"), **{name: (0.05, 0.08)})
    assert all(0.05 <= c.provenance.details[name] <= 0.08 for c in wished)


def test_known_crystals_are_drawn_again_where_the_choice_is_free() -> None:
    """With a memory that holds the first candidate, this one becomes another, and the others stay."""
    constraints = Constraints(n_atoms=(1, 6))
    with_all = list(WyckoffGenerator(known=True).sample(16, constraints, 11))
    generator = WyckoffGenerator()
    generator._loaded = replace(generator._loaded, known=KnownFingerprints([fingerprint(with_all[0].atoms, 0.1)]))
    drawn = list(generator.sample(16, constraints, 11))
    assert drawn[0].atoms != with_all[0].atoms
    assert drawn[0].provenance.details["rejected"] > 0
    prints = [fingerprint(c.atoms, 0.1) for c in drawn]
    assert len(set(prints)) == 16
    assert sum(a.atoms == b.atoms for a, b in zip(drawn, with_all, strict=True)) >= 10
    named = list(generator.sample(1, Constraints(formula="NaCl", n_atoms=(2, 2), space_groups=(225,)), 1))
    generator._loaded = replace(generator._loaded, known=KnownFingerprints([fingerprint(named[0].atoms, 0.1)]))
    again = list(generator.sample(1, Constraints(formula="NaCl", n_atoms=(2, 2), space_groups=(225,)), 1))
    assert again[0].atoms == named[0].atoms  # asked for by name, it may come


@pytest.mark.parametrize("attempts", [1, 4])
def test_a_known_crystal_that_comes_all_the_same_says_so(attempts: int) -> None:
    """There is hardly more than one way to draw it, so that half of the attempts give nothing new."""
    salt = Constraints(formula="NaCl", n_atoms=(2, 2), space_groups=(225,))
    _, second = WyckoffGenerator(attempts=attempts, known=False, min_distance=0.3).sample(2, salt, 1)
    assert second.provenance.details["known"] is True
    assert second.provenance.details["rejected"] >= attempts // 2
    assert not load_network(SHIPPED).known.copy().add(second.atoms)
    free = WyckoffGenerator(known=True).sample(2, salt, 1)
    assert not any("known" in c.provenance.details for c in free)


def test_the_training_data_is_known_to_the_weights(data_folder: Path) -> None:
    known = load_network(SHIPPED).known.copy()
    crystals = read_crystals(data_folder / "crystals" / "mp_crystals_train.jsonl.gz")[::400]
    assert not any(known.add(item.atoms) for item in crystals)
    assert known.add(bulk("XeGa", "cesiumchloride", a=4.0))


def test_cold_draws_are_the_likeliest() -> None:
    """Symbols without any choice left, then numbers too; each temperature is of its own part alone."""
    cold = sample(12, formula="TiO2", n_atoms=(3, 12), options={"temperature": 1e-3})
    assert len({(c.provenance.requested_space_group, len(c.atoms)) for c in cold}) == 1
    volumes = [c.atoms.get_volume() / len(c.atoms) for c in cold]
    assert np.std(volumes) > 0.1
    frozen = sample(12, formula="TiO2", n_atoms=(3, 12), options={"temperature": 1e-3, "geometry_temperature": 1e-6})
    assert np.std([c.atoms.get_volume() / len(c.atoms) for c in frozen]) < 0.02
    assert all(c.provenance.log_probability > d.provenance.log_probability for c, d in zip(frozen, cold, strict=True))  # type: ignore[operator]
    with pytest.raises(GeneratorError, match="temperature must be a positive number"):
        make_generator("wyckoff", temperature=0.0)


def test_candidates_survive_files(free_samples: list[Candidate], tmp_path: Path) -> None:
    write_candidates(tmp_path / "c.extxyz", free_samples[:20])
    back = list(read_candidates(tmp_path / "c.extxyz"))
    assert [c.provenance for c in back] == [c.provenance for c in free_samples[:20]]


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ({"formula": "Si3O", "n_atoms": (1, 3)}, "no cell of 1 to 3 atoms"),
        ({"elements": ("Na", "Cl", "K"), "space_groups": (225,), "n_atoms": (3, 3)}, "fits the Wyckoff positions"),
        ({"elements": ("Fm",)}, "Fm did not occur in the training"),
        ({"elements": ("Li",), "chemical_system": ("Na", "O")}, "Li must be present, but the chemical system Na-O"),
        ({"chemical_system": ("Na", "Na")}, "twice"),
        ({"band_gap_ev": (3.0, 1.0)}, "impossible range of band_gap_ev"),
    ],
)
def test_impossible_constraints_are_one_clear_error(constraints: dict, message: str) -> None:
    with pytest.raises(GeneratorError, match=message):
        sample(1, **constraints)


def test_gives_up_and_says_why() -> None:
    with pytest.raises(GeneratorError, match=r"no crystal in 3 attempts.*too close"):
        sample(1, options={"attempts": 3}, elements=("Si",), volume_per_atom=(1.0, 1.5))
    with pytest.raises(GeneratorError, match="attempts"):
        make_generator("wyckoff", attempts=0)
    # One atom in P432 always comes out as Pm-3m.
    with pytest.raises(GeneratorError, match="space group that is not allowed"):
        sample(1, options={"attempts": 3}, elements=("Si",), n_atoms=(1, 1), space_groups=(207,))


def test_random_search_refuses_targets_and_takes_chemical_systems() -> None:
    random = make_generator("random")
    with pytest.raises(GeneratorError, match="knows nothing of band_gap_ev"):
        random.sample(1, Constraints(elements=("Si",), band_gap_ev=(1.0, 2.0)), 0)
    system = Constraints(elements=("O",), chemical_system=("Mg", "O"), n_atoms=(2, 4))
    assert system.species() == ("O", "Mg")
    assert sorted(system.compositions()) == [(1, 1), (1, 2), (1, 3), (2, 0), (2, 1), (2, 2), (3, 0), (3, 1), (4, 0)]
    present = {frozenset(c.atoms.symbols) for c in random.sample(40, system, 0)}
    assert present == {frozenset({"O"}), frozenset({"Mg", "O"})}
    assert all(s in chemical_symbols for s in make_generator("wyckoff").elements)  # type: ignore[attr-defined]
