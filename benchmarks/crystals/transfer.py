"""What weights that ship are worth on a small set: fine-tuned on a few crystals, beside training from nothing on them.

python benchmarks/crystals/transfer.py --weights flow --data $MLCALC_DATA/crystals/jarvis_supercon_train.jsonl.gz \
    --held-out $MLCALC_DATA/crystals/jarvis_supercon_val.jsonl.gz \
    --known $MLCALC_DATA/crystals/mp_crystals_train.jsonl.gz --out transfer

Held-out crystals whose formula the weights (``--known``) or the few crystals have seen do not count. The same commands
as a user's train: ``mlcalc train-generator few.yaml`` and ``… --from WEIGHTS``; both resume.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from evaluate_flow import by_formula, formula

from mlcalc.crystals.io import read_crystals
from mlcalc.files import write_atomic
from mlcalc.generators._weights import find_weights
from mlcalc.generators.flow import FlowGenerator
from mlcalc.generators.training import generator_settings, make_trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="flow")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, nargs="*", default=[], help="beside what --data has beyond the few")
    parser.add_argument("--targets", type=int, default=150)
    parser.add_argument("--known", type=Path, nargs="*", default=[])
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--rates", type=float, nargs=2, default=(4e-3, 1e-3), help="from nothing, from the weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    a = parser.parse_args()
    torch.set_num_threads(1)
    start = FlowGenerator(a.weights)
    known = set(start.elements)

    def usable(path: Path) -> list[Any]:
        return [x for x in read_crystals(path) if len(x.atoms) <= 20 and set(x.atoms.symbols) <= known]

    every = usable(a.data)
    order = np.random.default_rng(a.seed).permutation(len(every))
    few, rest = ([every[k].atoms for k in rows] for rows in (order[: a.n], order[a.n :]))
    seen, theirs = {formula(x) for x in few}, {s for x in few for s in x.symbols}
    for path in a.known:
        seen |= {formula(x.atoms) for x in read_crystals(path)}
    # Elements that the few crystals lack are none that training from nothing could place.
    pool = [*(x.atoms for path in a.held_out for x in usable(path)), *rest]
    held = [x for x in pool if formula(x) not in seen and set(x.symbols) <= theirs][: a.targets]
    a.out.mkdir(parents=True, exist_ok=True)
    file = a.out / "few.extxyz"
    ase.io.write(file, few)
    result: dict[str, Any] = {
        "model_hash": start.model_hash,
        "crystals": len(few),
        "held_out": len(held),
        "epochs": a.epochs,
        "runs": {},
    }
    common = {
        "generator": "flow",
        "data": [str(file)],
        "epochs": a.epochs,
        "batch_size": 32,
        "validation_fraction": 0.1,
        "ema": 0.99,
        "patience": a.epochs,
        "match_every": 0,
    }
    for name, begin, rate in (
        ("nothing", "", a.rates[0]),
        ("weights", str(find_weights("flow", a.weights)), a.rates[1]),
    ):
        settings = {**common, "name": name, "out": str(a.out / name), "start": begin, "learning_rate": rate}
        trainer = make_trainer(*generator_settings(settings))
        trainer.run()
        result["runs"][name] = {
            "learning_rate": rate,
            "validation_loss": trainer.best_loss,
            "best_epoch": trainer.best_epoch + 1,
            **by_formula(FlowGenerator(trainer.weights_file), held, 30, 10.0, a.seed)[0],
        }
        print(name, json.dumps(result["runs"][name]), flush=True)
    result["runs"]["weights as they are"] = by_formula(start, held, 30, 10.0, a.seed)[0]
    print("weights as they are", json.dumps(result["runs"]["weights as they are"]))
    write_atomic(a.out / "transfer.json", json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
