"""The benchmark of generators: what is asked of all of them alike, and what comes of it before and after relaxation.

Everything asked for stays in the denominator, whether it could be generated, relaxed and judged or not. The training
set itself is one of the rows: no share means anything without it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlcalc.crystals.charges import is_charge_balanced
from mlcalc.crystals.duplicates import cluster_duplicates
from mlcalc.crystals.symmetry import find_space_group, primitive_cell
from mlcalc.discovery._benchmark_matching import KnownCrystals, match_error
from mlcalc.discovery._benchmark_statistics import Interval, Profile, share
from mlcalc.discovery._benchmark_work import Draw, Proposed, Worked, generate, relax_all, seconds
from mlcalc.discovery._work import check
from mlcalc.discovery.records import Journal, claim_folder
from mlcalc.errors import WorkflowError
from mlcalc.generators import Constraints
from mlcalc.records import Record, describe_calculator, structure_hash

#: Energy above the hull, eV per atom, of a relaxed crystal and its total energy, eV; None where it is not known.
Hull = Callable[[Atoms, float], float | None]
TRAINING = "training set"


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


@dataclass(frozen=True)
class SourceResult(Record):
    """One row.

    Attributes:
        name: of the generator, file, or ``"training set"``.
        asked: crystals asked for: the denominator of every share.
        before: shares as generated.
        after: shares after relaxation.
        distance_before: from the training set, by property (``Profile.distances``), as generated.
        distance_after: after relaxation.
        match_before: share of targets that a candidate of their formula matches; None without targets.
        match_after: after relaxation.
        match_rms_before: mean over matched targets of the smallest RMS distance, in (volume per atom)^(1/3).
        match_rms_after: after relaxation.
        hull_unknown: relaxed crystals whose hull is not known; they count as unstable.
        gain_ev_per_atom: median energy lost in relaxation; NaN if nothing was relaxed.
        generation_s: time.
        relaxation_s: time.
        cost_s: time for each success: a crystal that is relaxed, unique and novel, and metastable where there is a
            hull; infinite without any.
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
    generation_s: float
    relaxation_s: float
    cost_s: float
    failures: dict[str, int]


@dataclass(frozen=True)
class BenchmarkResult(Record):
    """All rows, and what made them.

    Attributes:
        rows: sources in the order given, the training set last.
        conditions: constraints that everyone was given.
        settings: thresholds, seeds, calculator, sets.
    """

    rows: tuple[SourceResult, ...]
    conditions: tuple[dict[str, Any], ...]
    settings: dict[str, Any]


def conditions_of(crystals: Sequence[Atoms], count: int, settings: BenchmarkSettings) -> list[Constraints]:
    """Return the chemical systems of crystals drawn from a set, all their elements present."""
    rng = np.random.default_rng(settings.seed)
    picks = rng.choice(len(crystals), size=count, replace=count > len(crystals))
    return [Constraints(elements=tuple(sorted(set(crystals[k].symbols))), n_atoms=settings.n_atoms) for k in picks]


def target_conditions(targets: Sequence[Atoms], settings: BenchmarkSettings) -> list[Constraints]:
    """Return formula and number of atoms in the primitive cell of each target."""
    found = []
    for atoms in targets:
        # Without symmetry that could be found, the cell as it is.
        with contextlib.suppress(ValueError):
            atoms = primitive_cell(atoms, settings.symprec)
        found.append(Constraints(formula=atoms.get_chemical_formula(), n_atoms=(len(atoms), len(atoms))))
    return found


