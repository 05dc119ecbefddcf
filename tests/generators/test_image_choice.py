"""Choosing elements for the columns of an image: against trying all of them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from ase.data import chemical_symbols

from mlcalc.crystals.coordinate_image import CoordinateImage
from mlcalc.errors import GeneratorError
from mlcalc.generators import Constraints
from mlcalc.generators._image_choice import Choice, check_fits

CODEC = CoordinateImage(("Li", "Na", "O", "F"), max_atoms=4)


def best_by_trying(logs: np.ndarray, constraints: Constraints) -> float:
    """The largest log probability of any filling that obeys."""
    names = (None, *CODEC.elements)
    allowed = {tuple(c) for c in constraints.compositions()} if constraints.formula else None
    best = -np.inf
    for kinds in product(range(5), repeat=4):
        there = [names[k] for k in kinds if k]
        if any(k and not kinds[i - 1] for i, k in enumerate(kinds) if i):
            continue  # a gap
        if not constraints.n_atoms[0] <= len(there) <= constraints.n_atoms[1]:
            continue
        species = constraints.species()
        if species and not (set(constraints.elements) <= set(there) <= set(species)):
            continue
        if allowed is not None and tuple(there.count(s) for s in species) not in allowed:
            continue
        best = max(best, float(logs[range(4), kinds].sum()))
    return best


@pytest.mark.parametrize(
    "constraints",
    [
        Constraints(n_atoms=(1, 4)),
        Constraints(n_atoms=(2, 3)),
        Constraints(elements=("Li", "O"), n_atoms=(1, 4)),
        Constraints(elements=("Na", "O", "F"), n_atoms=(3, 4)),
        Constraints(elements=("O",), chemical_system=("Li", "Na", "O"), n_atoms=(1, 4)),
        Constraints(formula="LiF", n_atoms=(1, 4)),
        Constraints(formula="Li2O", n_atoms=(1, 4)),
        Constraints(formula="LiNaOF", n_atoms=(1, 8)),
    ],
    ids=str,
)
def test_choice_is_the_likeliest_that_obeys(constraints: Constraints) -> None:
    rng = np.random.default_rng(3)
    choice = Choice(constraints, CODEC)
    for _ in range(20):
        logs = 3 * rng.normal(size=(4, 5))
        logs -= np.logaddexp.reduce(logs, axis=1, keepdims=True)
        kinds = choice.choose(logs)
        assert logs[range(4), kinds].sum() == pytest.approx(best_by_trying(logs, constraints))


def test_impossible_elements_come_out_all_the_same() -> None:
    logs = np.full((4, 5), -np.inf)
    logs[:, 1] = 0.0
    assert sorted(Choice(Constraints(formula="NaF3"), CODEC).choose(logs)) == [2, 4, 4, 4]


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        (Constraints(elements=("Fe",)), "Fe did not occur in the training"),
        (Constraints(elements=("Li",), n_atoms=(5, 8)), "at most 4 atoms, not 5"),
        (Constraints(formula="Li4O", n_atoms=(1, 8)), "at most 4 atoms; none fits"),
        (Constraints(formula="Li4O", n_atoms=(1, 4)), "no cell of 1 to 4 atoms holds whole formula units"),
        (Constraints(elements=("Li", "Na", "O"), n_atoms=(1, 2)), "no cell of 1 to 2 atoms holds one atom of each"),
    ],
)
def test_what_cannot_be_is_refused(constraints: Constraints, message: str) -> None:
    with pytest.raises(GeneratorError, match=message):
        Choice(constraints, CODEC)


def test_more_required_elements_than_atoms_are_refused() -> None:
    codec = CoordinateImage(("Li", "Na", "O", "F"), max_atoms=3)
    with pytest.raises(GeneratorError, match="at most 3 atoms; none fits"):
        Choice(Constraints(elements=codec.elements, n_atoms=(1, 8)), codec)
    assert Choice(Constraints(elements=codec.elements[:3], n_atoms=(1, 8)), codec).numbers == range(1, 4)


def test_a_system_of_many_elements_is_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty elements have 10^10 compositions of up to 20 atoms, none of which need be listed."""
    many = tuple(chemical_symbols[1:31])
    asked = Constraints(elements=("O",), chemical_system=many, n_atoms=(1, 20))
    monkeypatch.setattr(Constraints, "compositions", lambda _: pytest.fail("compositions were listed"))
    check_fits(asked)
    choice = Choice(asked, CoordinateImage(many, max_atoms=20))
    kinds = choice.choose(np.log(np.full((20, 31), 1 / 31)))
    assert 1 + many.index("O") in kinds
