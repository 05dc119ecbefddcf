"""Write the card and the training curves of the generators vae and gan, from a run's folder and what was measured.

python benchmarks/crystals/image_card.py vae --run vae --usual usual.json --design design.json
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlcalc.figures import new_figure, save_figure
from mlcalc.files import write_atomic
from mlcalc.generators._gan_weights import load_gan
from mlcalc.generators._vae_weights import load_vae

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
WHAT = {
    "vae": "A variational autoencoder of coordinate images",
    "gan": "A Wasserstein GAN of coordinate images, with one critic for structures and one for compositions",
}
MEASURES = {
    "structure": "no two atoms within 0.5 Å (usual)",
    "bonds": "nothing within 0.6 of covalent radii, own images included",
    "composition": "SMACT finds neutral states of 2014 (usual)",
    "states": "one state for each element makes it neutral",
    "both": "both usual ones",
    "precision": "coverage precision",
    "recall": "coverage recall",
    "new": "formula not in the training data",
    "different": "different formulas",
}
CURVES = {
    "vae": {
        "nats per crystal": ("training_nats", "validation_nats"),
        "validation, by parts": ("lattice_nats", "elements_nats", "coordinates_nats", "divergence_nats"),
        "held-out crystals": ("elements_right", "property_error"),
    },
    "gan": {
        "Wasserstein estimate of the critics": ("structure", "composition"),
        "gradient penalty": ("penalty",),
        "held-out crystals": ("precision", "recall", "different"),
    },
}


def curves(name: str, log: Path, path: Path) -> None:
    """Draw the columns of a log over epochs."""
    with log.open(encoding="utf-8") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    figure = new_figure(10.5, 3.2)
    for k, (title, columns) in enumerate(CURVES[name].items()):
        axes = figure.add_subplot(1, len(CURVES[name]), k + 1)
        for column in columns:
            axes.plot([row["epoch"] + 1 for row in rows], [row[column] for row in rows], label=column)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch")
        axes.legend(frameon=False, fontsize=8)
    save_figure(figure, path)


def percent(one: dict[str, float]) -> str:
    return f"{100 * one['value']:.1f} [{100 * one['low']:.1f}, {100 * one['high']:.1f}]"


def measured(name: str, usual: dict[str, Any]) -> list[str]:
    """Return the table of the usual measures beside those of training crystals."""
    own, training = usual["rows"][name], usual["rows"]["train"]
    settings = usual["settings"]
    return [
        f"{own['crystals']} crystals as the network draws them, nothing asked for and no distance kept; "
        f"{own['undecodable']} further images described no crystal and are in the denominators. Beside them "
        f"{training['crystals']} of the training crystals. Coverage is of at most {settings['reference']} crystals "
        f"whose formulas were held out, by the usual fingerprints and cutoffs ({settings['cutoffs'][0]:g} and "
        f"{settings['cutoffs'][1]:g}; `mlcalc/discovery/_coverage.py`). 95 % intervals by a bootstrap "
        "(`benchmarks/crystals/usual.py`).",
        "",
        "| % | drawn | training crystals |",
        "|---|---:|---:|",
        *(f"| {text} | {percent(own[key])} | {percent(training[key])} |" for key, text in MEASURES.items()),
        "",
        f"{own['per_processor_second']:.1f} crystals per second of one busy core.",
    ]


def designed(document: dict[str, Any]) -> list[str]:
    """Return the table of inverse design."""
    lines = [
        "## Inverse design",
        "",
        f"{document['n']} crystals for each target, judged by gradient boosting on elements and places, which was "
        "trained on labelled crystals that no generator saw (`benchmarks/crystals/design.py`). Base rate: share of "
        "labelled training crystals in range. Drawn only: from the network, told the target, without a search.",
        "",
        "| target | base rate, % | judged in range, % | × base | MAE of the judge | drawn only, % | new formulas |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for target, found in document["targets"].items():
        base, own = found["base_rate"], found["designed"]
        lines.append(
            f"| `{target}` | {100 * base['value']:.2f} | {percent(own)} | {own['value'] / base['value']:.1f} | "
            f"{found['judge']['mae']:.3f} (standard deviation {found['judge']['standard_deviation']:.3f}) | "
            f"{percent(found['drawn, told the target'])} | {found['new_formulas']} |"
        )
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(WHAT))
    parser.add_argument(
        "--run", type=Path, help="folder of the training; without, its curves and length stay as they are"
    )
    parser.add_argument("--usual", type=Path, required=True, help="JSON of usual.py")
    parser.add_argument("--design", type=Path, help="JSON of design.py")
    parser.add_argument("--weights", type=Path, help="default: those that ship")
    arguments = parser.parse_args()
    name = arguments.name
    weights = arguments.weights or ROOT / f"mlcalc/generators/weights/{name}.safetensors"
    loaded: Any = load_vae(weights) if name == "vae" else load_gan(weights)
    facts, config = loaded.facts, HERE / f"{name}.yaml"
    usual = json.loads(arguments.usual.read_text(encoding="utf-8"))
    if usual["rows"][name]["model_hash"] != loaded.model_hash:
        parser.error(f"{arguments.usual} measured other weights ({usual['rows'][name]['model_hash']})")
    picture = f"docs/images/{name}-training.png"
    if arguments.run:
        curves(name, arguments.run / "log.csv", ROOT / picture)
        with (arguments.run / "log.csv").open(encoding="utf-8") as file:
            done = sum(1 for _ in file) - 1
    else:
        written = re.search(r"\| best epoch \| \d+ of (\d+) \|", weights.with_suffix(".md").read_text(encoding="utf-8"))
        if written is None:
            parser.error("the card does not say how many epochs there were: give --run")
        done = int(written[1])
    planned = int(next(line.split(":")[1] for line in config.read_text().splitlines() if line.startswith("epochs:")))
    collapsed = facts.get("collapsed_epochs")
    lines = [
        f"# {facts['name']}: weights of the generator `{name}`",
        "",
        f"{WHAT[name]}, described in [images of crystals](../../../docs/design.md).",
        "",
        "| | |",
        "|---|---|",
        f"| hash | `{loaded.model_hash}` |",
        f"| weights | {sum(p.numel() for p in loaded.network.parameters())}, {weights.stat().st_size / 1e6:.2f} MB |",
        f"| network | {json.dumps(asdict(loaded.network.settings))} |",
        f"| data | {facts['training_data']} |",
        f"| licence | {facts['licence']} |",
        f"| crystals | {facts['crystals']['training']} for training, {facts['crystals']['validation']} for validation, "
        "split by reduced formula |",
        f"| properties | {', '.join(loaded.network.conditions.properties)} |",
        f"| best epoch | {facts['epoch']} of {done} |",
        f"| training | {facts['hours']:.2f} h on one thread of a busy machine, torch {facts['torch']} |",
        *([f"| collapsed epochs | {', '.join(map(str, collapsed)) or 'none'} |"] if collapsed is not None else []),
        f"| elements | {' '.join(sorted(loaded.network.conditions.elements))} |",
        "",
        "At the best epoch: " + ", ".join(f"{key} {value:.3f}" for key, value in facts["best"].items()) + ".",
        "",
        *(
            [
                f"**Training was stopped after {done} of {planned} epochs.** The command below goes on.",
                "",
            ]
            if done < planned
            else []
        ),
        f"![Training curves](../../../{picture})",
        "",
        "## What it draws",
        "",
        *measured(name, usual),
        "",
        *(designed(json.loads(arguments.design.read_text(encoding="utf-8"))) if arguments.design else []),
        "## Limits",
        "",
        "- Cubic cells of five atoms, as computed for perovskites, and nothing else.",
        "- Labels are those of the data: heats of formation (eV per atom) and gaps (eV). One crystal in six has any,",
        "  and one in 27 of these has a gap.",
        "- Nothing it draws has been relaxed. A property that a network predicts is its opinion.",
        "",
        "## How it was trained",
        "",
        "```text",
        "python benchmarks/crystals/perov_split.py $MLCALC_DATA/crystals --out perov",
        f"PEROV=$PWD/perov mlcalc train-generator benchmarks/crystals/{name}.yaml --out {name}",
        "```",
        "",
        "```yaml",
        config.read_text(encoding="utf-8").rstrip(),
        "```",
        "",
        "This card was written by `benchmarks/crystals/image_card.py`.",
    ]
    write_atomic(weights.with_suffix(".md"), "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
