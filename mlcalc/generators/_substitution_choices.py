"""Drawing a prototype and the elements that are put into it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations
from math import perm

import numpy as np

from mlcalc.generators._likely_replacements import Replacements, known_elements
from mlcalc.generators._prototypes import Prototype
from mlcalc.generators.base import Constraints

# Where a prototype leaves more choices than this, its elements are drawn one after the other instead.
_MOST = 120


@dataclass(frozen=True)
class Choice:
    """A prototype and its replacements.

    Attributes:
        prototype: what is changed.
        new: old element → new element.
        log_probability: logarithm of the product of the replacements' probabilities.
    """

    prototype: Prototype
    new: dict[str, str]
    log_probability: float


class Choices:
    """All pairs of prototypes and replacements that meet the constraints.

    With few elements to choose from, a pair is drawn with the product of its replacements' probabilities. With many,
    the prototype is drawn first, with the product over its elements of the probabilities of all that may replace them,
    and then one element after the other in random order, never one after which the constraints could not be met.

    Args:
        prototypes: that fit the constraints; at least one.
        constraints: which elements, in which proportions.
        available: elements to choose from where the constraints name none, as far as probabilities are known.
    """

    def __init__(self, prototypes: Sequence[Prototype], constraints: Constraints, available: Iterable[str]):
        self._prototypes = prototypes
        names = constraints.species() or tuple(e for e in known_elements() if e in set(available))
        self._chances = Replacements(names)
        self._required = set(constraints.elements if constraints.chemical_system else constraints.species())
        self._asked: dict[str, int] = {}
        if constraints.formula:
            counts = constraints.compositions()[0]
            divisor = int(np.gcd.reduce(counts))
            self._asked = dict(zip(names, (c // divisor for c in counts), strict=True))
        self._listed = {k: self._all(p) for k, p in enumerate(prototypes) if self._is_small(p)}
        logs = np.array([self._log_weight(k) for k in range(len(prototypes))])
        self._weights = np.exp(logs - logs.max())
        self._weights /= self._weights.sum()

    def draw(self, rng: np.random.Generator) -> Choice:
        """Draw a prototype and its replacements."""
        k = int(rng.choice(len(self._prototypes), p=self._weights))
        if k not in self._listed:
            return self._one_by_one(self._prototypes[k], rng)
        logs = np.array([choice.log_probability for choice in self._listed[k]])
        weights = np.exp(logs - logs.max())
        return self._listed[k][int(rng.choice(len(logs), p=weights / weights.sum()))]

    def _is_small(self, prototype: Prototype) -> bool:
        return perm(len(self._chances.elements), len(prototype.source.elements)) <= _MOST

    def _all(self, prototype: Prototype) -> list[Choice]:
        """Return every choice of a prototype."""
        source, names = prototype.source, self._chances.elements
        logs = [np.log(self._row(prototype, old)) for old in source.elements]
        return [
            Choice(
                prototype,
                {old: names[k] for old, k in zip(source.elements, picked, strict=True)},
                float(sum(row[k] for row, k in zip(logs, picked, strict=True))),
            )
            for picked in permutations(range(len(names)), len(source.elements))
            if self._required <= {names[k] for k in picked}
            and all(self._fits(names[k], count) for k, count in zip(picked, source.counts, strict=True))
        ]

    def _log_weight(self, k: int) -> float:
        if k in self._listed:
            return float(np.logaddexp.reduce([choice.log_probability for choice in self._listed[k]]))
        prototype = self._prototypes[k]
        return float(sum(np.log(self._row(prototype, old).sum()) for old in prototype.source.elements))

    def _one_by_one(self, prototype: Prototype, rng: np.random.Generator) -> Choice:
        source, names = prototype.source, self._chances.elements
        new: dict[str, str] = {}
        log_probability = 0.0
        order = rng.permutation(len(source.elements))
        for step, slot in enumerate(order):
            old = source.elements[slot]
            missing = self._required - set(new.values())
            free = len(order) - step > len(missing)
            allowed = [
                e not in new.values() and (free or e in missing) and self._fits(e, source.counts[slot]) for e in names
            ]
            weight = self._row(prototype, old) * np.array(allowed)
            pick = int(rng.choice(len(names), p=weight / weight.sum()))
            new[old] = names[pick]
            log_probability += float(np.log(weight[pick]))
        return Choice(prototype, {old: new[old] for old in source.elements}, log_probability)

    def _fits(self, element: str, count: int) -> bool:
        """Return whether an element may stand where so many atoms of the reduced formula are."""
        return not self._asked or self._asked[element] == count

    def _row(self, prototype: Prototype, old: str) -> np.ndarray:
        return self._chances.row(old, (prototype.states or {}).get(old))
