"""Print the usual measures of generators on perov_5, with intervals: valid structures and compositions, coverage.

python benchmarks/crystals/usual.py perov vae gan --scale $MLCALC_DATA/crystals/mp_crystals_train.jsonl.gz

The folder is that of perov_split.py. NAME=FILE takes weights from a file, NAME:FILE candidates written before. Crystals
are judged as the network draws them: no distance is asked for, and images that describe no crystal count as invalid.
Coverage is of crystals whose formulas no generator saw. A sample of the training set is judged as well.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from mlcalc.crystals import closest_pair
from mlcalc.crystals.charges import is_charge_balanced
from mlcalc.crystals.io import read_crystals
from mlcalc.discovery._benchmark_statistics import share
from mlcalc.discovery._coverage import (
    CUTOFFS,
    Fingerprints,
    composition_is_valid,
    coverage,
    fingerprints,
    structure_is_valid,
)
from mlcalc.discovery.novelty import reduced_formula
from mlcalc.files import atomic_path
from mlcalc.generators import Constraints, make_generator, read_candidates
from mlcalc.records import write_json

MEASURES = {
    "structure": "valid structure",
    "bonds": "0.6 of covalent radii",
    "composition": "valid composition",
    "states": "one state each",
    "both": "both valid",
    "precision": "coverage precision",
    "recall": "coverage recall",
    "new": "formula not in training",
    "different": "different formulas",
}
RESAMPLES = 1000


def cached(crystals: list[Atoms], folder: Path, what: str) -> Fingerprints:
    """Fingerprints of crystals, a hundred at a time, from files where they were made before."""
    found = []
    for start in range(0, len(crystals), 100):
        part = crystals[start : start + 100]
        digest = hashlib.sha256()
        for atoms in part:
            digest.update(atoms.numbers.tobytes() + atoms.positions.tobytes() + atoms.cell.array.tobytes())
        path = folder / f"fingerprints-{digest.hexdigest()[:16]}.npz"
        if not path.is_file():
            print(f"fingerprints of {len(part)} crystals from {start} on: {what}", flush=True)
            made = fingerprints(part)
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.savez(file, structure=made.structure, composition=made.composition)
        with np.load(path) as file:
            found.append(Fingerprints(file["structure"], file["composition"]))
    return Fingerprints(np.concatenate([f.structure for f in found]), np.concatenate([f.composition for f in found]))


def some(crystals: list[Atoms], n: int, seed: int) -> list[Atoms]:
    """The first n of a fixed order, so that more of them hold fewer."""
    return [crystals[k] for k in np.random.default_rng(seed).permutation(len(crystals))[:n].tolist()]


def drawn(source: str, n: int, seed: int) -> tuple[list[Atoms], int, dict[str, Any]]:
    """Return crystals, how many attempts described none, and facts."""
    name, _, file = source.partition(":")
    if file:
        candidates, seconds = list(read_candidates(file))[:n], float("nan")
    else:
        name, _, weights = source.partition("=")
        options = {"weights": weights} if weights else {}
        generator = make_generator(name, min_distance=0.0, **options)
        start = time.process_time()
        candidates = list(generator.sample(n, Constraints(n_atoms=(1, 5)), seed))
        seconds = time.process_time() - start
    rejected = sum(c.provenance.details.get("rejected", 0) for c in candidates)
    facts = {
        "model_hash": candidates[0].provenance.model_hash,
        "undecodable": rejected,
        "per_processor_second": len(candidates) / seconds,
    }
    return [c.atoms for c in candidates], rejected, facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("generators", nargs="+")
    parser.add_argument("-n", type=int, default=500)
    parser.add_argument("--reference", type=int, default=2000, help="crystals to be covered, at most")
    parser.add_argument("--scale", type=Path, required=True, help="crystals whose compositions scale the fingerprints")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    parts = {
        part: [item.atoms for item in read_crystals(arguments.folder / f"{part}.jsonl.gz")]
        for part in ("train", "judge", "held_out")
    }
    known = {reduced_formula(a) for a in parts["train"]}
    reference = some(parts["judge"] + parts["held_out"], arguments.reference, arguments.seed)
    prints = cached(reference, arguments.folder, "to be covered")
    scale = cached_scale(arguments.scale, arguments.folder)
    rows: dict[str, Any] = {}
    facts: dict[str, Any]
    for source in ("train", *arguments.generators):
        if source == "train":
            crystals, failed, facts = some(parts["train"], arguments.n, arguments.seed), 0, {}
        else:
            crystals, failed, facts = drawn(source, arguments.n, arguments.seed)
        row = judged(crystals, failed, cached(crystals, arguments.folder, source), prints, scale, known, arguments.seed)
        name = source.replace("=", ":").split(":")[0]
        rows[name] = {**facts, "crystals": len(crystals), **row}
        print(f"\n{name}: {len(crystals)} crystals, {failed} images that describe none")
        for key, text in MEASURES.items():
            one = row[key]
            print(f"  {text:26s} {100 * one['value']:5.1f} %  [{100 * one['low']:.1f}, {100 * one['high']:.1f}]")
    if arguments.json:
        settings = {
            "n": arguments.n,
            "reference": arguments.reference,
            "seed": arguments.seed,
            "cutoffs": CUTOFFS["perov_5"],
        }
        write_json(arguments.json, {"settings": settings, "rows": rows})


def cached_scale(path: Path, folder: Path) -> np.ndarray:
    """Magpie's numbers of every sixth crystal of a file: a thousand or two fix means and spreads well enough."""
    from matminer.featurizers.composition import ElementProperty
    from pymatgen.core import Composition

    stored = folder / f"scale-{path.name}.npy"
    if not stored.is_file():
        featurizer = ElementProperty.from_preset("magpie")
        formulas = [str(item.atoms.symbols) for item in read_crystals(path)[::6]]
        with atomic_path(stored) as temporary, temporary.open("wb") as file:
            np.save(file, np.array([featurizer.featurize(Composition(f)) for f in formulas]))
    return np.asarray(np.load(stored))


def judged(
    crystals: list[Atoms],
    failed: int,
    prints: Fingerprints,
    reference: Fingerprints,
    scale: np.ndarray,
    known: set[str],
    seed: int,
) -> dict[str, Any]:
    """Return each measure with its interval; what describes no crystal is in every denominator but that of recall."""
    precision, recall = coverage(prints, reference, scale)
    formulas = [reduced_formula(a) for a in crystals]
    hits = {
        "structure": [structure_is_valid(a) for a in crystals],
        "bonds": [closest_pair(a, 0.6) is None for a in crystals],
        "composition": [composition_is_valid(a) for a in crystals],
        "states": [is_charge_balanced(a) for a in crystals],
        "precision": precision.tolist(),
        "new": [f not in known for f in formulas],
        "different": [formulas.index(f) == k for k, f in enumerate(formulas)],
    }
    hits["both"] = [a and b for a, b in zip(hits["structure"], hits["composition"], strict=True)]
    hits = {name: [*flags, *[False] * failed] for name, flags in hits.items()} | {"recall": recall.tolist()}
    return {name: share(hits[name], list(range(len(hits[name]))), RESAMPLES, seed).to_dict() for name in MEASURES}


if __name__ == "__main__":
    main()
