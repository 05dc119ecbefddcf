"""Print what a generator's crystals are like: rate, space groups, rejected attempts, uniqueness, novelty.

python benchmarks/crystals/generate.py wyckoff --reference $MLCALC_DATA/crystals/mp_crystals_train.jsonl.gz
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mlcalc.crystals import WyckoffCrystal, closest_pair, fingerprint
from mlcalc.crystals.duplicates import cluster_duplicates
from mlcalc.crystals.fingerprints import fingerprint_of
from mlcalc.crystals.io import read_crystals
from mlcalc.files import write_atomic
from mlcalc.generators import Constraints, make_generator


def known_fingerprints(path: Path) -> set[str]:
    if path.name == "crystals.json":  # described already
        rows = json.loads(path.read_text(encoding="utf-8"))["crystals"]
        return {fingerprint_of(WyckoffCrystal.from_dict(row)) for row in rows if row}
    return {fingerprint(item.atoms) for item in read_crystals(path)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("generator")
    parser.add_argument("-n", type=int, default=1000)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--atoms", type=int, default=20, help="largest number of atoms in the primitive cell")
    parser.add_argument("--formula")
    parser.add_argument("--plain", action="store_true", help="wyckoff as the network draws: no aim, known crystals too")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--reference", type=Path, help="crystals that are not new, or crystals.json of a training run")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    options: dict[str, Any] = {"weights": arguments.weights} if arguments.weights else {}
    if arguments.plain:
        options |= {"energy_above_hull": None, "guidance": 1.0, "known": True}
    generator = make_generator(arguments.generator, **options)
    constraints = Constraints(formula=arguments.formula, n_atoms=(1, arguments.atoms))
    list(generator.sample(1, constraints, arguments.seed + 1))  # tables are built once
    wall, processor = time.perf_counter(), time.process_time()
    drawn = list(generator.sample(arguments.n, constraints, arguments.seed))
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    n = len(drawn)
    groups = Counter(c.provenance.found_space_group for c in drawn)
    structures = [c.atoms for c in drawn]
    different = len(set(cluster_duplicates(structures, symprec=0.1)))
    figures = {
        "n": n,
        "per_second": n / wall,
        "per_processor_second": n / processor,
        "P1_percent": 100 * (groups[1] + groups[None]) / n,
        "space_groups": len(groups),
        "as_requested_percent": 100
        * sum(c.provenance.found_space_group == c.provenance.requested_space_group for c in drawn)
        / n,
        "rejected_per_candidate": sum(c.provenance.details.get("rejected", 0) for c in drawn) / n,
        "unique_percent": 100 * different / n,
        "atoms_mean": float(np.mean([len(a) for a in structures])),
        "closest_pair_median": float(np.median([p.ratio if (p := closest_pair(a, 1.5)) else 1.5 for a in structures])),
    }
    if arguments.reference:
        prints = known_fingerprints(arguments.reference)
        formulas = {text.split()[0] for text in prints}
        mine = [fingerprint(a) for a in structures]
        figures["new_formula_percent"] = 100 * sum(m.split()[0] not in formulas for m in mine) / n
        figures["new_fingerprint_percent"] = 100 * sum(m not in prints for m in mine) / n
    for name, value in figures.items():
        print(f"{name:26s} {value:10.3f}")
    if arguments.json:
        write_atomic(arguments.json, json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
