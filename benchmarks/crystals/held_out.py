"""Write the crystals that the generator's training held out, as targets for ``mlcalc benchmark-generator --targets``.

python benchmarks/crystals/held_out.py --count 100 --out held_out.extxyz
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ase.io
import numpy as np

from mlcalc.crystals.io import read_crystals
from mlcalc.generators._split import split_by_formula
from mlcalc.generators._weights import find_weights
from mlcalc.generators._wyckoff_weights import load_network
from mlcalc.generators.training import read_generator_settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=Path(__file__).parent / "wyckoff.yaml")
    parser.add_argument("--weights", type=Path, default=find_weights("wyckoff"))
    parser.add_argument("--max-atoms", type=int, default=20, help="in the cell as it is in the file")
    parser.add_argument("--count", type=int, help="so many of them, drawn at random; all if not given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    _, settings = read_generator_settings(arguments.config)
    crystals = [item.atoms for path in settings.data for item in read_crystals(path)]
    compositions = [atoms.symbols.formula.count() for atoms in crystals]
    training, held = split_by_formula(compositions, settings.validation_fraction, settings.seed)
    counts = load_network(arguments.weights).facts["crystals"]
    if (len(training), len(held)) != (counts["training"], counts["validation"]) or counts.get("left_out"):
        raise SystemExit(f"{len(training)} and {len(held)} crystals are not those of the weights: {counts}")
    targets = [crystals[k] for k in held if len(crystals[k]) <= arguments.max_atoms]
    order = np.random.default_rng(arguments.seed).permutation(len(targets))[: arguments.count]
    ase.io.write(arguments.out, [targets[k] for k in order], format="extxyz")
    print(f"{len(order)} of {len(held)} crystals whose formulas were not trained on")


if __name__ == "__main__":
    main()
