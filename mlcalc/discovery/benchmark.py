"""The benchmark of generators: what is asked of all of them alike, and what comes of it before and after relaxation.

Everything asked for stays in the denominator, whether it could be generated, relaxed and judged or not. The training
set itself is one of the rows: no share means anything without it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlcalc.crystals.symmetry import primitive_cell
from mlcalc.discovery._benchmark_hull import HullFacts, JudgingHull
from mlcalc.discovery._benchmark_judge import BenchmarkSettings, Hull, Judge, SourceResult
from mlcalc.discovery._benchmark_work import Draw, Proposed, Worked, generate, relax_all, seconds
from mlcalc.discovery.novelty import KnownCrystals
from mlcalc.discovery.records import Journal, claim_folder
from mlcalc.discovery.stability import StabilityModel
from mlcalc.errors import WorkflowError
from mlcalc.generators import Constraints
from mlcalc.records import Record, describe_calculator, structure_hash
from mlcalc.workflows import WorkflowWarning

TRAINING = "training set"
# Crystals that a source without conditions is asked for at a time.
_BLOCK = 64
# Settings that may change when a benchmark goes on: more crystals, and what is judged anew each time.
_MAY_CHANGE = ("number", "thresholds_ev_per_atom", "resamples", "keep")
# What folders of earlier versions do not name: settings, which were these, and parts of the description, which nobody
# knows any more.
_ADDED = {"relax": True}
_UNKNOWN = ("options", "files")


@dataclass(frozen=True)
class Free:
    """A source that chooses elements itself: asked for all its crystals at once, whatever the others' conditions."""

    draw: Draw


@dataclass(frozen=True)
class BenchmarkResult(Record):
    """All rows, and what made them.

    Attributes:
        rows: sources in the order given, the training set last.
        conditions: constraints that everyone was given, ``Free`` sources apart.
        hull: where energies above the hull are from, and what they are worth.
        settings: thresholds, seeds, calculator, sets.
    """

    rows: tuple[SourceResult, ...]
    conditions: tuple[dict[str, Any], ...]
    hull: HullFacts | None
    settings: dict[str, Any]


