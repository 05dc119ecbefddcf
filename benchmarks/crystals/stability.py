"""Train the stability score, and print what it is worth on chemical systems that it has not seen.

python benchmarks/crystals/stability.py --data $MLCALC_DATA/crystals --labels labels/labels.jsonl --out stability

``labels.jsonl`` is made by ``stability_labels.py``. Known crystals teach what is stable, and their displaced and
strained copies what relaxes to them; crystals of the generators teach the rest. The same command goes on after a kill,
and when the training is done only prints.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

import ase.io.jsonio
import numpy as np
import torch
from ase import Atoms
from scipy.stats import spearmanr

from mlcalc.crystals.io import LabelledCrystal, read_crystals
from mlcalc.discovery._benchmark_hull import Hulls, published_hulls
from mlcalc.discovery.benchmark import BenchmarkSettings, conditions_of
from mlcalc.discovery.formation import read_published
from mlcalc.discovery.stability import StabilityModel
from mlcalc.discovery.stability_training import LabelledStructures, StabilityFit, StabilityTrainingSettings
from mlcalc.records import write_json

# Chemical systems kept apart: of the benchmark of generators, and parts of a hundred of the others.
BENCHMARK, TEST, VALIDATION = 128, 12, 4
METASTABLE = 0.1
KEPT = 1 / 3


def system(atoms: Atoms) -> str:
    return "-".join(sorted(set(atoms.get_chemical_symbols())))


def part(name: str, benchmark: set[str]) -> str:
    """Return where a chemical system belongs: by its name alone, so that all its crystals are in one part."""
    place = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 100
    if name in benchmark or place < TEST:
        return "test"
    return "validation" if place < TEST + VALIDATION else "training"


def read_labels(path: Path) -> list[dict[str, Any]]:
    """Return what was labelled, each crystal once; a block that was cut short has been made again."""
    found: dict[tuple[str, int, int], dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record.get("e_above_hull") is not None:
            found[record["source"], record["block"], record["number"]] = record
    for record in found.values():
        record["atoms"], record["relaxed"] = (ase.io.jsonio.decode(record[key]) for key in ("atoms", "relaxed"))
    return [found[key] for key in sorted(found)]


def of_known(crystal: LabelledCrystal) -> LabelledStructures:
    return LabelledStructures(crystal.atoms, (), crystal.labels["formation_energy_per_atom"])


def of_record(record: dict[str, Any], weight: int) -> LabelledStructures:
    return LabelledStructures(record["atoms"], (record["relaxed"],), record["formation_energy_per_atom"], weight)


def comparison(predicted: Sequence[float | None], true: Sequence[float]) -> dict[str, float]:
    """Return errors, rank correlation, and the share of metastable crystals, of all and of the best third."""
    good = [k for k, value in enumerate(predicted) if value is not None and np.isfinite(value)]
    x, y = np.array([predicted[k] for k in good], dtype=float), np.array([true[k] for k in good])
    best = np.argsort(x, kind="stable")[: ceil(KEPT * len(x))]
    stable = y <= METASTABLE
    return {
        "crystals": len(y),
        "mae": float(np.abs(x - y).mean()),
        "median_absolute_error": float(np.median(np.abs(x - y))),
        "spearman": float(spearmanr(x, y).statistic),
        "metastable_percent": float(100 * stable.mean()),
        "metastable_of_best_third_percent": float(100 * stable[best].mean()),
    }


def figures(model: StabilityModel, known: list[LabelledCrystal], made: list[dict[str, Any]], hulls: Hulls) -> Any:
    """Return what each score says of held-out crystals, by source.

    How far a generated crystal is above a published hull is known only where that has a compound of its system; below
    the hull it is taken to lie on it, as known ones do: how far below is a matter of what the hull lacks.
    """
    found: dict[str, Any] = {}
    own = model.hulls([crystal.atoms for crystal in known])
    groups = {source: [r for r in made if r["source"] == source] for source in sorted({r["source"] for r in made})}
    for name, every in {**groups, "all generated": made}.items():
        energies = list(model.predict([r["atoms"] for r in every]))
        found[name] = {"formation energy": comparison(energies, [r["formation_energy_per_atom"] for r in every])}
        rows = [r for r in every if hulls.covers(r["atoms"])]
        structures, true = [r["atoms"] for r in rows], [max(r["e_above_hull"], 0.0) for r in rows]
        predicted = model.predict(structures)
        heights = [hulls.above(a, e) if np.isfinite(e) else None for a, e in zip(structures, predicted, strict=True)]
        found[name] |= {
            "stability": comparison(model.above(structures, own), true),
            "predicted energy above the published hull": comparison(heights, true),
            "energy of the cell as it is": comparison([r["initial_e_above_hull"] for r in rows], true),
        }
    return found


def of_published(model: StabilityModel, crystals: list[LabelledCrystal]) -> dict[str, float]:
    """Return the error of formation energies of known crystals."""
    true = [c.labels["formation_energy_per_atom"] for c in crystals]
    return comparison(list(model.predict([c.atoms for c in crystals])), true)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="of mp_crystals_train and mp_formation_energies")
    parser.add_argument("--labels", type=Path, required=True, help="labels.jsonl of stability_labels.py")
    parser.add_argument("--out", type=Path, default=Path("stability"))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--weight", type=int, default=2, help="times that a generated crystal is seen in an epoch")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--weights", type=Path, help="only print what these weights are worth")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    known = [c for c in read_crystals(arguments.data / "mp_crystals_train.jsonl.gz") if "e_above_hull" in c.labels]
    asked = conditions_of([c.atoms for c in known], BENCHMARK, BenchmarkSettings(seed=0))
    benchmark = {"-".join(c.elements) for c in asked}
    made = read_labels(arguments.labels)
    hulls, _ = published_hulls(read_published(arguments.data / "mp_formation_energies.jsonl.gz"))
    parts: dict[str, list[LabelledStructures]] = {"training": [], "validation": [], "test": []}
    for crystal in known:
        parts[part(system(crystal.atoms), benchmark)].append(of_known(crystal))
    for record in made:
        parts[part(system(record["atoms"]), benchmark)].append(of_record(record, arguments.weight))
    print(
        f"{len(known)} known crystals, {len(made)} generated; { ({k: len(v) for k, v in parts.items()}) }", flush=True
    )
    if arguments.weights is None:
        settings = StabilityTrainingSettings(
            data=("mp_crystals_train.jsonl.gz", arguments.labels.name),
            out=str(arguments.out),
            epochs=arguments.epochs,
            training_data="mp_crystals_train (Materials Project, CC-BY-4.0), and crystals of the generators wyckoff, "
            "substitution and random relaxed with SevenNet-0",
            licence="CC-BY-4.0",
        )
        generated = sum(part(system(r["atoms"]), benchmark) == "training" for r in made)
        fit = StabilityFit(
            parts["training"],
            parts["validation"],
            settings,
            report=lambda row: print({k: round(v, 5) for k, v in row.items()}, flush=True),
            more={"generated": generated},
        )
        fit.run()
        arguments.weights = fit.weights_file
    model = StabilityModel.load(arguments.weights)
    held_known = [c for c in known if part(system(c.atoms), benchmark) == "test"]
    held_made = [r for r in made if part(system(r["atoms"]), benchmark) == "test"]
    found = figures(model, known, held_made, hulls)
    found["known crystals"] = {"formation energy": of_published(model, held_known)}
    start = time.perf_counter()
    model.predict([c.atoms for c in held_known])
    found["ms_per_crystal"] = 1000 * (time.perf_counter() - start) / len(held_known)
    write_json(arguments.out / "figures.json", {"model_hash": model.model_hash, **found})
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
