"""Draw held-out crystals beside what the generator `flow` makes of their formulas.

python benchmarks/crystals/flow_picture.py --weights flow --held-out perov/held_out.jsonl.gz --out docs/images/flow.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase.visualize.plot import plot_atoms
from evaluate_flow import split

from mlcalc.crystals.io import read_crystals
from mlcalc.crystals.matching import match_error
from mlcalc.figures import new_figure, save_figure
from mlcalc.generators import Constraints
from mlcalc.generators._flow_lattice import reduced
from mlcalc.generators.flow import FlowGenerator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--held-out", type=Path)
    parser.add_argument("--config", type=Path, help="of the training: its held-out crystals")
    parser.add_argument("-n", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    a = parser.parse_args()
    held = [x.atoms for x in (split(a.config)[1] if a.config else read_crystals(a.held_out))]
    generator = FlowGenerator(a.weights)
    chosen = [held[k] for k in np.random.default_rng(a.seed).permutation(len(held))[: a.n]]  # no choice of ours
    picture = new_figure(1.5 * a.n, 3.6)
    rows = picture.subplots(2, a.n)
    for k, target in enumerate(chosen):
        asked = Constraints(formula=target.get_chemical_formula(), n_atoms=(len(target), len(target)))
        (made,) = generator.sample(1, asked, a.seed + k)
        error = match_error(made.atoms, target)
        for axes, atoms in ((rows[0, k], reduced(target)), (rows[1, k], made.atoms)):
            # The heaviest atom in the middle: origins are arbitrary.
            atoms.translate(atoms.cell.sum(axis=0) / 2 - atoms.positions[atoms.numbers.argmax()])
            atoms.wrap()
            plot_atoms(atoms, axes, rotation="-75x,-15y", radii=0.5, show_unit_cell=2)
            axes.set_axis_off()
        rows[0, k].set_title(target.get_chemical_formula(), fontsize=9)
        rows[1, k].set_title("not found" if error is None else f"RMS {error:.2f}", fontsize=9)
    save_figure(picture, a.out)


if __name__ == "__main__":
    main()