def conditions_of(crystals: Sequence[Atoms], count: int, settings: BenchmarkSettings) -> list[Constraints]:
    """Return the chemical systems of crystals drawn from a set, all their elements present."""
    order = np.random.default_rng(settings.seed).permutation(len(crystals))  # the first of many are those of few
    picks = [crystals[order[k % len(order)]] for k in range(count)]
    return [Constraints(elements=tuple(sorted(set(a.symbols))), n_atoms=settings.n_atoms) for a in picks]


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
    sources: Mapping[str, Draw | Free],
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

    The folder holds ``campaign.json`` and one journal a source; killed anywhere, the same call goes on. So does one
    that asks for more crystals.

    Args:
        sources: name → ``draw(constraints, count, seed)``, giving up to ``count`` crystals; ``Free`` of it names no
            elements.
        training: crystals that statistics are compared with; a sample of them is the last row.
        calculator: any ASE calculator; those that can relax lists together do. Not looked at without ``relax``.
        folder: made if missing.
        settings: defaults if None.
        conditions: what everyone is asked for; None takes chemical systems of the training set, or the targets'
            formulas.
        targets: crystals to be found; each is one condition, so ``number`` is targets × ``per_condition``.
        reference: crystals that are not new; None takes the training set.
        hull: energies above a hull; nothing is relaxed for it, so that another one may judge the same crystals.
        description: of sources and sets, JSON-ready; must be the same when the benchmark goes on. In a folder of an
            earlier version, ``options`` (of generators) and ``files`` (their content) may be missing.
        progress: called with (source, done, asked).

    Raises:
        WorkflowError: nothing to compare with, another benchmark in the folder, or conditions beside targets.

    Warns:
        WorkflowWarning: the folder is of an earlier version, which did not note options or content of the sources.
    """
    settings = settings or BenchmarkSettings()
    if not training:
        raise WorkflowError("the training set holds no crystals; statistics need some to compare with")
    if TRAINING in sources:
        raise WorkflowError(f"{TRAINING!r} is a row of its own; give the source another name")
    if len(targets) and any(isinstance(draw, Free) for draw in sources.values()):
        raise WorkflowError("targets have formulas: no source can choose its own elements")
    if len(targets) and conditions is not None:
        raise WorkflowError("targets are conditions of their own: give one of the two")
    if hull is not None and not settings.relax:
        raise WorkflowError("energies above a hull are those of relaxed crystals: relax, or leave the hull out")
    if settings.number < 1 or settings.per_condition < 1:
        raise WorkflowError("number and per_condition must be at least 1")
    if len(targets):
        conditions = target_conditions(targets, settings)
    elif conditions is None:
        conditions = conditions_of(training, -(-settings.number // settings.per_condition), settings)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    identity = {
        "calculator": describe_calculator(calculator) if settings.relax else "none",
        "training": crystals_digest(training),
        "targets": crystals_digest(targets),
        "conditions": hashlib.sha256(json.dumps(conditions[0].to_dict()).encode()).hexdigest()[:12],
        **(description or {}),
    }
    deciding = {key: value for key, value in asdict(settings).items() if key not in _MAY_CHANGE}
    unknown = {key: identity[key] for key in _UNKNOWN if key in identity}
    taken = claim_folder(
        folder, {"settings": deciding, "description": identity}, {"settings": _ADDED, "description": unknown}
    )
    if unsaid := [key for key in _UNKNOWN if key in taken and identity[key]]:
        warnings.warn(
            f"{folder} was begun by an earlier version, which did not note the {' and '.join(unsaid)} of its sources; "
            "they are taken to be the same; if they are not, choose another folder",
            WorkflowWarning,
            stacklevel=2,
        )
    known = KnownCrystals(training if reference is None else reference)
    judge = Judge(training, known, targets, hull, settings, StabilityModel.load())
    tell = progress or (lambda name, done, total: None)
    rows = []
    everyone: dict[str, Draw | Free] = {**sources, TRAINING: from_list(training, settings, shuffle=True)}
    for name, draw in everyone.items():
        with Journal(folder / f"{_file_name(name)}.jsonl") as journal:
            proposed = _generate(journal, draw, conditions, settings)
            options = {key: getattr(settings, key) for key in ("fmax", "stress_tolerance_gpa", "max_steps")}

            def update(done: int, total: int, name: str = name) -> None:
                tell(name, done, total)

            found = proposed
            if settings.relax:
                found = relax_all(journal, proposed, calculator, options, settings.min_distance, update)
            times = [seconds(journal, stage, len(found)) for stage in ("generation", "relaxation")]
            worked = Worked(tuple(found), *times)
        rows.append(judge.row(name, worked, known=name == TRAINING))
    made = {**asdict(settings), **identity, "hull": hull is not None}
    facts = hull.facts if isinstance(hull, JudgingHull) else None
    return BenchmarkResult(tuple(rows), tuple(c.to_dict() for c in conditions), facts, made)


def _generate(
    journal: Journal, draw: Draw | Free, conditions: Sequence[Constraints], settings: BenchmarkSettings
) -> list[Proposed]:
    if not isinstance(draw, Free):
        return generate(journal, draw, conditions, settings.per_condition, settings.seed)
    number = len(conditions) * settings.per_condition
    anything = [Constraints(n_atoms=settings.n_atoms)] * -(-number // _BLOCK)
    # Each is a condition of its own: they have nothing in common.
    found = generate(journal, draw.draw, anything, _BLOCK, settings.seed)[:number]
    return [replace(item, condition=k) for k, item in enumerate(found)]


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


def crystals_digest(crystals: Sequence[Atoms]) -> str:
    """Return how many crystals a list holds, and a short hash of them in their order."""
    digest = hashlib.sha256()
    for atoms in crystals:
        digest.update(structure_hash(atoms).encode())
    return f"{len(crystals)} crystals, {digest.hexdigest()[:12]}"


def _file_name(source: str) -> str:
    return re.sub(r"[^\w.-]+", "_", source)
