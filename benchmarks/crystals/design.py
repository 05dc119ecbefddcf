"""Print how many designed crystals a judge of its own finds in range, beside how many training crystals are.

python benchmarks/crystals/design.py perov --target "heat_all<0.5" --target "1<dir_gap<3" -n 200 --json design.json

The folder is that of perov_split.py. The judge is gradient boosting on elements and places of the sites (scikit-learn),
trained on the part `judge`, which no generator has seen; its error is that on `held_out`, which it has not seen either.
It also judges crystals that the same network draws when it is told the target, without any search, and those of the
generator flow, told the same.
"""

from __future__ import annotations

import argparse
import math
import re
import time
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii
from pymatgen.core import Element
from sklearn.ensemble import HistGradientBoostingRegressor

from mlcalc.crystals.io import LabelledCrystal, read_crystals
from mlcalc.discovery._benchmark_statistics import share
from mlcalc.discovery.novelty import reduced_formula
from mlcalc.generators import Constraints, write_candidates
from mlcalc.generators._image_setting import standard_setting
from mlcalc.generators._targets import parse_targets
from mlcalc.generators.design import Designer
from mlcalc.generators.flow import FlowGenerator
from mlcalc.records import write_json

RESAMPLES = 1000


@cache
def descriptors(symbol: str) -> tuple[float, ...]:
    element = Element(symbol)
    states = element.common_oxidation_states
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return (
            float(element.Z),
            float(element.group),
            float(element.row),
            float(element.X),
            float(covalent_radii[atomic_numbers[symbol]]),
            float(element.average_ionic_radius or 0),
            float(max(states, default=0)),
            float(min(states, default=0)),
            float(element.ionization_energy or 0),
            float(element.electron_affinity or 0),
        )


def features(atoms: Atoms) -> list[float]:
    """Elements site by site in one order, their means and spreads, charges, cell and places."""
    atoms = standard_setting(atoms)
    rows = np.array([descriptors(s) for s in atoms.symbols])
    charge = rows[:2, 6].sum() + rows[2:, 7].sum()
    places = np.cos(2 * np.pi * atoms.get_scaled_positions()[1:])
    return [
        *rows.ravel(),
        *rows.mean(axis=0),
        *rows.std(axis=0),
        float(charge),
        *atoms.cell.lengths(),
        atoms.get_volume(),
        *places.ravel(),
    ]


def table(crystals: Sequence[Atoms]) -> np.ndarray:
    return np.array([features(a) for a in crystals])


def labelled(path: Path, label: str) -> list[LabelledCrystal]:
    return [item for item in read_crystals(path) if label in item.labels]


