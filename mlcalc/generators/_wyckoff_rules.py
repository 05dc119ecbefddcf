"""Which sites may come next so that every hard constraint can still be met: exact, for crystals in canonical order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mlcalc.crystals import wyckoff
from mlcalc.errors import GeneratorError
from mlcalc.generators._wyckoff_data import letters_in_order
from mlcalc.generators._wyckoff_vocabulary import LETTERS, letter_names, site_tables
from mlcalc.generators.base import Constraints


@dataclass(frozen=True)
class State:
    """A crystal of which some sites are chosen.

    Attributes:
        group: space group number.
        used: positions without freedom that are occupied, by index of letter.
        counts: atoms of each element so far, as (element, atoms), in canonical order; the last one may get more.
        last: index of the letter of the last site, -1 at the start.
    """

    group: int
    used: frozenset[int] = frozenset()
    counts: tuple[tuple[int, int], ...] = ()
    last: int = -1

    @property
    def atoms(self) -> int:
        """Atoms so far."""
        return sum(c for _, c in self.counts)

    def plus(self, element: int, letter: int) -> State:
        """Return the state with one more site."""
        multiplicity, free = _sites(self.group)
        used = self.used if free[letter] else self.used | {letter}
        if self.counts and self.counts[-1][0] == element:
            counts = (*self.counts[:-1], (element, self.counts[-1][1] + multiplicity[letter]))
        else:
            counts = (*self.counts, (element, multiplicity[letter]))
        return State(self.group, used, counts, letter)


@lru_cache(maxsize=230)
def _sites(number: int) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Multiplicity and freedom of each letter of a group."""
    n = len(letter_names(number))
    _, multiplicity, free, _ = site_tables()
    return tuple(multiplicity[number - 1, :n].tolist()), tuple(free[number - 1, :n].any(dim=1).tolist())


@lru_cache(maxsize=100_000)
def _most_sites(fixed: tuple[int, ...], free: tuple[int, ...], most: int) -> tuple[int, ...]:
    """Largest number of sites with exactly 0 … ``most`` atoms; -1 where none has so many."""
    best = [0] + [-1] * most
    for multiplicity in free:
        for total in range(multiplicity, most + 1):
            if best[total - multiplicity] >= 0:
                best[total] = max(best[total], best[total - multiplicity] + 1)
    for multiplicity in fixed:
        for total in range(most, multiplicity - 1, -1):
            if best[total - multiplicity] >= 0:
                best[total] = max(best[total], best[total - multiplicity] + 1)
    return tuple(best)


