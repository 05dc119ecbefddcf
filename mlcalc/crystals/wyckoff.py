"""Wyckoff positions of the 230 space groups (tables from PyXtal), counted per primitive cell."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mlcalc.crystals._tables import group, primitive_vectors, tables

__all__ = [
    "Site",
    "compatible",
    "draw_sites",
    "group",
    "place",
    "primitive_vectors",
    "reachable",
    "sites",
    "stock",
    "without",
]


@dataclass(frozen=True)
class Site:
    """One Wyckoff position.

    Attributes:
        letter: Wyckoff letter.
        multiplicity: atoms per primitive cell.
        free: free coordinates; a position without any can be occupied once only.
    """

    letter: str
    multiplicity: int
    free: int


@lru_cache(maxsize=230)
def sites(number: int) -> tuple[Site, ...]:
    """Return the Wyckoff positions of a space group, general position first."""
    table = group(number)
    per_cell = round(1 / np.linalg.det(primitive_vectors(number)))
    return tuple(Site(w.letter, w.multiplicity // per_cell, int(w.get_dof())) for w in table)


@lru_cache(maxsize=230)
def _kinds(number: int) -> tuple[tuple[int, int], ...]:
    """(multiplicity, how often sites of it can be used, -1 = any number), one entry a multiplicity and freedom."""
    fixed: dict[int, int] = {}
    free: set[int] = set()
    for site in sites(number):
        if site.free:
            free.add(site.multiplicity)
        else:
            fixed[site.multiplicity] = fixed.get(site.multiplicity, 0) + 1
    # A multiplicity with a free site needs no bookkeeping of its fixed ones to decide whether a count can be reached.
    kinds = [(m, -1) for m in free] + [(m, c) for m, c in fixed.items() if m not in free]
    return tuple(sorted(kinds, reverse=True))


def stock(number: int, used: frozenset[str]) -> tuple[int, ...]:
    """Return how many sites of each kind are left, -1 for any number, once the positions ``used`` are occupied."""
    left = []
    for multiplicity, count in _kinds(number):
        if count >= 0:
            taken = sum(1 for s in sites(number) if s.letter in used and s.multiplicity == multiplicity)
            count -= taken
        left.append(count)
    return tuple(left)


@lru_cache(maxsize=200_000)
def _reachable(number: int, counts: tuple[int, ...], stock: tuple[int, ...], kind: int) -> bool:
    """Whether every count is a sum of multiplicities, fixed sites being shared among the elements."""
    if not counts:
        return True
    if counts[0] == 0:
        return _reachable(number, counts[1:], stock, 0)
    kinds = _kinds(number)
    if kind == len(kinds):
        return False
    multiplicity = kinds[kind][0]
    most = counts[0] // multiplicity
    if stock[kind] >= 0:
        most = min(most, stock[kind])
    for uses in range(most, -1, -1):
        left = stock if stock[kind] < 0 else (*stock[:kind], stock[kind] - uses, *stock[kind + 1 :])
        if _reachable(number, (counts[0] - uses * multiplicity, *counts[1:]), left, kind + 1):
            return True
    return False


def compatible(number: int, counts: tuple[int, ...]) -> bool:
    """Say whether atoms of each element fit on the Wyckoff positions of a space group.

    Args:
        number: space group.
        counts: atoms of each element per primitive cell.
    """
    return _reachable(number, tuple(sorted(counts, reverse=True)), stock(number, frozenset()), 0)


def reachable(number: int, counts: tuple[int, ...], left: tuple[int, ...]) -> bool:
    """Say whether atoms of each element fit on the positions that are left.

    Args:
        number: space group.
        counts: atoms of each element per primitive cell.
        left: what ``stock`` returned.
    """
    return _reachable(number, counts, left, 0)


def without(number: int, left: tuple[int, ...], multiplicity: int, uses: int) -> tuple[int, ...]:
    """Return the stock after some positions without freedom, of one multiplicity, were occupied."""
    kinds = _kinds(number)
    return tuple(c - uses if m == multiplicity and c >= 0 else c for (m, _), c in zip(kinds, left, strict=True))


def draw_sites(number: int, counts: tuple[int, ...], rng: np.random.Generator) -> list[list[Site]] | None:
    """Draw Wyckoff positions for each element, uniformly at each step among those that leave the rest possible.

    Args:
        number: space group.
        counts: atoms of each element per primitive cell.
        rng: source of randomness.

    Returns:
        One list of sites an element, or None where the counts do not fit.
    """
    if not compatible(number, counts):
        return None
    drawn: list[list[Site]] = []
    used: frozenset[str] = frozenset()
    for k in range(len(counts)):
        mine: list[Site] = []
        missing = counts[k]
        while missing:
            options = []
            for site in sites(number):
                if site.multiplicity > missing or (not site.free and site.letter in used):
                    continue
                now = used if site.free else used | {site.letter}
                rest = (missing - site.multiplicity, *counts[k + 1 :])
                if _reachable(number, rest, stock(number, now), 0):
                    options.append((site, now))
            site, used = options[int(rng.integers(len(options)))]
            mine.append(site)
            missing -= site.multiplicity
        drawn.append(mine)
    return drawn


def place(number: int, site: Site, rng: np.random.Generator) -> np.ndarray:
    """Occupy a Wyckoff position at a random point of its free coordinates.

    Returns:
        (multiplicity, 3) fractional coordinates in the primitive cell.
    """
    position = tables(number).positions[site.letter]
    return position.primitive_points(rng.random(3)[list(position.columns)])
