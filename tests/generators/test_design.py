"""Inverse design: targets as people write them, and the search."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mlcalc.cli import app
from mlcalc.crystals import closest_pair
from mlcalc.errors import GeneratorError
from mlcalc.generators import Candidate, Constraints, read_candidates
from mlcalc.generators._image_choice import Choice
from mlcalc.generators._image_conditions import Conditions
from mlcalc.generators._image_setting import standard_setting
from mlcalc.generators._targets import check_targets, parse_targets
from mlcalc.generators.design import Designer, DesignSettings, _Search

KNOWN = Conditions(("Sr", "O"), ("heat_all", "band_gap"), (1.0, 0.5), (0.8, 0.4), (-0.4, 0.0), (4.8, 7.0))
QUICK = DesignSettings(gradient_steps=3, generations=2, population=4, rounds=1)
INF = math.inf


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("heat_all<0.2", {"heat_all": (-INF, 0.2)}),
        ("heat_all <= 0.2", {"heat_all": (-INF, 0.2)}),
        ("heat_all>-.1", {"heat_all": (-0.1, INF)}),
        ("heat_all<0.2,band_gap=1.5", {"heat_all": (-INF, 0.2), "band_gap": (1.4, 1.6)}),
        ("1<band_gap<2", {"band_gap": (1.0, 2.0)}),
        ("band_gap=1:2e0", {"band_gap": (1.0, 2.0)}),
        ("band_gap>1, band_gap<2", {"band_gap": (1.0, 2.0)}),
        ("band_gap_ev>1", {"band_gap_ev": (1.0, INF)}),
    ],
)
def test_targets_are_read(text: str, ranges: dict[str, tuple[float, float]]) -> None:
    assert parse_targets(text, KNOWN) == {name: pytest.approx(ends) for name, ends in ranges.items()}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' cannot be read; write NAME<V"),
        ("heat_all<0.2,", "'' cannot be read"),
        ("heat_all<low", "'heat_all<low' cannot be read"),
        ("0.2>heat_all", "cannot be read"),
        ("colour<3", "unknown property 'colour'; these weights know heat_all, band_gap"),
        ("colour=3", "unknown property 'colour'"),
        ("2<band_gap<1", "impossible target: band_gap above 2 and below 1"),
        ("band_gap>3,band_gap<2", "impossible target: band_gap above 3 and below 2"),
        ("heat_all<-3", "impossible target: heat_all below -3, but the training crystals have -0.4 to 4.8"),
        ("band_gap=-1", "impossible target: band_gap from -1.1 to -0.9, but"),
        ("band_gap>9", "impossible target: band_gap above 9, but"),
    ],
)
def test_targets_that_make_no_sense(text: str, message: str) -> None:
    with pytest.raises(GeneratorError, match=message):
        parse_targets(text, KNOWN)


def test_no_target_and_no_search() -> None:
    with pytest.raises(GeneratorError, match="no target"):
        check_targets({}, KNOWN)
    with pytest.raises(GeneratorError, match="a population of 4"):
        DesignSettings(population=2)


@pytest.fixture(scope="module")
def designer(vae_weights: Path) -> Designer:
    return Designer(vae_weights, QUICK, min_distance=0.3, symprec=0.0)


def design(designer: Designer, n: int, seed: int = 0, **constraints: object) -> list[Candidate]:
    obey = Constraints(**{"n_atoms": (1, 6), **constraints})  # type: ignore[arg-type]
    return list(designer.design("gap<4,heat>0.2", n, obey, seed))


def test_designs_obey_and_say_what_they_are(designer: Designer) -> None:
    found = design(designer, 6, formula="SrTiO3", n_atoms=(5, 5), volume_per_atom=(14.0, 14.5))
    for k, candidate in enumerate(found):
        atoms, details = candidate.atoms, candidate.provenance.details
        assert atoms.symbols.formula.count() == {"Sr": 1, "Ti": 1, "O": 3}
        assert 14.0 <= atoms.get_volume() / 5 <= 14.5
        assert closest_pair(atoms, 0.3) is None
        assert candidate.provenance.generator == "design"
        assert candidate.provenance.index == k
        assert details["targets"] == {"gap": [None, 4.0], "heat": [0.2, None]}
        # What is predicted is what the network reads off the crystal that came out.
        again = designer.generator.properties_of(atoms)
        assert details["predicted"] == pytest.approx(again, abs=1e-4)
        assert details["reached"] == (again["gap"] <= 4 and again["heat"] >= 0.2)
        assert details["distance"] > 0
    assert any(c.provenance.details["repeat"] for c in found)  # there are few ways to write one formula


def test_repeats_are_of_crystals_that_reached_the_target(designer: Designer) -> None:
    """Of a whole block: every repeat has its original in it, and crystals that are none have names of their own."""
    found = design(designer, 32, formula="SrTiO3", n_atoms=(5, 5), volume_per_atom=(14.0, 14.5))
    names: dict[bool, list[str]] = {True: [], False: []}
    for candidate in found:
        if candidate.provenance.details["reached"] or candidate.provenance.details["repeat"]:
            name = f"{candidate.atoms.symbols.formula:hill} {standard_setting(candidate.atoms).symbols[0]}"
            names[candidate.provenance.details["repeat"]].append(name)
    assert names[True]
    assert set(names[True]) <= set(names[False])
    assert len(set(names[False])) == len(names[False])


def test_same_seed_same_designs(designer: Designer) -> None:
    state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # type: ignore[union-attr,call-overload] # noqa: NPY002
    long, short = design(designer, 4, seed=3), design(designer, 2, seed=3)
    assert all(a.atoms == b.atoms and a.provenance == b.provenance for a, b in zip(long, short, strict=False))
    assert not any(a.atoms == b.atoms for a, b in zip(short, design(designer, 2, seed=4), strict=True))
    assert (state == np.random.get_state()[1]).all()  # type: ignore[index] # noqa: NPY002 - global state untouched
    assert torch.equal(torch_state, torch.get_rng_state())


def test_searching_helps() -> None:
    """With the weights that ship: searched crystals miss the target by less than drawn ones, and most reach it."""

    def missed(candidates: list[Candidate]) -> float:
        return float(np.mean([max(0.0, c.provenance.details["predicted"]["heat_all"] - 0.5) for c in candidates]))

    designer = Designer(None, DesignSettings(gradient_steps=30, generations=5, population=8, rounds=1))
    drawn = list(designer.generator.sample(16, Constraints(n_atoms=(1, 5)), seed=1))
    searched = list(designer.design("heat_all<0.5", 16, seed=1))
    assert missed(searched) < 0.3 * missed(drawn)
    assert sum(c.provenance.details["reached"] for c in searched) > 10


def test_distance_is_measured_in_steps_between_training_crystals(designer: Designer) -> None:
    known = designer.generator.known
    assert len(known) > 50
    assert designer.distance(known[3]) == pytest.approx(0.0, abs=1e-9)
    assert designer.distance(known[3] + 100) > 10


def test_what_designs_refuse(designer: Designer, vae_weights: Path) -> None:
    for constraints, message in (
        (Constraints(elements=("Fe",)), "Fe did not occur"),
        (Constraints(properties={"gap": (1, 2)}), "gap stand among the constraints"),
        (Constraints(n_atoms=(9, 9)), "at most 6 atoms"),
    ):
        with pytest.raises(GeneratorError, match=message):
            list(designer.design("gap<4", 1, constraints))
    hopeless = Designer(vae_weights, QUICK, min_distance=2.0, symprec=0.0)
    with pytest.raises(GeneratorError, match=r"none in 6 searches \(.*atoms too close"):
        list(hopeless.design("gap<4", 1))


def test_a_search_of_one_has_an_end(designer: Designer) -> None:
    """The last one to be searched again is a batch of one, whose spread is none."""
    obey = Constraints(n_atoms=(1, 6))
    search = _Search(designer, {"gap": (-INF, 4.0)}, obey, Choice(obey, designer.generator.codec))
    z, usual = search._downhill([np.random.default_rng(0)])
    assert math.isfinite(usual)
    assert torch.isfinite(z).all()


def test_design_command(vae_weights: Path, tmp_path: Path) -> None:
    arguments = ["design", "--weights", str(vae_weights), "--out", str(tmp_path / "d.extxyz"), "-n", "2"]
    small = ["--gradient-steps", "1", "--generations", "1", "--min-distance", "0.2", "--elements", "Ba,Nb,N"]
    done = CliRunner().invoke(app, [*arguments, *small, "--target", "gap<5"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "2 crystals in" in done.output
    assert "predicted to be in range: " in done.output
    found = list(read_candidates(tmp_path / "d.extxyz"))
    assert all(set(c.atoms.symbols) == {"Ba", "Nb", "N"} for c in found)
    with pytest.raises(GeneratorError, match="unknown property 'ga'"):
        CliRunner().invoke(app, [*arguments, "--target", "ga<5"], catch_exceptions=False)
