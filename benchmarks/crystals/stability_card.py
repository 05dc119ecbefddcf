"""Write the card of the stability score's weights from the weights file and what ``stability.py`` measured.

python benchmarks/crystals/stability_card.py --figures stability/figures.json --blocks 22 --out stability.md
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlcalc.discovery.stability import SHIPPED, StabilityModel
from mlcalc.files import write_atomic

SOURCES = {
    "wyckoff": "`wyckoff`",
    "substitution": "`substitution`, AFLOW's prototypes",
    "known": "`substitution`, known crystals",
    "random": "`random`",
    "all generated": "all of these",
}
SCORES = {
    "stability": "stability score",
    "predicted energy above the published hull": "its energies, above the published hull",
    "energy of the cell as it is": "SevenNet-0, cell as it is",
}


def row(name: str, score: str, values: dict[str, float]) -> str:
    errors = f"{1000 * values['mae']:.0f} | {1000 * values['median_absolute_error']:.0f}"
    shares = f"{values['metastable_percent']:.0f} | {values['metastable_of_best_third_percent']:.0f}"
    return f"| {name} | {score} | {values['crystals']:.0f} | {errors} | {values['spearman']:.2f} | {shares} |"


def table(figures: dict[str, Any]) -> list[str]:
    """Return the rows of energies above the hull."""
    lines = [
        "| crystals | score | number | mean error | median error | rank correlation | metastable, % | best third, % |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for source, name in SOURCES.items():
        found = figures.get(source, {})
        lines += [row(name, words, found[score]) for score, words in SCORES.items() if score in found]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=SHIPPED)
    parser.add_argument("--figures", type=Path, required=True, help="JSON of stability.py")
    parser.add_argument("--blocks", type=int, required=True, help="that stability_labels.py was asked for")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    model = StabilityModel.load(arguments.weights)
    figures, facts = json.loads(arguments.figures.read_text(encoding="utf-8")), model.facts
    if figures["model_hash"] != model.model_hash:
        raise SystemExit(f"{arguments.figures} is about other weights")
    energies = figures["known crystals"]["formation energy"]
    generated = figures["all generated"]["formation energy"]
    lines = [
        "# Weights of the stability score",
        "",
        "A small graph network that predicts, from a crystal as it is, the formation energy that it relaxes to;",
        "described in [crystal search](../../../docs/discovery.md#the-learned-stability-score).",
        "",
        "| | |",
        "|---|---|",
        f"| hash | `{model.model_hash}` |",
        f"| weights | {sum(p.numel() for p in model.network.parameters())}, "
        f"{arguments.weights.stat().st_size / 1e6:.2f} MB |",
        f"| network | {json.dumps(asdict(model.network.settings))} |",
        f"| data | {facts['training_data']} |",
        f"| licence | {facts['licence']} |",
        f"| crystals | {facts['crystals']['training']} for training, {facts['generated']} of them generated; "
        f"{facts['crystals']['validation']} for validation; split by chemical system |",
        f"| best epoch | {facts['epoch']}, of {facts['epochs'][0]}; the plan was {facts['epochs'][1]} |",
        f"| training | {facts['hours']:.2f} h on one thread of a busy machine, torch {facts['torch']} |",
        f"| time | {figures['ms_per_crystal']:.1f} ms a crystal, neighbours included, on one busy thread |",
        f"| elements | {' '.join(model.network.elements)} |",
        "",
        "## Errors",
        "",
        "On chemical systems that were not in training: those of the benchmark of generators and a part of the",
        "others, drawn by name. What is predicted is the energy above the hull, meV/atom, that SevenNet-0 relaxes a",
        "crystal to in at most 40 steps, on the scale of the Materials Project, or zero below it; of known crystals,",
        "what is published. Generated crystals count where the hull has a compound of their system. Metastable: at",
        "most 100 meV/atom above the hull, of all and of the third with the lowest scores.",
        "",
        *table(figures),
        "",
        f"Formation energy: mean error {1000 * energies['mae']:.0f} meV/atom for {energies['crystals']:.0f} known ones "
        f"as published, {1000 * generated['mae']:.0f} for {generated['crystals']:.0f} generated ones as drawn.",
        "",
        "## Limits",
        "",
        "- A score to choose by, no energy: it is never compared with those of a potential.",
        "- Known crystals are nearly all stable; what is not was learnt from few generated ones, labelled by a",
        "  potential that is an approximation itself, relaxed in a few steps, and placed on a hull that lacks phases.",
        "- Ordered crystals of at most 20 atoms, mostly binary and ternary, in three dimensions, at zero pressure.",
        "",
        "## How it was trained",
        "",
        "```text",
        "python benchmarks/crystals/stability_labels.py --data $MLCALC_DATA/crystals --blocks "
        f"{arguments.blocks} --out labels",
        "python benchmarks/crystals/stability.py --data $MLCALC_DATA/crystals --labels labels/labels.jsonl "
        f"--epochs {facts['epochs'][1]} --out stability",
        "```",
        "",
        "This card was written by `benchmarks/crystals/stability_card.py`.",
    ]
    write_atomic(arguments.out, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
