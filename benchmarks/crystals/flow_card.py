"""Write the card of weights of the generator `flow`, and a picture of their training.

python benchmarks/crystals/flow_card.py --weights mlcalc/generators/weights/flow-perov.safetensors \
    --log run/log.csv --figures benchmarks/crystals/results/flow-perov.json \
    --config benchmarks/crystals/flow-perov.yaml --picture docs/images/flow-perov-training.png
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import yaml

from mlcalc.figures import new_figure, save_figure
from mlcalc.files import write_atomic
from mlcalc.generators._flow_weights import load_flow

USUAL = {
    "structure": "structures valid: no two atoms of a cell within 0.5 Å",
    "bonds": "no distance below 0.6 of the sum of covalent radii",
    "composition": "compositions valid (SMACT)",
    "precision": "coverage, precision",
    "recall": "coverage, recall",
    "new": "formula not in training",
}


def interval(value: dict[str, float]) -> str:
    return f"{value['value']:.1f} [{value['low']:.1f}, {value['high']:.1f}]"


def curve(log: Path, out: Path) -> None:
    """Draw losses and matches against epochs."""
    with log.open(encoding="utf-8") as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    epochs = [row["epoch"] + 1 for row in rows]
    picture = new_figure(9, 3.2)
    left, right = picture.subplots(1, 2)
    for name in ("coordinates", "lattice"):
        left.plot(epochs, [row[name] for row in rows], label=name)
    left.set(xlabel="epoch", ylabel="squared error of velocities, held out", ylim=(0, None))
    left.legend(frameon=False)
    counted = [(e, 100 * row["match"]) for e, row in zip(epochs, rows, strict=True) if row["match"] == row["match"]]
    right.plot(*zip(*counted, strict=True), marker="o")
    right.set(xlabel="epoch", ylabel="found from the formula, one sample, %", ylim=(0, None))
    save_figure(picture, out)


def by_formula(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| steps | slope | found, % | RMS of those found | within 0.1, % | crystals per processor second |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        lines.append(
            f"| {row['steps']} | {row['slope']:g} | {interval(row['match'])} | {row['rms']:.3f} | "
            f"{interval(row['match_below_0.1'])} | {row['per_processor_second']:.0f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True, help="log.csv of the run")
    parser.add_argument("--figures", type=Path, required=True, help="JSON of evaluate_flow.py")
    parser.add_argument("--usual", type=Path, help="JSON of usual.py")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--picture", type=Path, required=True)
    a = parser.parse_args()
    loaded = load_flow(a.weights)
    facts, figures = loaded.facts, json.loads(a.figures.read_text(encoding="utf-8"))
    if figures["model_hash"] != loaded.model_hash:
        raise SystemExit(f"{a.figures} is about other weights ({figures['model_hash']}, not {loaded.model_hash})")
    curve(a.log, a.picture)
    epochs = sum(1 for _ in a.log.open(encoding="utf-8")) - 1
    planned = yaml.safe_load(a.config.read_text(encoding="utf-8"))["epochs"]
    ended = f"{epochs} epochs" if epochs >= planned else f"cut short after {epochs} of {planned} epochs"
    weights = sum(p.numel() for p in loaded.networks.parameters())
    perov = "PEROV" in a.config.read_text(encoding="utf-8")
    commands = (
        [
            "python benchmarks/crystals/perov_split.py $MLCALC_DATA/crystals --out perov",
            f"PEROV=perov mlcalc train-generator {a.config}",
        ]
        if perov
        else [f"mlcalc train-generator {a.config}"]
    )
    lines = [
        f"# {facts['name']}: weights of the generator `flow`",
        "",
        "Flow matching on lattices and fractional coordinates, described in [flow](../../../docs/flow.md).",
        "",
        "| | |",
        "|---|---|",
        f"| hash | `{loaded.model_hash}` |",
        f"| weights | {weights}, {a.weights.stat().st_size / 1e6:.2f} MB |",
        f"| network | {json.dumps(loaded.networks.document()['network'])} |",
        f"| data | {facts['training_data']} |",
        f"| licence | {facts['licence']} |",
        f"| crystals | {facts['crystals']['training']} for training, {facts['crystals']['validation']} for validation, "
        f"split by reduced formula; {facts['crystals']['left_out']} left out |",
        f"| labels | {', '.join(loaded.networks.properties) or 'none'} |",
        f"| training | {ended}, of which epoch {facts['epoch']} is the best and is shipped; "
        f"{facts['hours']:.2f} h on one thread of a busy machine, torch {facts['torch']} |",
        f"| elements | {' '.join(loaded.networks.elements)} |",
        "",
        "## By formula\n\nHeld-out crystals, of whose formulas "
        f"{figures['formulas_seen']} were in the training data, one sample each, "
        "nothing rejected; found means that pymatgen's StructureMatcher takes both for the same crystal "
        "(0.3, 0.5, 10°), RMS in (volume per atom)^(1/3). Intervals are 95 %, by a bootstrap over "
        f"{figures['by_formula'][0]['match']['n']} targets.",
        "",
        *by_formula(figures["by_formula"]),
        "",
    ]
    if "free" in figures:
        one = figures["free"]
        lines += [
            f"## Nothing asked for\n\n{one['n']} crystals, not relaxed: {one['per_second']:.1f} a second on one thread "
            f"of a busy machine ({one['per_processor_second']:.1f} per processor second), "
            f"{one['rejected_per_candidate']:.2f} attempts rejected for each, "
            f"{one['P1_percent']:.1f} % in space group P1.",
            "",
        ]
    if a.usual:
        rows = json.loads(a.usual.read_text(encoding="utf-8"))["rows"]
        if rows["flow"]["model_hash"] != loaded.model_hash:
            raise SystemExit(f"{a.usual} is about other weights")
        lines += [
            "As `benchmarks/crystals/usual.py` counts, with no distance asked for, "
            f"{rows['flow']['crystals']} crystals:",
            "",
            "| % | drawn | crystals of the training set |",
            "|---|---:|---:|",
        ]
        for name, text in USUAL.items():
            mine, theirs = ({k: 100 * v for k, v in rows[row][name].items()} for row in ("flow", "train"))
            lines.append(f"| {text} | {interval(mine)} | {interval(theirs)} |")
        lines.append("")
    if figures.get("aimed"):
        lines += [
            "## Aimed\n\nOf what is drawn towards a range, those that match a labelled crystal that was held out, "
            "by its label.",
            "",
            "| label | range | guidance | known | of them in range, % | of all held-out crystals, % |",
            "|---|---|---:|---:|---:|---:|",
        ]
        for row in figures["aimed"]:
            if "error" not in row and row["in_range"]["n"]:
                low, high = row["range"]
                lines.append(
                    f"| {row['label']} | {low:g} to {high:g} | {row['guidance']:g} | {row['in_range']['n']} | "
                    f"{interval(row['in_range'])} | {interval(row['base'])} |"
                )
        lines.append("")
    lines += [
        "## Limits",
        "",
        "- Positions and cells are those of a guess: relax before any judgement. Symmetry is what is there within "
        "0.1 Å.",
        "- Labels shift what is drawn; they promise nothing.",
        "",
        "## How it was trained",
        "",
        "```text",
        *commands,
        "```",
        "",
        "```yaml",
        a.config.read_text(encoding="utf-8").rstrip(),
        "```",
        "",
        "This card was written by `benchmarks/crystals/flow_card.py`.",
    ]
    write_atomic(a.weights.with_suffix(".md"), "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