def run_benchmark(
    sources: Mapping[str, Draw],
    training: Sequence[Atoms],
    calculator: Any,
    folder: str | Path,
    *,
    settings: BenchmarkSettings | None = None,
    conditions: Sequence[Constraints] | None = None,
    targets: Sequence[Atoms] = (),
    reference: Sequence[Atoms] | None = None,
    hull: Hull | None = None,
    description: dict[str, Any] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> BenchmarkResult:
    """Ask every source for crystals under the same conditions and judge what comes.

    The folder holds ``campaign.json`` and one journal a source; killed anywhere, the same call goes on.

    Args:
        sources: name → ``draw(constraints, count, seed)``, giving up to ``count`` crystals.
        training: crystals that statistics are compared with; a sample of them is the last row.
        calculator: any ASE calculator; those that can relax lists together do.
        folder: made if missing.
        settings: defaults if None.
        conditions: what everyone is asked for; None takes chemical systems of the training set, or the targets'
            formulas.
        targets: crystals to be found; each is one condition, so ``number`` is targets × ``per_condition``.
        reference: crystals that are not new; None takes the training set.
        hull: energies above a hull of the same potential.
        description: of sources, sets and hull, JSON-ready; must be the same when the benchmark goes on.
        progress: called with (source, done, asked).

    Raises:
        WorkflowError: nothing to compare with, another benchmark in the folder, or conditions beside targets.
    """
    settings = settings or BenchmarkSettings()
    if not training:
        raise WorkflowError("the training set holds no crystals; statistics need some to compare with")
    if TRAINING in sources:
        raise WorkflowError(f"{TRAINING!r} is a row of its own; give the source another name")
    if len(targets) and conditions is not None:
        raise WorkflowError("targets are conditions of their own: give one of the two")
    if settings.number < 1 or settings.per_condition < 1:
        raise WorkflowError("number and per_condition must be at least 1")
    if len(targets):
        conditions = target_conditions(targets, settings)
    elif conditions is None:
        conditions = conditions_of(training, -(-settings.number // settings.per_condition), settings)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    identity = {
        "calculator": describe_calculator(calculator),
        "training": _digest(training),
        "targets": _digest(targets),
        "conditions": hashlib.sha256(json.dumps([c.to_dict() for c in conditions]).encode()).hexdigest()[:12],
        **(description or {}),
    }
    claim_folder(folder, {"settings": asdict(settings), "description": identity})
    judge = _Judge(training, KnownCrystals(training if reference is None else reference), targets, hull, settings)
    tell = progress or (lambda name, done, total: None)
    rows = []
    for name, draw in {**sources, TRAINING: from_list(training, settings, shuffle=True)}.items():
        with Journal(folder / f"{name.replace(' ', '_').replace('/', '_')}.jsonl") as journal:
            proposed = generate(journal, draw, conditions, settings.per_condition, settings.seed)
            options = {key: getattr(settings, key) for key in ("fmax", "stress_tolerance_gpa", "max_steps")}

            def update(done: int, total: int, name: str = name) -> None:
                tell(name, done, total)

            found = relax_all(journal, proposed, calculator, options, settings.min_distance, update)
            worked = Worked(tuple(found), seconds(journal, "generation"), seconds(journal, "relaxation"))
        rows.append(judge.row(name, worked, known=name == TRAINING))
    made = {**asdict(settings), **identity, "hull": hull is not None}
    return BenchmarkResult(tuple(rows), tuple(c.to_dict() for c in conditions), made)


@dataclass
class _Judge:
    """What all sources are judged by."""

    training: Sequence[Atoms]
    known: KnownCrystals
    targets: Sequence[Atoms]
    hull: Hull | None
    settings: BenchmarkSettings

    def __post_init__(self) -> None:
        self._profile = Profile.of(self.training, self.settings.symprec)

    def row(self, name: str, worked: Worked, known: bool) -> SourceResult:
        items = worked.proposed
        before, _ = self._flags(items, [p.atoms for p in items], relaxed=False)
        after, unknown = self._flags(items, [p.relaxed for p in items], relaxed=True)
        gains = [p.gain_ev_per_atom for p in items if p.relaxed is not None]
        matches = [self._matches(items, relaxed) if not known else (None, float("nan")) for relaxed in (False, True)]
        successes = sum(after["metastable_unique_novel" if self.hull else "unique_novel"])
        total = worked.generation_s + worked.relaxation_s
        groups = [p.condition for p in items]
        return SourceResult(
            name=name,
            asked=len(items),
            before={key: self._share(hits, groups) for key, hits in before.items()},
            after={key: self._share(hits, groups) for key, hits in after.items()},
            distance_before=self._distances([p.atoms for p in items if p.atoms is not None]),
            distance_after=self._distances([p.relaxed for p in items if p.relaxed is not None]),
            match_before=matches[0][0],
            match_after=matches[1][0],
            match_rms_before=matches[0][1],
            match_rms_after=matches[1][1],
            hull_unknown=unknown,
            gain_ev_per_atom=float(np.median(gains)) if gains else float("nan"),
            generation_s=worked.generation_s,
            relaxation_s=worked.relaxation_s,
            cost_s=total / successes if successes else float("inf"),
            failures=dict(Counter(p.problem for p in items if p.problem is not None)),
        )

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
        return flags, sum(v and h is None for h, v in zip(heights, valid, strict=True))

    def _unique(
        self, items: Sequence[Proposed], crystals: Sequence[Atoms | None], valid: Sequence[bool], relaxed: bool
    ) -> list[bool]:
        """One of each cluster of equal crystals: the lowest in energy, or the first."""
        at = [k for k, v in enumerate(valid) if v]
        chosen = [a for a, v in zip(crystals, valid, strict=True) if v and a is not None]
        clusters = cluster_duplicates(chosen, symprec=self.settings.symprec)
        best: dict[int, tuple[float, int]] = {}
        for k, atoms, cluster in zip(at, chosen, clusters, strict=True):
            rank = (items[k].energy_ev / len(atoms) if relaxed else 0.0, k)
            best[cluster] = min(best.get(cluster, rank), rank)
        keep = {k for _, k in best.values()}
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


def from_list(crystals: Sequence[Atoms], settings: BenchmarkSettings, shuffle: bool = False) -> Draw:
    """Return a source that gives crystals of a list, each once, whatever the constraints.

    Args:
        crystals: of a file, say.
        settings: of the benchmark; they tell which part of the list is asked for.
        shuffle: take them in random order, the same for the same seed.
    """
    order = np.random.default_rng(settings.seed).permutation(len(crystals)) if shuffle else range(len(crystals))

    def draw(constraints: Constraints, count: int, seed: int) -> list[Atoms]:
        start = (seed - settings.seed) * count
        return [crystals[int(k)] for k in order[start : start + count]]

    return draw


def _digest(crystals: Sequence[Atoms]) -> str:
    """Short hash of a set of crystals."""
    digest = hashlib.sha256()
    for atoms in crystals:
        digest.update(structure_hash(atoms).encode())
    return f"{len(crystals)} crystals, {digest.hexdigest()[:12]}"
