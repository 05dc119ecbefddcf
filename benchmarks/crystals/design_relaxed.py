"""Print how far above the hull a foundation potential finds designed perovskites, after relaxation, beside known ones.

python benchmarks/crystals/design.py perov --target "heat_all<0.5" --keep designed …
python benchmarks/crystals/design_relaxed.py perov designed/heat_all_0.5.extxyz --data $MLCALC_DATA/crystals

The folder is that of perov_split.py. Crystals are relaxed, cell and positions, and their energies above the hull of
published formation energies are taken: metastable is what lies at most 0.1 eV/atom above it, stable what does not lie
above it, and the lowest tenth what lies lower than nine tenths of the known crystals do. Where the hull holds no
compound of exactly a crystal's elements this flatters, so that those where it does are counted apart (``covered``),
beside all crystals of the parts ``held_out`` and ``judge`` of which this is true. The labels ``heat_all`` are heats
against the competing phases by other DFT settings; how well both agree on crystals of the part ``held_out`` is printed,
and what the potential says of known crystals that are in range by their labels, as a design that always hits would be.
What does not relax is none of it.
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
BELOW = (0.5, 0.2)  # labels of known crystals that lie where a design aims
HIGHEST = {"metastable": 0.1, "stable": 0.0}  # eV per atom above the hull


def some(crystals: Sequence[LabelledCrystal], n: int, seed: int) -> list[LabelledCrystal]:
    order = np.random.default_rng(seed).permutation(len(crystals))[:n]
    return [crystals[k] for k in order.tolist()]


@dataclass(frozen=True)
class Relaxed:
    """What became of crystals: eV per atom above the hull (NaN where unknown), and how many kept their structure.

    ``covered``: whether the hull holds a compound of exactly a crystal's elements.
    """

    above: np.ndarray
    covered: np.ndarray
    converged: np.ndarray
    same: np.ndarray

    def part(self, where: np.ndarray) -> Relaxed:
        """Return some of them."""
        return Relaxed(self.above[where], self.covered[where], self.converged[where], self.same[where])


def relaxed(crystals: Sequence[Atoms], calculator: Any, hull: JudgingHull) -> Relaxed:
    """Relax and judge; ``same`` are those that pymatgen's matcher takes for what they were."""
    above, converged, same = (
        np.full(len(crystals), np.nan),
        np.zeros(len(crystals), bool),
        np.zeros(len(crystals), bool),
    )
    results = relax_many(list(crystals), calculator, cell="full", fmax=0.05)
    for k, (before, result) in enumerate(zip(crystals, results, strict=True)):
        if result.error or not result.converged:
            continue
        height = hull(result.atoms, result.energy_ev)
        above[k] = np.nan if height is None else height
        converged[k] = True
        same[k] = match_error(result.atoms, before) is not None
    return Relaxed(above, np.array([hull.covers(a) for a in crystals]), converged, same)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("designed", type=Path, nargs="+", help="extended XYZ of designed crystals")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with mp_crystals_train and mp_formation_energies"
    )
    parser.add_argument("--potential", default="chgnet-0.3.0")
    parser.add_argument("-n", type=int, default=64, help="crystals of each file")
    parser.add_argument("--labelled", type=int, default=200, help="crystals of held_out to compare with")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    calculator = MLCalculator(arguments.potential, dtype="float32")
    known = read_crystals(arguments.data / "mp_crystals_train.jsonl.gz")
    hull = published_hull(arguments.data / "mp_formation_energies.jsonl.gz", known, calculator, seed=arguments.seed)
    print(hull.facts.sentence())
    tested = some(read_crystals(arguments.folder / "held_out.jsonl.gz"), arguments.labelled, arguments.seed)
    labels = np.array([c.labels[LABEL] for c in tested])

    unseen = [c for part in ("held_out", "judge") for c in read_crystals(arguments.folder / f"{part}.jsonl.gz")]
    there = [c for c in unseen if hull.covers(c.atoms)]
    known_ones = relaxed([c.atoms for c in tested], calculator, hull)
    known_there = relaxed([c.atoms for c in there], calculator, hull)
    tenths = {name: float(np.nanpercentile(x.above, 10)) for name, x in (("all", known_ones), ("covered", known_there))}

    def judged(what: str, found: Relaxed) -> dict[str, Any]:
        counts = {"crystals": len(found.above), "converged": int(found.converged.sum()), "same": int(found.same.sum())}
        rows: dict[str, Any] = dict(counts)
        print(f"\n{what}: {counts['converged']} of {len(found.above)} relaxed, {counts['same']} the same after it")
        for name, where in (("all", np.ones(len(found.above), bool)), ("covered", found.covered)):
            above = found.above[where]
            if not len(above):
                continue
            rows[name] = {"n": len(above), "above_hull_ev_per_atom": [round(float(x), 4) for x in above]}
            texts = []
            for kind, highest in {**HIGHEST, "lowest tenth": tenths[name]}.items():
                hits = (above <= highest).tolist()  # NaN is not
                one = share(hits, list(range(len(hits))), RESAMPLES, arguments.seed)
                rows[name][kind] = one.to_dict()
                texts.append(f"{kind} {100 * one.value:.1f} % [{100 * one.low:.1f}, {100 * one.high:.1f}]")
            print(f"  {name}, {len(above)}: {', '.join(texts)}, median {np.nanmedian(above):.3f} eV/atom")
        return rows

    results = {
        "held out": judged("held out", known_ones),
        "covered": judged("held out and judge, covered", known_there),
    }
    for name, where in (("all", ~np.isnan(known_ones.above)), ("covered", known_ones.covered)):
        where = where & ~np.isnan(known_ones.above)
        rank = float(spearmanr(known_ones.above[where], labels[where]).statistic)
        results["held out"][name]["rank_correlation"] = rank
        print(f"  {name}: rank correlation with {LABEL} {rank:.2f}, {where.sum()} crystals")
    labels_there = np.array([c.labels[LABEL] for c in there])
    for cut in BELOW:
        for what, group, values in (("held out", known_ones, labels), ("covered", known_there, labels_there)):
            name = f"{what}, {LABEL} below {cut}"
            results[name] = judged(name, group.part(values < cut))
    for path in arguments.designed:
        candidates = list(read_candidates(path))[: arguments.n]
        results[path.stem] = judged(path.stem, relaxed([c.atoms for c in candidates], calculator, hull))
    if arguments.json:
        settings = {"potential": arguments.potential, "n": arguments.n, "seed": arguments.seed, "tenths": tenths}
        write_json(arguments.json, {**settings, "rows": results})


if __name__ == "__main__":
    main()
