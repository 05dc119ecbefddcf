"""Shares with intervals, and distances between distributions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.crystals import find_space_group
from mlcalc.discovery.figures import crystal_system
from mlcalc.records import Record


@dataclass(frozen=True)
class Interval(Record):
    """A number and its 95 % interval.

    Attributes:
        value: what was found.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float


def share(hits: Sequence[bool], groups: Sequence[int], resamples: int, seed: int) -> Interval:
    """Return the share of hits with a bootstrap interval (percentiles 2.5 and 97.5).

    Members of one group (the same condition) are alike, so whole groups are resampled; with a single group, its
    members. Where the bootstrap sees no spread (all hits, or none), the interval is the exact binomial one.

    Args:
        hits: one an entry asked for; failures are False.
        groups: the group of each.
        resamples: bootstrap samples.
        seed: of the resampling.
    """
    from scipy.stats import binomtest

    flags = np.asarray(hits, float)
    if len(flags) == 0:
        return Interval(0.0, 0.0, 1.0)
    labels = np.asarray(groups)
    if len(set(labels.tolist())) < 2:
        labels = np.arange(len(flags))
    _, inverse = np.unique(labels, return_inverse=True)
    sums, sizes = np.bincount(inverse, flags), np.bincount(inverse)
    picks = np.random.default_rng(seed).integers(len(sums), size=(resamples, len(sums)))
    values = sums[picks].sum(axis=1) / sizes[picks].sum(axis=1)
    low, high = np.percentile(values, [2.5, 97.5])
    if low == high:
        exact = binomtest(int(flags.sum()), len(flags)).proportion_ci()
        low, high = exact.low, exact.high
    return Interval(float(flags.mean()), float(low), float(high))


@dataclass(frozen=True)
class Profile:
    """What is compared between two sets of crystals.

    Attributes:
        systems: crystals by crystal system.
        elements: crystals by element they hold, normalised by the elements of all.
        volumes: Å³ per atom.
        kinds: numbers of elements.
        sizes: numbers of atoms in the cells.
    """

    systems: Counter[str]
    elements: Counter[str]
    volumes: NDArray[np.float64]
    kinds: NDArray[np.float64]
    sizes: NDArray[np.float64]

    @classmethod
    def of(cls, crystals: Iterable[Atoms], symprec: float) -> Profile:
        """Look at crystals."""
        crystals = list(crystals)
        systems: Counter[str] = Counter()
        for atoms in crystals:
            group = find_space_group(atoms, symprec)
            systems["P1" if group and group.number == 1 else crystal_system(group.number if group else None)] += 1
        return cls(
            systems,
            Counter(e for atoms in crystals for e in set(atoms.symbols)),
            np.array([atoms.get_volume() / len(atoms) for atoms in crystals]),
            np.array([len(set(atoms.symbols)) for atoms in crystals], float),
            np.array([len(atoms) for atoms in crystals], float),
        )

    def distances(self, other: Profile) -> dict[str, float]:
        """Return how far apart two sets are: total variation (0 to 1) or Wasserstein distance (units in the name).

        Sets without crystals are at NaN.
        """
        from scipy.stats import wasserstein_distance

        if not len(self.volumes) or not len(other.volumes):
            return dict.fromkeys((*_VARIATION, *_WASSERSTEIN), float("nan"))
        found = {name: _variation(getattr(self, key), getattr(other, key)) for name, key in _VARIATION.items()}
        for name, key in _WASSERSTEIN.items():
            found[name] = float(wasserstein_distance(getattr(self, key), getattr(other, key)))
        return found


_VARIATION = {"crystal_systems_tv": "systems", "elements_tv": "elements"}
_WASSERSTEIN = {"volume_ang3_per_atom_w": "volumes", "number_of_elements_w": "kinds", "number_of_atoms_w": "sizes"}


def _variation(one: Counter[str], two: Counter[str]) -> float:
    """Total variation distance of two histograms."""
    a, b = sum(one.values()), sum(two.values())
    return 0.5 * sum(abs(one[key] / a - two[key] / b) for key in {*one, *two})
