r"""Write the card of ``mlearn`` from finished training runs, or print the properties of any weights file.

The card::

    python benchmarks/mlearn/card.py RUN... --cv cv-Si.json ... --snap snap/*.json --speed speed-Si.json \
        --drift drift-Si.json

with RUN the folders ``mlcalc train`` left behind. Properties alone, for any potential of one of the four elements::

    python benchmarks/mlearn/card.py --weights mlearn-Si=mlearn-Si.safetensors
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from _card_text import Member, card, properties_section
from crystal_properties import CubicProperties, cubic_properties
from published import PUBLISHED

from mlcalc import MLCalculator
from mlcalc.deploy import load_weights
from mlcalc.files import write_atomic
from mlcalc.training.settings import read_settings

HERE = Path(__file__).parent
CARD = HERE.parents[1] / "mlcalc" / "zoo" / "weights" / "mlearn.md"
ORDER = list(PUBLISHED)


def properties(weights: Path, cache: Path | None = None) -> CubicProperties:
    """Return the properties of the potential in a weights file, in float64.

    Args:
        weights: of a potential for Ni, Li, Mo or Si.
        cache: JSON file with what was computed before, by hash of the weights; new results are added.
    """
    key = hashlib.sha256(weights.read_bytes()).hexdigest()
    known: dict[str, Any] = json.loads(cache.read_text()) if cache is not None and cache.is_file() else {}
    if key not in known:
        potential = load_weights(weights, "float64")
        (element,) = potential.info.elements
        reference = PUBLISHED[element]
        found = cubic_properties(
            element,
            reference.crystal,
            MLCalculator(potential),
            reference.lattice_constant_ang,
            report=lambda line: print(line, flush=True),
        )
        known[key] = found.to_dict()
        if cache is not None:
            write_atomic(cache, json.dumps(known, indent=1) + "\n")
    return CubicProperties(**known[key])


def check_config(run: Path, config: Path) -> None:
    """Stop unless the run was made with this config, up to where it lies and how many threads it had."""
    made = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    said = read_settings(config).to_dict()
    # A run writes every keyword of its network, a config only some.
    said["model"]["network"] = {**made["model"]["network"], **said["model"]["network"]}
    for settings in (made, said):
        for name in ("out", "threads"):
            settings.pop(name)
        settings["model"]["start"] = Path(settings["model"]["start"]).name
        for name in ("train", "validation", "test"):
            settings["data"][name] = [Path(path).name for path in settings["data"][name]]
    different = sorted(key for key in said if made.get(key) != said[key])
    if different:
        sys.exit(f"{run} was not made with {config}: they differ in {', '.join(different)}")


def member(run: Path, weights: dict[str, Path], cross_validation: dict[str, Any], cache: Path | None) -> Member:
    """Read one run's folder and compute its properties."""
    made = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    config = HERE / f"{made['name']}.yaml"
    check_config(run, config)
    file = weights.get(made["name"], run / f"{made['name']}.safetensors")
    potential = load_weights(file)
    (element,) = potential.info.elements
    if element not in cross_validation:
        sys.exit(f"no errors by cross-validation for {element}: give its file to --cv")
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    model = potential.config
    options = ", ".join(f"{key} {value}" for key, value in model["network"].items() if key != "avg_neighbors")
    architecture = f"`{model['architecture']}`{f' ({options})' if options else ''}{' with ZBL' if model['zbl'] else ''}"
    return Member(
        info=potential.info,
        weights_file=file,
        n_weights=sum(p.numel() for p in potential.parameters()),
        config_texts={file.name: file.read_text(encoding="utf-8") for file in (HERE / f"start-{element}.yaml", config)},
        metrics={**metrics, "architecture": architecture},
        cross_validation=cross_validation[element],
        properties=properties(file, cache),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="folders of finished training runs")
    parser.add_argument(
        "--weights", nargs="+", default=[], metavar="NAME=FILE", help="weights files, in place of those in the runs"
    )
    parser.add_argument("--cv", nargs="+", type=Path, default=[], help="JSON files of cross_validate.py")
    parser.add_argument("--speed", nargs="+", type=Path, default=[], help="JSON files of benchmarks/speed/step.py")
    parser.add_argument("--drift", nargs="+", type=Path, default=[], help="JSON files of benchmarks/drift/nve.py")
    parser.add_argument("--snap", nargs="+", type=Path, default=[], help="JSON files of snap_errors.py")
    parser.add_argument("--properties", type=Path, help="JSON file that keeps computed properties")
    parser.add_argument("--out", type=Path, default=CARD, help="the card")
    args = parser.parse_args()
    torch.set_num_threads(1)
    bad = [item for item in args.weights if "=" not in item]
    if bad:
        parser.error(f"--weights takes NAME=FILE, not {bad[0]}")
    weights = {name: Path(file) for name, file in (item.split("=", 1) for item in args.weights)}
    if not args.runs:
        if not weights:
            parser.error("give folders of runs, or --weights NAME=FILE")
        print(properties_section([properties(file, args.properties) for file in weights.values()]))
        return
    cross_validation = {found["element"]: found for found in (json.loads(path.read_text()) for path in args.cv)}
    members = [member(run, weights, cross_validation, args.properties) for run in args.runs]
    members.sort(key=lambda m: ORDER.index(m.element))
    speed, drift, linear = (
        [json.loads(path.read_text()) for path in paths] for paths in (args.speed, args.drift, args.snap)
    )
    grades = {m.element: m.metrics["validation"]["grade"] for m in members if m.metrics["validation"].get("grade")}
    write_atomic(args.out, card(members, speed, drift, grades, linear))
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
