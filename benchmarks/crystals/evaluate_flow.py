"""Judge weights of the generator `flow`: drawn freely, by formula, and aimed at labels; on crystals it has not seen.

python benchmarks/crystals/evaluate_flow.py --weights flow-perov --training perov/train.jsonl.gz \
    --held-out perov/held_out.jsonl.gz perov/judge.jsonl.gz --aim dir_gap=1:3 --out flow-perov.json

Validity and coverage are measured by ``usual.py``, for all generators alike. Aims are judged by the labels of held-out
crystals: of what was drawn, those are counted that match a labelled crystal of their formula.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from mlcalc.crystals.io import LabelledCrystal, read_crystals
from mlcalc.crystals.matching import match_error
from mlcalc.discovery._benchmark_statistics import share
from mlcalc.errors import GeneratorError
from mlcalc.files import write_atomic
from mlcalc.generators import Constraints
from mlcalc.generators._flow_data import to_atoms
from mlcalc.generators._flow_sampling import GeometrySampler, Schedule
from mlcalc.generators._flow_settings import FlowSettings
from mlcalc.generators._split import split_by_formula
from mlcalc.generators.flow import FlowGenerator
from mlcalc.generators.training import read_generator_settings

RESAMPLES = 1000


def percent(hits: Any, seed: int) -> dict[str, float]:
    flags = [bool(h) for h in hits]
    if not flags:
        return {"n": 0}
    found = share(flags, list(range(len(flags))), RESAMPLES, seed)
    return {**{k: 100 * v for k, v in asdict(found).items() if isinstance(v, float)}, "n": len(flags)}


def formula(atoms: Atoms) -> str:
    return str(atoms.symbols.formula.reduce()[0].format("hill"))


def split(config: Path) -> tuple[list[LabelledCrystal], list[LabelledCrystal]]:
    """Return what a training run trained on and what it held out."""
    settings = read_generator_settings(config)[1]
    assert isinstance(settings, FlowSettings)
    items = [i for path in settings.data for i in read_crystals(path) if len(i.atoms) <= settings.most_atoms]
    counts = [i.atoms.symbols.formula.count() for i in items]
    kept, held = split_by_formula(counts, settings.validation_fraction, settings.seed)
    return [items[k] for k in kept], [items[k] for k in held]


def free(generator: FlowGenerator, n: int, seed: int) -> dict[str, Any]:
    """Draw n crystals and time it."""
    anything = Constraints(n_atoms=(1, 20))
    list(generator.sample(1, anything, seed + 1))
    wall, processor = time.perf_counter(), time.process_time()
    drawn = list(generator.sample(n, anything, seed))
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    rejected = sum(c.provenance.details["rejected"] for c in drawn) / n
    groups = [c.provenance.found_space_group for c in drawn]
    return {
        "n": n,
        "per_second": n / wall,
        "per_processor_second": n / processor,
        "rejected_per_candidate": rejected,
        "P1_percent": 100 * sum(g in (None, 1) for g in groups) / n,
    }


def by_formula(
    generator: FlowGenerator, targets: list[Atoms], steps: int, slope: float, seed: int
) -> tuple[dict[str, Any], list[bool]]:
    """Draw one crystal for each target, of its formula and size, nothing rejected, and match it."""
    networks = generator._loaded.networks
    index = {symbol: k for k, symbol in enumerate(networks.elements)}
    counts = [np.bincount([index[s] for s in a.symbols], minlength=len(index)) for a in targets]
    sampler = GeometrySampler(networks.geometry, networks.scales, Schedule(steps, slope))
    errors: list[float | None] = []
    start = time.process_time()
    drawn = []
    for first in range(0, len(targets), 64):
        rows = range(first, min(first + 64, len(targets)))
        rngs = [np.random.default_rng([seed, k]) for k in rows]
        untold = torch.zeros(len(rows), 2 * len(networks.properties))
        drawn += sampler.draw([counts[k] for k in rows], untold, None, rngs)
    seconds = time.process_time() - start
    for row, target in zip(drawn, targets, strict=True):
        errors.append(match_error(to_atoms(row.species, row.coordinates, row.shape, networks.elements), target))
    found = [e for e in errors if e is not None]
    hits = [e is not None for e in errors]
    return {
        "steps": steps,
        "slope": slope,
        "match": percent(hits, seed),
        "rms": float(np.mean(found)) if found else None,
        "rms_median": float(np.median(found)) if found else None,
        "match_below_0.1": percent([e is not None and e < 0.1 for e in errors], seed),
        "per_processor_second": len(targets) / seconds,
    }, hits


def twins(crystals: list[Atoms], most: int, seed: int) -> dict[str, Any]:
    """Return how often two crystals of one formula match: what a guess between them is worth."""
    groups: dict[str, list[Atoms]] = defaultdict(list)
    for atoms in crystals:
        groups[formula(atoms)].append(atoms)
    pairs = [g for g in groups.values() if len(g) == 2]
    order = np.random.default_rng(seed).permutation(len(pairs))[:most]
    hits = [match_error(pairs[k][0], pairs[k][1]) is not None for k in order]
    return {"formulas_with_two": len(pairs), "formulas": len(groups), "twins_match": percent(hits, seed)}


def aimed(
    generator: FlowGenerator, held: list[LabelledCrystal], label: str, ends: tuple[float, float], n: int, seed: int
) -> dict[str, Any]:
    """Aim at a range, and look up the labels of what is drawn among held-out crystals."""
    labelled: dict[str, list[LabelledCrystal]] = defaultdict(list)
    for item in held:
        if label in item.labels:
            labelled[formula(item.atoms)].append(item)
    base = [ends[0] <= i.labels[label] <= ends[1] for group in labelled.values() for i in group]
    drawn = generator.sample(n, Constraints(n_atoms=(1, 20), properties={label: ends}), seed)
    hits, values = [], []
    for candidate in drawn:
        for item in labelled.get(formula(candidate.atoms), []):
            if match_error(candidate.atoms, item.atoms) is not None:
                values.append(item.labels[label])
                hits.append(ends[0] <= values[-1] <= ends[1])
                break
    return {
        "label": label,
        "range": list(ends),
        "guidance": generator.guidance,
        "n": n,
        "base": percent(base, seed),
        "in_range": percent(hits, seed),
        "median": float(np.median(values)) if values else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, help="name of weights that ship, or a file")
    parser.add_argument("--training", type=Path, nargs="+", help="what the weights were trained on")
    parser.add_argument("--held-out", type=Path, nargs="+", help="what they have not seen")
    parser.add_argument("--config", type=Path, help="of the training, instead of both: its own split by formula")
    parser.add_argument("-n", type=int, default=1000, help="crystals drawn freely (0: none)")
    parser.add_argument("--targets", type=int, default=500, help="held-out crystals to find from their formula")
    parser.add_argument("--schedules", nargs="+", default=["30,10"], help="steps,slope; several")
    parser.add_argument("--aim", nargs="*", default=[], help="LABEL=LOW:HIGH")
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 2.0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    a = parser.parse_args()
    torch.set_num_threads(1)
    generator = FlowGenerator(a.weights)
    if a.config:
        trained, held = split(a.config)
    elif a.training and a.held_out:
        trained, held = (
            [item for path in paths for item in read_crystals(path) if len(item.atoms) <= 20]
            for paths in (a.training, a.held_out)
        )
    else:
        parser.error("give --config, or --training and --held-out")
    training = [item.atoms for item in trained]
    held = [item for item in held if set(item.atoms.symbols) <= set(generator.elements)]
    seen = {formula(x) for x in training}
    overlap = sum(formula(item.atoms) in seen for item in held)
    result: dict[str, Any] = {"model_hash": generator.model_hash, "held_out": len(held), "formulas_seen": overlap}

    def keep(name: str, value: Any) -> None:
        result[name] = value
        print(name, json.dumps(value), flush=True)
        write_atomic(a.out, json.dumps(result, indent=1) + "\n")

    order = np.random.default_rng(a.seed).permutation(len(held))[: a.targets]
    targets = [held[k].atoms for k in order]
    # Asked again about the same weights, what was found stays.
    before = json.loads(a.out.read_text(encoding="utf-8")) if a.out.is_file() else {}
    before = (
        before if before.get("model_hash") == generator.model_hash and before.get("targets") == len(targets) else {}
    )
    keep("targets", len(targets))
    rows = []
    for text in a.schedules:
        steps, slope = int(text.split(",")[0]), float(text.split(",")[1])
        known = [r for r in before.get("by_formula", []) if (r["steps"], r["slope"]) == (steps, slope)]
        rows.append(known[0] if known else by_formula(generator, targets, steps, slope, a.seed)[0])
        keep("by_formula", rows)
    keep("twins", before.get("twins") or twins([*training, *(item.atoms for item in held)], 300, a.seed))
    if a.n:
        keep("free", free(generator, a.n, a.seed))
    aims = []
    for text in a.aim:
        label, ends = text.split("=")
        low, high = map(float, ends.split(":"))
        for guidance in a.guidance:
            guided = FlowGenerator(a.weights, guidance=guidance)
            try:
                aims.append(aimed(guided, held, label, (low, high), max(a.n, 300), a.seed))
            except GeneratorError as error:
                aims.append({"label": label, "guidance": guidance, "error": str(error)})
            keep("aimed", aims)


if __name__ == "__main__":
    main()
