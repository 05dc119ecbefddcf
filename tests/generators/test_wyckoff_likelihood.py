"""The Wyckoff transformer as a probability: normalised, exact masks, and what the sampler says is what it does."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import i0e

from mlcalc.crystals import Orbit, WyckoffCrystal, canonical, wyckoff
from mlcalc.errors import GeneratorError
from mlcalc.generators import Constraints
from mlcalc.generators._wyckoff_data import collate, conditions, encode_crystal
from mlcalc.generators._wyckoff_lattice import from_shape, to_shape
from mlcalc.generators._wyckoff_likelihood import PARTS, log_likelihood
from mlcalc.generators._wyckoff_network import (
    NetworkSettings,
    WyckoffNetwork,
    coordinate_log_density,
    lattice_log_density,
)
from mlcalc.generators._wyckoff_rules import Rules, State
from mlcalc.generators._wyckoff_sampling import Sampler, _log_mass, _truncated
from mlcalc.generators._wyckoff_vocabulary import in_order, letter_names, site_tables

VOCABULARY = in_order({"Na", "Mg", "Al", "O", "Cl"})


@pytest.fixture(scope="module")
def network() -> WyckoffNetwork:
    torch.manual_seed(5)
    made = WyckoffNetwork(VOCABULARY, NetworkSettings(width=16, layers=2, heads=2, feedforward=32))
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "head" in name or "query" in name:  # far from uniform
                parameter.mul_(4.0)
    return made.eval()


def all_states(rules: Rules, number: int) -> list[list[tuple[int, int]]]:
    """Every crystal the rules allow, as lists of sites."""
    found: list[list[tuple[int, int]]] = []

    def grow(state: State, sites: list[tuple[int, int]]) -> None:
        table, end = rules.options(state)
        if end:
            found.append(sites)
        assert end or table.any(), "a dead end"
        for e, l in zip(*np.nonzero(table), strict=True):
            grow(state.plus(int(e), int(l)), [*sites, (int(e), int(l))])

    grow(State(number), [])
    return found


def brute_force(number: int, constraints: Constraints) -> set[tuple[tuple[int, int], ...]]:
    """Every set of sites that meets the constraints, by trying all of them."""
    sites = wyckoff.sites(number)
    names = letter_names(number)
    elements = [VOCABULARY.index(e) for e in constraints.species() or VOCABULARY]
    kinds = [(e, names.index(s.letter), s) for e in elements for s in sites]
    found = set()
    low, high = constraints.n_atoms
    for count in range(1, high + 1):
        for chosen in itertools.combinations_with_replacement(sorted(kinds, key=lambda k: k[:2]), count):
            fixed = [k[1] for k in chosen if not k[2].free]
            if len(fixed) > len(set(fixed)) or not low <= sum(k[2].multiplicity for k in chosen) <= high:
                continue
            amounts = Counter()
            for e, _, site in chosen:
                amounts[VOCABULARY[e]] += site.multiplicity
            if any(e not in amounts for e in constraints.elements):
                continue
            if (
                constraints.formula
                and tuple(amounts[e] for e in constraints.species()) not in constraints.compositions()
            ):
                continue
            found.add(tuple((e, l) for e, l, _ in chosen))
    return found


CASES = [
    (2, Constraints(elements=("Na", "Cl"), n_atoms=(2, 3))),
    (2, Constraints(formula="NaCl2", n_atoms=(1, 6))),
    (16, Constraints(elements=("O", "Al"), n_atoms=(3, 3))),
    (25, Constraints(formula="MgO", n_atoms=(2, 4))),
    (25, Constraints(elements=("Mg", "Na", "O"), n_atoms=(3, 4))),
    (99, Constraints(chemical_system=("Mg", "O"), n_atoms=(2, 4))),
    (115, Constraints(elements=("O",), chemical_system=("Mg", "O", "Na"), n_atoms=(1, 3))),
    (139, Constraints(formula="MgAl2", n_atoms=(3, 6))),
    (166, Constraints(formula="Al2O3", n_atoms=(5, 5))),
    (187, Constraints(n_atoms=(1, 2))),
    (221, Constraints(formula="NaMgCl3", n_atoms=(5, 5))),
    (225, Constraints(elements=("Na", "Cl"), n_atoms=(1, 4))),
    (227, Constraints(elements=("Mg",), n_atoms=(2, 6))),
]


@pytest.mark.parametrize(("number", "constraints"), CASES)
def test_masks_allow_exactly_what_can_be_completed(number: int, constraints: Constraints) -> None:
    found = all_states(Rules(constraints, VOCABULARY), number)
    assert len({tuple(s) for s in found}) == len(found)
    assert {tuple(s) for s in found} == brute_force(number, constraints)
    assert all(s == sorted(s) for s in found)


def test_groups_are_those_that_fit() -> None:
    """The same answer as the counting that knows nothing of canonical order."""
    for formula, n_atoms in (("MgAl2O4", (7, 7)), ("Na3Cl", (4, 8)), ("Al", (1, 1))):
        constraints = Constraints(formula=formula, n_atoms=n_atoms)
        expected = [any(wyckoff.compatible(g, c) for c in constraints.compositions()) for g in range(1, 231)]
        assert Rules(constraints, VOCABULARY).groups.tolist() == expected


def test_probabilities_of_all_crystals_sum_to_one_and_samples_follow_them(network: WyckoffNetwork) -> None:
    constraints = Constraints(elements=("Na", "Cl"), n_atoms=(2, 3), space_groups=(47, 221, 225))
    rules = Rules(constraints, VOCABULARY)
    free = site_tables()[2].numpy()
    expected: dict[tuple[object, ...], float] = {}
    told = conditions(len(VOCABULARY), None, None, None, 1)
    with torch.no_grad():
        start = network.body(network.condition(told)[:, None], torch.ones(1, 1, 1, dtype=torch.bool))[0]
        logits = network.group_head(start)
    groups = torch.log_softmax(logits[0, 0].double().masked_fill(~torch.from_numpy(rules.groups), -torch.inf), dim=-1)
    for number in np.flatnonzero(rules.groups) + 1:
        names = letter_names(number)
        for sites in all_states(rules, number):
            orbits = tuple(Orbit(VOCABULARY[e], names[l], (0.3,) * int(free[number - 1, l].sum())) for e, l in sites)
            lattice = (5.0, 6.0, 7.0) if number == 47 else (5.0,)
            batch = collate([encode_crystal(WyckoffCrystal(int(number), orbits, lattice), VOCABULARY, {})], 5)
            # Canonical order alone allows more than the constraints: put their masks in its place.
            state = State(int(number))
            for t, (e, l) in enumerate([*sites, (-1, -1)]):
                table, end = rules.options(state)
                batch.element_ok[0, t] = torch.tensor([*table.any(axis=1), end])
                if e >= 0:
                    batch.letter_ok[0, t] = torch.from_numpy(table[e])
                    state = state.plus(e, l)
            with torch.no_grad():
                parts = log_likelihood(network, batch, told)[0].double()
            log_probability = float(groups[number - 1] + parts[1] + parts[2])
            expected[(int(number), tuple(sites))] = math.exp(log_probability)
    assert len(expected) > 50
    assert sum(expected.values()) == pytest.approx(1.0, abs=1e-5)

    sampler = Sampler(network, rules, None, 1.0)
    n = 4000
    rngs = [np.random.default_rng([1, k]) for k in range(n)]
    drawn = sampler.draw(told.expand(n, -1), None, rngs)
    counts = Counter((d.state.group, tuple(d.sites)) for d in drawn)
    assert set(counts) <= set(expected)
    for d in drawn[:200]:
        assert math.exp(d.log_symbols) == pytest.approx(expected[(d.state.group, tuple(d.sites))], rel=1e-3)
    # Rare crystals together, so that every expected count is large enough for chi-square.
    common = [k for k, p in expected.items() if p * n >= 10]
    observed = [counts[k] for k in common]
    wanted = [expected[k] * n for k in common]
    observed, wanted = [*observed, n - sum(observed)], [*wanted, n - sum(wanted)]
    assert stats.chisquare(observed, wanted).pvalue > 1e-4


def test_sampled_log_probability_is_the_likelihood(network: WyckoffNetwork) -> None:
    """The sampler, token by token with a cache, and the training code, all at once, agree on densities."""
    constraints = Constraints(n_atoms=(1, 6), space_groups=(2, 12, 62, 139, 166, 186, 216))
    rules = Rules(constraints, VOCABULARY)
    told = conditions(len(VOCABULARY), None, None, torch.tensor([[-1.0, 0.1, 2.0]]), 1)
    drawn = Sampler(network, rules, None, 1.0).draw(
        told.expand(40, -1), None, [np.random.default_rng(k) for k in range(40)]
    )
    seen = 0
    for d in drawn:
        crystal = d.crystal(VOCABULARY)
        if crystal is None:
            continue
        batch = collate([encode_crystal(crystal, VOCABULARY, {})], len(VOCABULARY))
        with torch.no_grad():
            parts = dict(zip(PARTS, log_likelihood(network, batch, told)[0].tolist(), strict=True))
        assert d.log_numbers == pytest.approx(parts["lattice"] + parts["coordinates"], abs=2e-3)
        seen += 1
    assert seen > 20


def test_a_range_of_volumes_cuts_the_density(network: WyckoffNetwork) -> None:
    """With a range, the log-probability is larger by minus the log of the probability that the range is met without."""
    constraints = Constraints(formula="Al", n_atoms=(1, 1), space_groups=(225,))
    rules = Rules(constraints, VOCABULARY)
    told = conditions(len(VOCABULARY), None, None, None, 1)
    rngs = [np.random.default_rng(k) for k in range(3000)]
    free = Sampler(network, rules, None, 1.0).draw(told.expand(3000, -1), None, rngs)
    volumes = np.exp([d.shape[0] for d in free])
    low, high = np.quantile(volumes, [0.3, 0.5])
    sampler = Sampler(network, rules, (float(low), float(high)), 1.0)
    cut = sampler.draw(told.expand(400, -1), None, [np.random.default_rng(k) for k in range(400)])
    within = np.exp([d.shape[0] for d in cut])
    assert low <= within.min()
    assert within.max() <= high
    chosen = np.sort(volumes[(volumes >= low) & (volumes <= high)])
    assert stats.ks_2samp(within, chosen).pvalue > 1e-4
    for d in cut[:20]:
        crystal = d.crystal(VOCABULARY)
        assert crystal is not None
        batch = collate([encode_crystal(crystal, VOCABULARY, {})], len(VOCABULARY))
        with torch.no_grad():
            density = float(log_likelihood(network, batch, told)[0, PARTS.index("lattice")])
        assert d.log_numbers == pytest.approx(density - math.log(0.2), abs=0.15)  # a fifth of the samples, 3000 of them


def test_padding_and_company_change_nothing(network: WyckoffNetwork) -> None:
    rng = np.random.default_rng(0)
    crystals = [
        WyckoffCrystal(225, (Orbit("Na", "a"), Orbit("Cl", "b")), (5.6,)),
        WyckoffCrystal(62, tuple(Orbit(e, "c", tuple(rng.random(2))) for e in ("Na", "Mg", "O", "O")), (5.0, 6.0, 7.0)),
        WyckoffCrystal(1, tuple(Orbit("Cl", "a", tuple(rng.random(3))) for _ in range(5)), (5, 6, 7, 80, 85, 95)),
    ]
    items = [encode_crystal(c, VOCABULARY, {}) for c in crystals]
    told = conditions(len(VOCABULARY), None, None, None, 3)
    with torch.no_grad():
        together = log_likelihood(network, collate(items, 5), told)
        alone = torch.cat([log_likelihood(network, collate([i], 5), told[:1]) for i in items])
    assert torch.isfinite(together).all()
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_coordinate_densities_integrate_to_one(network: WyckoffNetwork) -> None:
    hidden = torch.randn(3, 16, generator=torch.Generator().manual_seed(1)) * 3
    with torch.no_grad():
        mixture = tuple(t.double() for t in network.coordinate_mixture(hidden))
    grid = torch.linspace(0, 1, 4001, dtype=torch.float64)[:-1]
    values = torch.zeros(4000, 3, 3, dtype=torch.float64)
    for axis in range(3):
        at = values.clone()
        at[:, :, axis] = grid[:, None]
        only = torch.zeros(3, 3, dtype=torch.float64)
        only[:, axis] = 1
        logs = coordinate_log_density(mixture, at, only.expand(4000, 3, 3))  # type: ignore[arg-type]
        assert logs.exp().mean(dim=0).tolist() == pytest.approx([1.0] * 3, abs=1e-6)
    # One component, against scipy.
    one = (torch.zeros(1, 1), torch.full((1, 1, 3), 0.2), torch.full((1, 1, 3), math.log(30.0)))
    log = coordinate_log_density(one, torch.tensor([[0.27, 0.9, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]]))
    theirs = stats.vonmises(30.0, loc=2 * np.pi * 0.2).logpdf(2 * np.pi * 0.27) + math.log(2 * np.pi)
    assert float(log) == pytest.approx(theirs, abs=1e-4)
    assert i0e(30.0) == pytest.approx(float(torch.special.i0e(torch.tensor(30.0))), rel=1e-6)


def test_lattice_density_is_a_mixture_of_gaussians() -> None:
    weights = torch.log(torch.tensor([[0.3, 0.7]]))
    means, log_widths = torch.tensor([[[3.0, 0, 0.1, 0, 0, 0], [2.0, 0, 0.5, 0, 0, 0]]]), torch.full((1, 2, 6), -1.0)
    free = torch.tensor([[1.0, 0, 1.0, 0, 0, 0]])
    value = torch.tensor([[2.7, 9.0, 0.3, 9.0, 9.0, 9.0]])
    s = math.exp(-1.0)
    expected = 0.3 * stats.norm(3, s).pdf(2.7) * stats.norm(0.1, s).pdf(0.3)
    expected += 0.7 * stats.norm(2, s).pdf(2.7) * stats.norm(0.5, s).pdf(0.3)
    assert float(lattice_log_density((weights, means, log_widths), value, free)) == pytest.approx(
        math.log(expected), abs=1e-5
    )


def test_truncated_normal_far_out_in_the_tails() -> None:
    rng = np.random.default_rng(0)
    for low, high in ((-1.0, 0.5), (3.0, 3.2), (-9.0, -8.0), (20.0, 20.5), (-40.0, -39.9)):
        log_mass = float(_log_mass(np.array([low]), np.array([high]))[0])
        side = stats.norm.logcdf if low < 0 else stats.norm.logsf
        inner, outer = sorted((side(low), side(high)))
        assert log_mass == pytest.approx(outer + math.log1p(-math.exp(inner - outer)), rel=1e-6)
        drawn = np.array([_truncated(low, high, log_mass, rng) for _ in range(800)])
        assert low <= drawn.min()
        assert drawn.max() <= high
        assert stats.kstest(drawn, stats.truncnorm(low, high).cdf).pvalue > 1e-4


@pytest.mark.parametrize("number", [1, 2, 12, 62, 139, 166, 194, 227])
def test_lattice_shapes_and_back(number: int) -> None:
    cell = {1: (5.0, 6.0, 7.0, 80.0, 95.0, 100.0), 2: (5.0, 6.0, 7.0, 80.0, 95.0, 100.0), 12: (5.0, 6.0, 7.0, 104.0)}
    lattice = cell.get(number, {62: (5.0, 6.0, 7.0), 227: (8.1,)}.get(number, (4.0, 9.0)))
    shape = to_shape(number, lattice, 10)
    assert from_shape(number, shape, 10) == pytest.approx(lattice)
    atoms = WyckoffCrystal(number, (Orbit("Si", "a", (0.0,) * wyckoff.sites(number)[-1].free),), lattice).atoms()
    assert math.exp(shape[0]) * 10 == pytest.approx(atoms.get_volume())


def test_unknown_elements_and_impossible_wishes() -> None:
    with pytest.raises(GeneratorError, match="Xe did not occur"):
        Rules(Constraints(elements=("Xe",)), VOCABULARY)
    with pytest.raises(GeneratorError, match="fits the Wyckoff"):
        Rules(Constraints(formula="NaCl", n_atoms=(1, 2), space_groups=(227,)), VOCABULARY)
    with pytest.raises(GeneratorError, match="none of the elements"):
        encode_crystal(WyckoffCrystal(225, (Orbit("Xe", "a"),), (5.0,)), VOCABULARY, {})


def test_canonical_sites_are_in_the_order_of_the_masks() -> None:
    """Canonical descriptions have finite likelihood: no mask forbids them."""
    rng = np.random.default_rng(1)
    for number in (2, 14, 62, 139, 166, 225):
        sites = [s for s in wyckoff.sites(number) if s.free or s.letter < "c"]
        orbits = [Orbit(VOCABULARY[k % 5], s.letter, tuple(rng.random(s.free))) for k, s in enumerate(sites[:5])]
        cell = {2: (5.0, 6.0, 7.0, 80.0, 75.0, 70.0), 14: (5.0, 6.0, 7.0, 104.0), 62: (5.0, 6.0, 7.0), 225: (9.0,)}
        crystal = canonical(WyckoffCrystal(number, tuple(orbits), cell.get(number, (5.0, 9.0))))
        batch = collate([encode_crystal(crystal, VOCABULARY, {})], 5)
        for t, (e, l) in enumerate(zip(batch.element[0], batch.letter[0], strict=True)):
            assert batch.element_ok[0, t, e]
            assert batch.letter_ok[0, t, l]
        assert replace(batch).element_ok[0, len(orbits), -1]
