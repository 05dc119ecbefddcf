"""Oxidation states that make a composition neutral, and whether there are any."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache, lru_cache
from itertools import product

from ase import Atoms
from ase.formula import Formula
from pymatgen.core import Element

# More combinations than this are not searched: no composition of five known elements has as many.
_MOST = 100_000


def oxidation_states(composition: Mapping[str, int]) -> dict[str, int] | None:
    """Return one oxidation state for each element so that the whole is neutral, None if there are none.

    States are those of pymatgen's tables (observed in the ICSD, or common). No cation may be more electronegative
    (Pauling) than an anion. Of several solutions the one with the fewest uncommon states is taken, then the one with
    the smallest charges.

    Args:
        composition: element → number of atoms; at least two elements, or there are none.
    """
    symbols = tuple(sorted(composition))
    return _states(symbols, tuple(int(composition[s]) for s in symbols))


def is_charge_balanced(atoms: Atoms) -> bool:
    """Return whether a composition makes chemical sense, by the rule that SMACT made popular.

    True for elements, for compositions of metals alone, and where ``oxidation_states`` finds a solution. One state for
    each element: mixed valence (Fe3O4), peroxides and many intermetallics with metalloids count as unbalanced, and so
    do about one in five known crystals: compare with what a set of them gets.
    """
    composition = atoms.symbols.formula.count()
    if len(composition) == 1 or all(Element(symbol).is_metal for symbol in composition):
        return True
    return oxidation_states(Formula(str(atoms.symbols)).reduce()[0].count()) is not None


@lru_cache(maxsize=100_000)
def _states(symbols: tuple[str, ...], counts: tuple[int, ...]) -> dict[str, int] | None:
    if len(symbols) < 2:
        return None
    choices = [_possible(symbol) for symbol in symbols]
    size = 1
    for choice in choices:
        size *= len(choice)
    if not 0 < size <= _MOST:
        return None
    best: tuple[tuple[int, int], tuple[int, ...]] | None = None
    for states in product(*choices):
        if sum(n * q for n, q in zip(counts, states, strict=True)) != 0 or not _ordered(symbols, states):
            continue
        uncommon = sum(q not in Element(s).common_oxidation_states for s, q in zip(symbols, states, strict=True))
        rank = (uncommon, sum(n * abs(q) for n, q in zip(counts, states, strict=True)))
        if best is None or (rank, states) < best:
            best = (rank, states)
    return None if best is None else dict(zip(symbols, best[1], strict=True))


def _ordered(symbols: tuple[str, ...], states: tuple[int, ...]) -> bool:
    """Return whether every cation is at most as electronegative as every anion."""
    cations = [electronegativity(s) for s, q in zip(symbols, states, strict=True) if q > 0]
    anions = [electronegativity(s) for s, q in zip(symbols, states, strict=True) if q < 0]
    return not cations or not anions or max(cations) <= min(anions)


@cache
def _possible(symbol: str) -> tuple[int, ...]:
    element = Element(symbol)
    return tuple(sorted({*element.icsd_oxidation_states, *element.common_oxidation_states} - {0}))


@cache
def electronegativity(symbol: str) -> float:
    """Return Pauling's electronegativity; NaN for elements that have none (He, Ar, …)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns of each such element
        return float(Element(symbol).X)