def inside(values: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    return (values >= ends[0]) & (values <= ends[1])


def judge_of(
    folder: Path, label: str, ends: tuple[float, float]
) -> tuple[HistGradientBoostingRegressor, dict[str, Any]]:
    """Return the judge and its errors on crystals that it has not seen."""
    learnt, unseen = (labelled(folder / f"{part}.jsonl.gz", label) for part in ("judge", "held_out"))
    judge = HistGradientBoostingRegressor(max_iter=400, learning_rate=0.05, random_state=0)
    judge.fit(table([c.atoms for c in learnt]), [c.labels[label] for c in learnt])
    true = np.array([c.labels[label] for c in unseen])
    said = judge.predict(table([c.atoms for c in unseen]))
    called = inside(said, ends)
    errors = {
        "trained_on": len(learnt),
        "held_out": len(unseen),
        "mae": float(np.abs(said - true).mean()),
        "rmse": float(np.sqrt(((said - true) ** 2).mean())),
        "standard_deviation": float(true.std()),
        "called_in_range": int(called.sum()),
        "of_these_right": int((called & inside(true, ends)).sum()),
        "in_range": int(inside(true, ends).sum()),
    }
    return judge, errors


def verdict(judge: HistGradientBoostingRegressor, crystals: Sequence[Atoms], ends: tuple[float, float]) -> list[bool]:
    whole = [len(a) == 5 for a in crystals]  # the judge knows perovskites only; others are out of range
    said = judge.predict(
        table([a if ok else crystals[whole.index(True)] for a, ok in zip(crystals, whole, strict=True)])
    )
    return [bool(ok and hit) for ok, hit in zip(whole, inside(said, ends), strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--target", action="append", required=True)
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("--weights", type=Path, help="of the generator vae; default those that ship")
    parser.add_argument("--guidance", type=float, default=3.0, help="of the generator flow")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the crystals, as extended XYZ")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    designer = Designer(arguments.weights)
    flow = FlowGenerator(weights="flow-perov", guidance=arguments.guidance)
    training = read_crystals(arguments.folder / "train.jsonl.gz")
    known = {reduced_formula(item.atoms) for item in training}
    results: dict[str, Any] = {}
    for target in arguments.target:
        ranges = parse_targets(target, designer.conditions)
        if len(ranges) != 1:
            parser.error("one property at a time: the judge has one answer")
        ((label, ends),) = ranges.items()
        judge, errors = judge_of(arguments.folder, label, ends)
        seen = np.array([item.labels[label] for item in training if label in item.labels])
        base = share(inside(seen, ends).tolist(), list(range(len(seen))), RESAMPLES, arguments.seed)
        start = time.process_time()
        found = list(designer.design(target, arguments.n, None, arguments.seed))
        seconds = time.process_time() - start
        column = designer.conditions.properties.index(label)
        name = list(designer.conditions.targets)[column]
        limits = max(ends[0], designer.conditions.lowest[column]), min(ends[1], designer.conditions.highest[column])
        told = Constraints(n_atoms=(1, 5), properties={name: limits})
        drawn = list(designer.generator.sample(arguments.n, told, arguments.seed))
        rows = {"designed": found, "drawn, told the target": drawn}
        if label in flow.properties:
            asked = Constraints(n_atoms=(5, 5), properties={label: limits})
            rows["flow, told the target"] = list(flow.sample(arguments.n, asked, arguments.seed))
        result: dict[str, Any] = {
            "range": [None if math.isinf(e) else e for e in ends],
            "judge": errors,
            "base_rate": base.to_dict(),
            "seconds_per_crystal": seconds / arguments.n,
            "predicted_in_range": sum(c.provenance.details["reached"] for c in found),
            "new_formulas": sum(reduced_formula(c.atoms) not in known for c in found),
            "different_formulas": len({reduced_formula(c.atoms) for c in found}),
            "median_distance": float(np.median([c.provenance.details["distance"] for c in found])),
        }
        print(f"\n{target}: {100 * base.value:.2f} % of {len(seen)} labelled training crystals are in range")
        print(
            f"judge: MAE {errors['mae']:.3f}, RMSE {errors['rmse']:.3f} on {errors['held_out']} held-out crystals "
            f"(standard deviation {errors['standard_deviation']:.3f}); calls {errors['called_in_range']} in range, "
            f"{errors['of_these_right']} of them are, of {errors['in_range']}"
        )
        for name, some in rows.items():
            crystals = [c.atoms for c in some]
            one = share(verdict(judge, crystals, ends), list(range(len(crystals))), RESAMPLES, arguments.seed)
            result[name] = one.to_dict()
            print(
                f"{name}: {100 * one.value:.1f} % [{100 * one.low:.1f}, {100 * one.high:.1f}] of {len(some)} in range, "
                f"{one.value / base.value:.1f} times the base rate"
            )
        for key in (
            "predicted_in_range",
            "new_formulas",
            "different_formulas",
            "median_distance",
            "seconds_per_crystal",
        ):
            print(f"  {key} {result[key]:.4g}")
        results[target] = result
        if arguments.keep:
            arguments.keep.mkdir(parents=True, exist_ok=True)
            slug = re.sub(r"[^\w.]+", "_", target)
            write_candidates(arguments.keep / f"{slug}.extxyz", found)
        if arguments.json:  # after each target, so that what was found is not lost
            document = {
                "n": arguments.n,
                "seed": arguments.seed,
                "model_hash": designer.generator.model_hash,
                "flow": {"model_hash": flow.model_hash, "guidance": arguments.guidance},
            }
            write_json(arguments.json, {**document, "targets": results})


if __name__ == "__main__":
    main()