def _left(state: State, restricted: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Multiplicities of the fixed and of the free positions that are left, all or those that may follow the last."""
    multiplicity, free = _sites(state.group)
    start = state.last if restricted else -1
    fixed = [m for k, m in enumerate(multiplicity) if not free[k] and k > start and k not in state.used]
    open_ended = {m for k, m in enumerate(multiplicity) if free[k] and k >= start}
    return tuple(sorted(fixed)), tuple(sorted(open_ended))


@lru_cache(maxsize=200_000)
def _fill_first(
    number: int,
    missing: int,
    fixed: tuple[int, ...],
    free: tuple[int, ...],
    stock: tuple[int, ...],
    later: tuple[int, ...],
) -> bool:
    """Whether ``missing`` atoms fit on some of the positions given, and ``later`` ones on what is left."""
    if not fixed:
        return _most_sites((), free, missing)[missing] >= 0 and wyckoff.reachable(number, later, stock)
    multiplicity, count = fixed[0], fixed.count(fixed[0])
    for uses in range(min(count, missing // multiplicity) + 1):
        left = wyckoff.without(number, stock, multiplicity, uses)
        if _fill_first(number, missing - uses * multiplicity, fixed[count:], free, left, later):
            return True
    return False


class Rules:
    """Masks for one set of constraints.

    Args:
        constraints: what must hold.
        vocabulary: elements of the model, in canonical order.

    Raises:
        GeneratorError: an element the model does not know, or nothing fits.
    """

    def __init__(self, constraints: Constraints, vocabulary: tuple[str, ...]) -> None:
        index = {symbol: k for k, symbol in enumerate(vocabulary)}
        species = constraints.species()
        unknown = [s for s in species if s not in index]
        if unknown:
            raise GeneratorError(
                f"{' '.join(unknown)} did not occur in the training of this model, which knows {' '.join(vocabulary)}"
            )
        self.low, self.high = constraints.n_atoms
        self.size = len(vocabulary)
        self.allowed = sorted(index[s] for s in species) or list(range(self.size))
        self.required = sorted(index[s] for s in (species if constraints.formula else constraints.elements))
        #: With a formula: atoms of each element, in canonical order, for every allowed number of formula units.
        self.totals: list[tuple[int, ...]] | None = None
        if constraints.formula:
            order = sorted(range(len(species)), key=lambda k: index[species[k]])
            self.totals = [tuple(c[k] for k in order) for c in constraints.compositions()]
        groups = constraints.space_groups or tuple(range(1, 231))
        self.groups = np.zeros(230, dtype=bool)
        for number in groups:
            self.groups[number - 1] = self._possible(State(number))
        if not self.groups.any():
            what = "-".join(species) if species else "anything"
            where = f"space groups {', '.join(map(str, groups))}" if constraints.space_groups else "any space group"
            raise GeneratorError(
                f"no composition of {what} with {self.low} to {self.high} atoms in the primitive cell fits the Wyckoff "
                f"positions of {where}; widen n_atoms or allow other space groups"
            )
        self._cache: dict[State, tuple[np.ndarray, bool]] = {}

    def options(self, state: State) -> tuple[np.ndarray, bool]:
        """Return (elements, 27) which sites may come next, and whether the crystal may end here."""
        if state not in self._cache:
            if len(self._cache) > 50_000:
                self._cache.clear()
            self._cache[state] = self._options(state)
        return self._cache[state]

    def _options(self, state: State) -> tuple[np.ndarray, bool]:
        table = np.zeros((self.size, LETTERS), dtype=bool)
        multiplicity, free = _sites(state.group)
        exists, freedom = np.zeros(LETTERS, dtype=bool), np.zeros(LETTERS, dtype=bool)
        exists[: len(free)], freedom[: len(free)] = True, free
        used = np.zeros(LETTERS, dtype=bool)
        used[list(state.used)] = True
        current = state.counts[-1][0] if state.counts else -1
        missing = [e for e in self.required if e > current]
        answers: dict[tuple[object, ...], np.ndarray] = {}
        for element in self.allowed:
            if element < current or (missing and element > missing[0]):
                continue
            same = element == current
            # Without a formula, later elements differ only in what is required and whether any may follow.
            key = (same, element in missing, element == self.allowed[-1], self.totals is not None and element)
            if key not in answers:
                row = letters_in_order(exists, freedom, used, same, state.last)
                for letter in np.flatnonzero(row):
                    fits = state.atoms + multiplicity[letter] <= self.high
                    row[letter] = fits and self._possible(state.plus(element, int(letter)))
                answers[key] = row
            table[element] = answers[key]
        return table, bool(state.counts) and self._complete(state, missing)

    def _complete(self, state: State, missing: list[int]) -> bool:
        if self.totals is not None:
            return not missing and tuple(c for _, c in state.counts) in self.totals
        return not missing and self.low <= state.atoms <= self.high

    def _possible(self, state: State) -> bool:
        """Whether the crystal can be completed."""
        current = state.counts[-1][0] if state.counts else -1
        if self.totals is not None:
            return any(self._completes(state, total) for total in self.totals)
        missing = sum(1 for e in self.required if e > current)
        # A later element may take any site that this one may, so that the order restricts only where none can follow.
        fixed, free = _left(state, restricted=current >= self.allowed[-1])
        most = self.high - state.atoms
        if most < 0:
            return False
        sites = _most_sites(fixed, free, most)
        least = max(missing, 0 if state.counts else 1)
        return any(sites[total] >= least for total in range(max(0, self.low - state.atoms), most + 1))

    def _completes(self, state: State, total: tuple[int, ...]) -> bool:
        mine = [c for _, c in state.counts]
        if mine[:-1] != list(total[: len(mine) - 1]) if mine else False:
            return False
        done = len(mine)
        rest = total[done - 1] - mine[-1] if mine else 0
        if rest < 0:
            return False
        names = letter_names(state.group)
        stock = wyckoff.stock(state.group, frozenset(names[k] for k in state.used))
        later = tuple(sorted(total[done:], reverse=True))
        fixed, free = _left(state, restricted=True) if mine else ((), ())
        return _fill_first(state.group, rest, fixed, free, stock, later)
