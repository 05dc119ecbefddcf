"""How likely one element takes the place of another."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from numpy.typing import NDArray

from mlcalc.crystals.charges import electronegativity

#: Widths of the similarity where no oxidation state is known: relative radius, and Pauling's scale.
RADIUS_WIDTH, ELECTRONEGATIVITY_WIDTH = 0.1, 0.4
#: Nothing is impossible, so that every crystal which fits the constraints can be drawn.
_LEAST = 1e-9


class Replacements:
    """Conditional probabilities of elements in the place of another one.

    Where the oxidation state of what is replaced is known, they are those of Hautier et al., Inorg. Chem. 50, 656
    (2011), mined from the ICSD, summed over the states of the new element. Where it is not (elements, alloys), or is
    none of the 230 ions they know, elements are the likelier the more their covalent radius and their Pauling
    electronegativity are those of the old one (Gaussians of both).

    Args:
        elements: that may be placed.
    """

    def __init__(self, elements: Sequence[str]):
        self.elements = tuple(elements)
        self._rows: dict[tuple[str, int | None], NDArray[np.float64]] = {}

    def row(self, element: str, state: int | None) -> NDArray[np.float64]:
        """Return (elements,) weights of what replaces ``element``; over all elements they sum to about one."""
        key = (element, state)
        if key not in self._rows:
            known = None if state is None else _ions().get((element, state))
            values = known if known is not None else _similar(element)
            self._rows[key] = np.array([max(values.get(e, 0.0), _LEAST) for e in self.elements])
        return self._rows[key]


@lru_cache(maxsize=1)
def known_elements() -> tuple[str, ...]:
    """Elements of which ions are in the table, by atomic number."""
    found = {e for row in _ions().values() for e in row}
    return tuple(sorted(found, key=lambda e: atomic_numbers[e]))


@lru_cache(maxsize=1)
def _ions() -> dict[tuple[str, int], dict[str, float]]:
    """Ion → new element → probability that an ion of that element takes its place."""
    from pymatgen.analysis.structure_prediction.substitution_probability import SubstitutionProbability

    table = SubstitutionProbability()
    species = sorted(table.species, key=str)
    table_: dict[tuple[str, int], dict[str, float]] = {}
    for old in species:
        row: dict[str, float] = defaultdict(float)
        for new in species:
            row[new.element.symbol] += float(table.cond_prob(new, old))
        table_[old.element.symbol, int(old.oxi_state or 0)] = dict(row)
    return table_


@cache
def _similar(element: str) -> dict[str, float]:
    """Every element with its similarity to this one, summing to one."""
    values = {e: _similarity(element, e) for e in atomic_numbers if 0 < atomic_numbers[e] < 97}
    total = sum(values.values())
    return {e: value / total for e, value in values.items()}


def _similarity(one: str, two: str) -> float:
    a, b = (covalent_radii[atomic_numbers[e]] for e in (one, two))
    chi = electronegativity(one) - electronegativity(two)
    if one == two:
        chi = 0.0  # also of noble gases, which have none
    if math.isnan(chi):
        return 0.0
    return math.exp(-0.5 * (math.log(a / b) / RADIUS_WIDTH) ** 2 - 0.5 * (chi / ELECTRONEGATIVITY_WIDTH) ** 2)
