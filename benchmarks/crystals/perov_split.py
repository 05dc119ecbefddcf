"""Split perov_5 for generators, by formula: one file to train on, two that no generator sees.

python benchmarks/crystals/perov_split.py $MLCALC_DATA/crystals --out perov

Property labels exist only in perov_5_val, so that file is split: half of its formulas go to the generators with their
labels, the others to a judge of designed crystals (``judge``) and to everything that is held out from both
(``held_out``). Crystals of perov_5_train whose formula is in one of the latter two are left out altogether.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
from ase.formula import Formula

from mlcalc.files import write_atomic

#: Shares of the labelled formulas.
SHARES = {"train": 0.5, "judge": 0.3, "held_out": 0.2}


def rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def formula(row: dict[str, Any]) -> str:
    return str(Formula.from_list(row["species"]).format("hill"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with perov_5_train.jsonl.gz and perov_5_val.jsonl.gz")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    plain, labelled = (rows(arguments.folder / f"perov_5_{part}.jsonl.gz") for part in ("train", "val"))
    formulas = sorted({formula(row) for row in labelled})
    order = np.random.default_rng(arguments.seed).permutation(len(formulas))
    ends = np.rint(np.cumsum(list(SHARES.values())) * len(formulas)).astype(int)
    part_of = {formulas[k]: list(SHARES)[int(np.searchsorted(ends, at, side="right"))] for at, k in enumerate(order)}
    parts: dict[str, list[dict[str, Any]]] = {name: [] for name in SHARES}
    for row in labelled:
        parts[part_of[formula(row)]].append(row)
    seen = [row for row in plain if part_of.get(formula(row), "train") == "train"]
    parts["train"] = seen + parts["train"]
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, some in parts.items():
        text = "".join(json.dumps(row) + "\n" for row in some)
        write_atomic(arguments.out / f"{name}.jsonl.gz", gzip.compress(text.encode("utf-8"), mtime=0))
        print(f"{name:9s} {len(some):6d} crystals, {sum('labels' in row for row in some)} with labels")
    print(f"left out  {len(plain) - len(seen):6d} crystals of perov_5_train, whose formula a later part holds")


if __name__ == "__main__":
    main()
