"""Write the card of ``MoNbTaW`` from a finished training run and what was measured of it.

``python benchmarks/MoNbTaW/card.py RUN --speed speed.json [--test FOLD]``, with RUN the folder ``mlcalc train`` left
behind, the first file from ``benchmarks/speed/step.py --potential MoNbTaW --element MoNbTaW --json``, and the
second folder from ``fold.yaml``. Properties of the four metals are computed here.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "mlearn"))

from _card_text import speed_section, table
from crystal_properties import cubic_properties

from mlcalc import MLCalculator
from mlcalc.deploy import load_weights
from mlcalc.files import write_atomic

HERE = Path(__file__).parent
CARD = HERE.parents[1] / "mlcalc" / "zoo" / "weights" / "MoNbTaW.md"
# Mean absolute errors of the published SNAP on its test set (Li et al. 2020): meV/atom, eV/Å.
SNAP = (5.0, 0.125)
LATTICE_ANG = {"Nb": 3.31, "Mo": 3.16, "Ta": 3.32, "W": 3.19}


def properties_section(weights: Path) -> str:
    calculator = MLCalculator(load_weights(weights, "float64"))
    rows = []
    for element, guess in LATTICE_ANG.items():
        p = cubic_properties(element, "bcc", calculator, guess, report=lambda line: print(line, flush=True))
        constants = [f"{c:.0f}" for c in (p.c11_gpa, p.c12_gpa, p.c44_gpa)]
        rows.append([element, f"{p.lattice_constant_ang:.3f}", *constants, f"{p.vacancy_ev:.2f}"])
    return table(["", "a, Å", "C11, GPa", "C12, GPa", "C44, GPa", "vacancy, eV"], rows)


def errors_row(name: str, errors: dict[str, Any]) -> list[str]:
    figures = (errors["energy_mae_mev_per_atom"], errors["forces_mae_ev_per_ang"])
    rmse = (errors["energy_rmse_mev_per_atom"], errors["forces_rmse_ev_per_ang"])
    return [name, f"{errors['n_structures']}", f"{figures[0]:.2f} ({rmse[0]:.2f})", f"{figures[1]:.4f} ({rmse[1]:.4f})"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--speed", type=Path, required=True)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--out", type=Path, default=CARD)
    args = parser.parse_args()
    torch.set_num_threads(1)
    metrics = json.loads((args.run / "metrics.json").read_text(encoding="utf-8"))
    rows = [errors_row("MoNbTaW, validation set (chose the epoch)", metrics["validation"]["overall"])]
    if args.test:
        fold = json.loads((args.test / "metrics.json").read_text(encoding="utf-8"))
        rows.append(errors_row("same settings, 20 epochs, a fifth never seen in training", fold["test"]["overall"]))
    rows.append(["published SNAP, official test set", "–", f"{SNAP[0]:.1f}", f"{SNAP[1]:.3f}"])
    trained = (args.run / "card.md").read_text(encoding="utf-8")
    trained = trained.replace("\n![parity](parity.png)\n", "")
    trained = trained.replace(
        "Command: `mlcalc train config.yaml`, with the `config.yaml` beside this card.",
        "Command: `mlcalc train benchmarks/MoNbTaW/MoNbTaW.yaml` (below).",
    )
    speed = json.loads(args.speed.read_text(encoding="utf-8"))
    text = f"""{trained.strip()}

## Beside the published potential

Mean absolute errors (root mean square):

{table(["", "frames", "energy, meV/atom", "force, eV/Å"], rows)}

Not errors on the same frames: the official test set is not among our data. The frames are many relaxations of binary
solid solutions, elements in dynamics, strained and with surfaces; neighbouring frames of a relaxation are alike, and
those of a held-out frame are in training, which makes the errors of solid solutions optimistic. The errors in dynamics
(`*_AIMD`) say more. **Ternary and quaternary alloys are not among the frames**: their grades tell how far they are.

## Cost

{speed_section([speed])}

## Properties of the metals

{properties_section(args.run / "MoNbTaW.safetensors")}

bcc, float64; elastic constants from stresses under ±0.5 % strain with relaxed ions, vacancy in 127 atoms at fixed
volume. No vacancies are among the training frames, so their energies are extrapolations: `mlearn`, which was trained
on vacancies, has 2.96 eV for Mo.

## Config

```yaml
{(HERE / "MoNbTaW.yaml").read_text(encoding="utf-8").strip()}
```

This card was written by `benchmarks/MoNbTaW/card.py`.
"""
    write_atomic(args.out, text)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
