"""Print how far above the hull a foundation potential finds designed perovskites, after relaxation, beside known ones.

python benchmarks/crystals/design.py perov --target "heat_all<0.5" --keep designed …
python benchmarks/crystals/design_relaxed.py perov designed/heat_all_0.5.extxyz --below 0.5 \
    --data $MLCALC_DATA/crystals --json relaxed.json

The folder is that of perov_split.py. Crystals are relaxed, cell and positions, and their energies above the hull of
published formation energies are taken. The labels ``heat_all`` are heats against the competing phases by other DFT
settings; how well both agree on crystals of the part ``held_out`` is printed. In range is therefore what lies as low as
that share of held-out crystals whose label is in range; and, apart from all labels, what is metastable (0.1 eV/atom) is
counted. What does not relax is neither.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from scipy.stats import spearmanr

from mlcalc import MLCalculator
from mlcalc.crystals.io import LabelledCrystal, read_crystals
from mlcalc.crystals.matching import match_error
from mlcalc.discovery._benchmark_hull import JudgingHull, published_hull
from mlcalc.discovery._benchmark_statistics import share
from mlcalc.generators import read_candidates
from mlcalc.records import write_json
from mlcalc.workflows import relax_many

RESAMPLES = 1000
LABEL = "heat_all"
METASTABLE = 0.1  # eV per atom


def some(crystals: Sequence[LabelledCrystal], n: int, seed: int) -> list[LabelledCrystal]:
    order = np.random.default_rng(seed).permutation(len(crystals))[:n]
    return [crystals[k] for k in order.tolist()]


@dataclass(frozen=True)
class Relaxed:
    """What became of crystals: eV per atom above the hull (NaN where unknown), and how many kept their structure."""

    above: np.ndarray
    converged: int
    same: int


def relaxed(crystals: Sequence[Atoms], calculator: Any, hull: JudgingHull) -> Relaxed:
    """Relax and judge; ``same`` counts those that pymatgen's matcher takes for what they were."""
    above, converged, same = [], 0, 0
    for before, result in zip(crystals, relax_many(list(crystals), calculator, cell="full", fmax=0.05), strict=True):
        if result.error or not result.converged:
            above.append(np.nan)
            continue
        height = hull(result.atoms, result.energy_ev)
        above.append(np.nan if height is None else height)
        converged += 1
        same += match_error(result.atoms, before) is not None
    return Relaxed(np.array(above), converged, same)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("designed", type=Path, nargs="+", help="extended XYZ of designed crystals")
    parser.add_argument("--below", type=float, nargs="+", required=True, help="end of each file's range, eV per atom")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with mp_crystals_train and mp_formation_energies"
    )
    parser.add_argument("--potential", default="chgnet-0.3.0")
    parser.add_argument("-n", type=int, default=64, help="crystals of each file")
    parser.add_argument("--labelled", type=int, default=200, help="crystals of held_out to compare with")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if len(arguments.below) != len(arguments.designed):
        parser.error("--below needs one number for each file")
    torch.set_num_threads(1)
    calculator = MLCalculator(arguments.potential, dtype="float32")
    known = read_crystals(arguments.data / "mp_crystals_train.jsonl.gz")
    hull = published_hull(arguments.data / "mp_formation_energies.jsonl.gz", known, calculator, seed=arguments.seed)
    print(hull.facts.sentence())
    tested = some(read_crystals(arguments.folder / "held_out.jsonl.gz"), arguments.labelled, arguments.seed)
    truth = np.array([c.labels[LABEL] for c in tested])
    known_ones = relaxed([c.atoms for c in tested], calculator, hull)
    there = ~np.isnan(known_ones.above)
    agreement = float(spearmanr(known_ones.above[there], truth[there]).statistic)
    print(f"{there.sum()} of {len(tested)} held-out crystals relaxed, rank correlation with {LABEL} {agreement:.2f}")

    def shares(above: np.ndarray, limit: float) -> dict[str, Any]:
        rows = {"in_range": above <= limit, "metastable": above <= METASTABLE}  # NaN is neither
        return {
            name: share(hits.tolist(), list(range(len(hits))), RESAMPLES, arguments.seed).to_dict()
            for name, hits in rows.items()
        }

    results: dict[str, Any] = {}
    for path, end in zip(arguments.designed, arguments.below, strict=True):
        candidates = list(read_candidates(path))[: arguments.n]
        found = relaxed([c.atoms for c in candidates], calculator, hull)
        base = float((truth <= end).mean())
        limit = float(np.quantile(known_ones.above[there], base))
        rows = {"designed": shares(found.above, limit), "held out": shares(known_ones.above, limit)}
        print(
            f"\n{LABEL} < {end}: {path.name}, {found.converged} of {len(candidates)} relaxed, {found.same} the same "
            f"after it; {100 * base:.1f} % of held-out labels in range: as low as {limit:.3f} eV/atom above hull"
        )
        for name, row in rows.items():
            for measure, one in row.items():
                low, value, high = (100 * one[key] for key in ("low", "value", "high"))
                print(f"  {name}, {measure}: {value:.1f} % [{low:.1f}, {high:.1f}]")
        results[f"{LABEL}<{end}"] = {
            "asked": len(candidates),
            "converged": found.converged,
            "same_structure": found.same,
            "median_above_hull_ev_per_atom": float(np.nanmedian(found.above)),
            "labels_in_range": base,
            "limit_ev_per_atom": limit,
            **rows,
        }
    if arguments.json:
        settings = {"potential": arguments.potential, "n": arguments.n, "seed": arguments.seed}
        facts = {
            "held_out": len(tested),
            "relaxed": int(there.sum()),
            "rank_correlation": agreement,
            "median_above_hull_ev_per_atom": float(np.median(known_ones.above[there])),
        }
        write_json(arguments.json, {**settings, **facts, "targets": results})


if __name__ == "__main__":
    main()
