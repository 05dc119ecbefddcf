"""Write the card of the generator's weights from the weights file and what the other scripts measured.

python benchmarks/crystals/card.py --figures generate.json --out mlcalc/generators/weights/wyckoff.md
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from mlcalc.files import write_atomic
from mlcalc.generators._weights import find_weights
from mlcalc.generators._wyckoff_weights import load_network

ROWS = {
    "P1_percent": "in space group P1, %",
    "space_groups": "different space groups",
    "as_requested_percent": "found in the space group drawn, others in a higher one, %",
    "rejected_per_candidate": "attempts rejected per candidate",
    "unique_percent": "different from one another, %",
    "new_formula_percent": "formula not in the training data, %",
    "new_fingerprint_percent": "formula, space group and positions not in the training data, %",
    "per_second": "crystals per second",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=find_weights("wyckoff"))
    parser.add_argument("--figures", type=Path, required=True, help="JSON of generate.py")
    parser.add_argument("--config", type=Path, default=Path(__file__).parent / "wyckoff.yaml")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    loaded = load_network(arguments.weights)
    facts, figures = loaded.facts, json.loads(arguments.figures.read_text(encoding="utf-8"))
    weights = sum(p.numel() for p in loaded.network.parameters())
    nats = facts["validation_nats"]
    lines = [
        f"# {facts['name']}: weights of the generator `wyckoff`",
        "",
        "A transformer over Wyckoff positions, described in [generators](../../../docs/generators.md).",
        "",
        "| | |",
        "|---|---|",
        f"| hash | `{loaded.model_hash}` |",
        f"| weights | {weights}, {arguments.weights.stat().st_size / 1e6:.2f} MB with {len(loaded.known)} fingerprints "
        "of the training data |",
        f"| network | {json.dumps(asdict(loaded.network.settings))} |",
        f"| data | {facts['training_data']} |",
        f"| licence | {facts['licence']} |",
        f"| crystals | {facts['crystals']['training']} for training, {facts['crystals']['validation']} for validation, "
        "split by reduced formula |",
        f"| space groups of the data | found at {facts['symprec_ang']:g} Å |",
        f"| best epoch | {facts['epoch']} |",
        f"| training | {facts['hours']:.2f} h on one thread of a busy machine, torch {facts['torch']} |",
        f"| elements | {' '.join(sorted(loaded.network.elements))} |",
        "",
        "Validation loss without conditions, nats per crystal: "
        + ", ".join(f"{part} {value:.3f}" for part, value in nats.items())
        + f"; together {sum(nats.values()):.3f}.",
        "",
        f"## What it draws\n\n{figures['n']} crystals of at most 20 atoms as the network draws them: nothing asked",
        "for, no aim, known crystals too, not relaxed (`benchmarks/crystals/generate.py wyckoff --plain`):",
        "",
        "| | |",
        "|---|---:|",
        *(f"| {text} | {figures[name]:.4g} |" for name, text in ROWS.items() if name in figures),
        "",
        "## Limits",
        "",
        "- Trained on ordered crystals of the Materials Project, most of them near its hull, at most 20 atoms in the",
        "  primitive cell, mostly binary and ternary. Larger cells and four or more elements are extrapolations.",
        "- No crystal has been relaxed. Distances and volumes are those of a guess; relax before any judgement.",
        "- Targets (formation energy, energy above hull, band gap) shift what is drawn. What an aim at the hull, taken",
        "  unless told otherwise, is worth is in [generators](../../../docs/generators.md#benchmark); how well others",
        "  are met has not been measured with a calculator. Gaps are PBE gaps.",
        "- Energies of the labels are on the Materials Project's scale (PBE with MP2020 corrections).",
        "",
        "## How it was trained",
        "",
        "```text",
        "MLCALC_DATA=../shared/data mlcalc train-generator benchmarks/crystals/wyckoff.yaml",
        "```",
        "",
        "```yaml",
        arguments.config.read_text(encoding="utf-8").rstrip(),
        "```",
        "",
        "This card was written by `benchmarks/crystals/card.py`.",
    ]
    write_atomic(arguments.out, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
