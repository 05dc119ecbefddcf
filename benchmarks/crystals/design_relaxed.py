"""Print how many designed perovskites a foundation potential finds in a range of heats of formation, after relaxation.

python benchmarks/crystals/design.py perov --target "heat_all<0.5" --keep designed …
python benchmarks/crystals/design_relaxed.py perov designed/heat_all_0.5.extxyz --below 0.5 \
    --data $MLCALC_DATA/crystals --json relaxed.json

The folder is that of perov_split.py. Crystals are relaxed, cell and positions, and their energies above the hull of
published formation energies are taken; a straight line from these to the labels ``heat_all`` (heats against the
competing phases, of other DFT settings) is fitted on crystals of the part ``judge``. What that is worth is printed for
crystals of ``held_out``. Neither part was seen by the generator. What does not relax counts as out of range.
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
from scipy.stats import spearmanr, theilslopes

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
    parser.add_argument("--labelled", type=int, default=200, help="labelled crystals to fit to, and to test with")
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
    fitted, tested = (
        some(read_crystals(arguments.folder / f"{part}.jsonl.gz"), arguments.labelled, arguments.seed)
        for part in ("judge", "held_out")
    )
    learnt, unseen = (relaxed([c.atoms for c in part], calculator, hull) for part in (fitted, tested))
    labels, truth = (np.array([c.labels[LABEL] for c in part]) for part in (fitted, tested))
    good = ~np.isnan(learnt.above)
    slope, middle, *_ = theilslopes(labels[good], learnt.above[good])
    said = slope * unseen.above + middle
    there = ~np.isnan(said)
    errors = {
        "fitted_to": int(good.sum()),
        "tested_on": int(there.sum()),
        "of": len(tested),
        "slope": float(slope),
        "intercept": float(middle),
        "mae": float(np.abs(said - truth)[there].mean()),
        "standard_deviation": float(truth[there].std()),
        "rank_correlation": float(spearmanr(said[there], truth[there]).statistic),
        "same_structure": unseen.same,
    }
    print(
        f"judge: {LABEL} = {slope:.2f} × energy above hull + {middle:.2f} eV/atom, by {errors['fitted_to']} crystals; "
        f"on {errors['tested_on']} of {errors['of']} others MAE {errors['mae']:.3f} (standard deviation "
        f"{errors['standard_deviation']:.3f}), rank correlation {errors['rank_correlation']:.2f}"
    )
    results: dict[str, Any] = {}
    for path, end in zip(arguments.designed, arguments.below, strict=True):
        candidates = list(read_candidates(path))[: arguments.n]
        found = relaxed([c.atoms for c in candidates], calculator, hull)
        hits = (slope * found.above + middle <= end).tolist()  # NaN is out of range
        rows = {
            "designed": share(hits, list(range(len(hits))), RESAMPLES, arguments.seed),
            "held-out crystals, by this judge": share(
                (said <= end).tolist(), list(range(len(said))), RESAMPLES, arguments.seed
            ),
            "held-out crystals, by their labels": share(
                (truth <= end).tolist(), list(range(len(truth))), RESAMPLES, arguments.seed
            ),
        }
        called = said <= end
        print(
            f"\n{LABEL} < {end}: {path.name}, {found.converged} of {len(candidates)} relaxed, "
            f"{found.same} the same after it"
        )
        for name, one in rows.items():
            print(f"  {name}: {100 * one.value:.1f} % [{100 * one.low:.1f}, {100 * one.high:.1f}]")
        print(
            f"  of {called.sum()} held-out crystals that the judge calls in range {(called & (truth <= end)).sum()} are"
        )
        results[f"{LABEL}<{end}"] = {
            "asked": len(candidates),
            "converged": found.converged,
            "same_structure": found.same,
            "median_above_hull_ev_per_atom": float(np.nanmedian(found.above)),
            "called_in_range": int(called.sum()),
            "of_these_right": int((called & (truth <= end)).sum()),
            **{name: one.to_dict() for name, one in rows.items()},
        }
    if arguments.json:
        settings = {"potential": arguments.potential, "n": arguments.n, "seed": arguments.seed}
        write_json(arguments.json, {**settings, "judge": errors, "targets": results})


if __name__ == "__main__":
    main()
