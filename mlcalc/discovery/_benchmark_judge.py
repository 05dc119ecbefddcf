"""How a source of crystals is judged: settings, shares before and after relaxation, rankings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms

from mlcalc.crystals.charges import is_charge_balanced
from mlcalc.crystals.matching import match_error
from mlcalc.crystals.symmetry import find_space_group
from mlcalc.discovery._benchmark_hull import JudgingHull
from mlcalc.discovery._benchmark_ranking import Ranking, rankings
from mlcalc.discovery._benchmark_statistics import Interval, Profile, share
from mlcalc.discovery._benchmark_work import Proposed, Worked
from mlcalc.discovery._ranking import likelihood_score
from mlcalc.discovery._work import check
from mlcalc.discovery.hull import Hulls
from mlcalc.discovery.novelty import KnownCrystals, judge_novelty
from mlcalc.discovery.stability import StabilityModel
from mlcalc.records import Record

#: Energy above the hull, eV per atom, of a crystal and its total energy, eV; None where it is not known.
Hull = Callable[[Atoms, float], float | None]
# Crystals of the training set that say what it is like.
_PROFILED = 2000


@dataclass(frozen=True)
class BenchmarkSettings:
    """What decides.

    Attributes:
        number: crystals asked of each source.
        per_condition: of them, under one condition.
        n_atoms: smallest and largest number of atoms in the primitive cell.
        seed: of conditions, candidates and intervals.
        min_distance: smallest valid distance, own images included, in sums of covalent radii.
        symprec: tolerance of space groups and of fingerprints, Å.
        fmax: largest force left, eV/Å.
        stress_tolerance_gpa: largest stress left, GPa.
        max_steps: of one relaxation.
        thresholds_ev_per_atom: energies above the hull up to which a crystal is stable, metastable.
        resamples: of the bootstrap.
        keep: share of new candidates that rankings before relaxation relax.
        relax: relax what was generated; without, all is judged as generated.
    """

    number: int = 64
    per_condition: int = 4
    n_atoms: tuple[int, int] = (1, 20)
    seed: int = 0
    min_distance: float = 0.6
    symprec: float = 0.1
    fmax: float = 0.05
    stress_tolerance_gpa: float = 0.1
    max_steps: int = 200
    thresholds_ev_per_atom: tuple[float, float] = (0.0, 0.1)
    resamples: int = 1000
    keep: float = 1 / 3
    relax: bool = True


@dataclass(frozen=True)
class SourceResult(Record):
    """One row.

    Attributes:
        name: of the generator, file, or ``"training set"``.
        asked: crystals asked for: the denominator of every share.
        before: shares as generated.
        after: shares after relaxation; empty where nothing was to be relaxed.
        distance_before: from the training set, by property (``Profile.distances``), as generated.
        distance_after: after relaxation; empty where nothing was to be relaxed.
        match_before: share of targets that a candidate of their formula matches; None without targets.
        match_after: after relaxation; None where nothing was to be relaxed.
        match_rms_before: mean over matched targets of the smallest RMS distance, in (volume per atom)^(1/3).
        match_rms_after: after relaxation.
        hull_unknown: relaxed crystals whose hull is not known; they count as unstable.
        gain_ev_per_atom: median energy lost in relaxation; NaN if nothing was relaxed.
        moved_ang: median of how far atoms moved in relaxation, root mean square in a crystal.
        grown: median of the relative change of volume, up or down.
        generation_s: time.
        relaxation_s: time.
        cost_s: time for each success: a crystal that is relaxed, unique and novel, and metastable where there is a
            hull; unique and novel as generated where nothing was to be relaxed; infinite without any.
        rankings: what rankings before relaxation are worth; none where nothing was to be relaxed.
        failures: reason → number of crystals that did not get through.
    """

    name: str
    asked: int
    before: dict[str, Interval]
    after: dict[str, Interval]
    distance_before: dict[str, float]
    distance_after: dict[str, float]
    match_before: Interval | None
    match_after: Interval | None
    match_rms_before: float
    match_rms_after: float
    hull_unknown: int
    gain_ev_per_atom: float
    moved_ang: float
    grown: float
    generation_s: float
    relaxation_s: float
    cost_s: float
    rankings: tuple[Ranking, ...]
    failures: dict[str, int]


@dataclass
class Judge:
    """What all sources are judged by."""

    training: Sequence[Atoms]
    known: KnownCrystals
    targets: Sequence[Atoms]
    hull: Hull | None
    settings: BenchmarkSettings
    stability: StabilityModel | None = None

    @cached_property
    def _profile(self) -> Profile:
        order = np.random.default_rng(self.settings.seed).permutation(len(self.training))[:_PROFILED]
        return Profile.of([self.training[k] for k in order], self.settings.symprec)

    def row(self, name: str, worked: Worked, known: bool) -> SourceResult:
        """Return what became of all that was asked of a source; ``known``: it is the training set itself."""
        items = worked.proposed
        before, _ = self._flags(items, [p.atoms for p in items], relaxed=False)
        relax = self.settings.relax
        after, unknown = self._flags(items, [p.relaxed for p in items], relaxed=True) if relax else ({}, 0)
        relaxed = [p for p in items if p.relaxed is not None]
        nothing: tuple[Interval | None, float] = (None, float("nan"))
        matches = [self._matches(items, relaxed) if not known else nothing for relaxed in (False, True)[: 1 + relax]]
        matches += [nothing] * (2 - len(matches))
        good = after["metastable_unique_novel" if self.hull else "unique_novel"] if relax else before["unique_novel"]
        successes = sum(good)
        total = worked.generation_s + worked.relaxation_s
        groups = [p.condition for p in items]
        return SourceResult(
            name=name,
            asked=len(items),
            before={key: self._share(hits, groups) for key, hits in before.items()},
            after={key: self._share(hits, groups) for key, hits in after.items()},
            distance_before=self._distances([p.atoms for p in items if p.atoms is not None]),
            distance_after=self._distances([p.relaxed for p in items if p.relaxed is not None]) if relax else {},
            match_before=matches[0][0],
            match_after=matches[1][0],
            match_rms_before=matches[0][1],
            match_rms_after=matches[1][1],
            hull_unknown=unknown,
            gain_ev_per_atom=_median([p.gain_ev_per_atom for p in relaxed]),
            moved_ang=_median([p.moved_ang for p in relaxed]),
            grown=_median([abs(p.grown) for p in relaxed]),
            generation_s=worked.generation_s,
            relaxation_s=worked.relaxation_s,
            cost_s=total / successes if successes else float("inf"),
            rankings=rankings(
                [p.tried for p in items],
                before["unique_novel"],
                good,
                self._scores(items),
                self.settings.keep,
                self._share,
                groups,
            )
            if relax
            else (),
            failures=dict(Counter(p.problem for p in items if p.problem is not None)),
        )

    def _scores(self, items: Sequence[Proposed]) -> dict[str, Sequence[float | None]]:
        """Return what can be known of candidates before relaxation; small is good."""
        heights = [
            self.hull(p.atoms, p.initial_energy_ev)
            if self.hull is not None and p.atoms is not None and np.isfinite(p.initial_energy_ev)
            else None
            for p in items
        ]
        likelihoods = [None if p.atoms is None else likelihood_score(p.log_probability, len(p.atoms)) for p in items]
        learnt: list[float | None] = [None] * len(items)
        if self.stability is not None:
            there = [(k, p.atoms) for k, p in enumerate(items) if p.atoms is not None]
            scores = self.stability.above([atoms for _, atoms in there], self._learnt_hulls)
            for (k, _), score in zip(there, scores, strict=True):
                learnt[k] = score
        return {
            "single-point energy above hull": heights,
            "likelihood per atom": likelihoods,
            "learned stability": learnt,
        }

    @cached_property
    def _learnt_hulls(self) -> Hulls:
        """Hulls of what the stability score predicts of the training set."""
        assert self.stability is not None
        return self.stability.hulls(self.training)

    def _share(self, hits: Sequence[bool], groups: Sequence[int]) -> Interval:
        return share(hits, groups, self.settings.resamples, self.settings.seed)

    def _distances(self, crystals: Sequence[Atoms]) -> dict[str, float]:
        return Profile.of(crystals, self.settings.symprec).distances(self._profile)

    def _flags(
        self, items: Sequence[Proposed], crystals: Sequence[Atoms | None], relaxed: bool
    ) -> tuple[dict[str, list[bool]], int]:
        """Return for every crystal asked for whether it is what; and how many have no hull."""
        settings = self.settings
        valid = [a is not None and check(a, settings.min_distance) is None for a in crystals]
        charges = [a is not None and is_charge_balanced(a) for a in crystals]
        unique = self._unique(items, crystals, valid, relaxed)
        novel = [v and a is not None and a not in self.known for a, v in zip(crystals, valid, strict=True)]
        first = "converged" if relaxed else "generated"
        flags = {
            first: [a is not None for a in crystals],
            "valid_structure": valid,
            "charge_balanced": charges,
            "valid": [v and c for v, c in zip(valid, charges, strict=True)],
            "unique": unique,
            "novel": novel,
            "unique_novel": [u and n for u, n in zip(unique, novel, strict=True)],
            "symmetric": [v and a is not None and self._symmetric(a) for a, v in zip(crystals, valid, strict=True)],
        }
        if not relaxed or self.hull is None:
            return flags, 0
        heights = [
            self.hull(p.relaxed, p.energy_ev) if p.relaxed is not None and v else None
            for p, v in zip(items, valid, strict=True)
        ]
        for name, limit in zip(("stable", "metastable"), settings.thresholds_ev_per_atom, strict=True):
            low = [h is not None and h <= limit for h in heights]
            flags[name] = low
            flags[f"{name}_unique_novel"] = [x and y for x, y in zip(low, flags["unique_novel"], strict=True)]
        if isinstance(self.hull, JudgingHull):
            covers = self.hull.covers
            covered = [a is not None and covers(a) for a in crystals]
            hits = zip(flags["metastable_unique_novel"], covered, strict=True)
            flags["metastable_unique_novel_covered"] = [x and y for x, y in hits]
            flags["covered"] = covered
        return flags, sum(v and h is None for h, v in zip(heights, valid, strict=True))

    def _unique(
        self, items: Sequence[Proposed], crystals: Sequence[Atoms | None], valid: Sequence[bool], relaxed: bool
    ) -> list[bool]:
        """One of each cluster of equal crystals: the lowest in energy, or the first."""
        chosen = [(k, a) for k, (a, v) in enumerate(zip(crystals, valid, strict=True)) if v and a is not None]
        if relaxed:
            chosen.sort(key=lambda pair: items[pair[0]].energy_ev / len(pair[1]))
        found = judge_novelty([a for _, a in chosen], symprec=self.settings.symprec)
        keep = {k for at, ((k, _), one) in enumerate(zip(chosen, found, strict=True)) if one.same_as == at}
        return [k in keep for k in range(len(items))]

    def _symmetric(self, atoms: Atoms) -> bool:
        """Return whether there is any symmetry beside translations."""
        group = find_space_group(atoms, self.settings.symprec)
        return group is not None and group.number > 1

    def _matches(self, items: Sequence[Proposed], relaxed: bool) -> tuple[Interval | None, float]:
        if not len(self.targets):
            return None, float("nan")
        best: dict[int, float] = {}
        for item in items:
            atoms = item.relaxed if relaxed else item.atoms
            error = None if atoms is None else match_error(atoms, self.targets[item.condition])
            if error is not None:
                best[item.condition] = min(error, best.get(item.condition, error))
        hits = [k in best for k in range(len(self.targets))]
        mean = float(np.mean(list(best.values()))) if best else float("nan")
        return self._share(hits, list(range(len(hits)))), mean


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if len(values) else float("nan")
