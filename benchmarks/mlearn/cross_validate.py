"""Errors of mlearn by cross-validation: every frame is predicted by a network that never saw it.

    MLCALC_DATA=../shared/data python benchmarks/mlearn/cross_validate.py Mo --out cv --json cv-Mo.json

Trains the element's config (or ``--config``) once per fold with that fold taken out (neither for training nor for
choosing the epoch), and pools the errors on what was taken out, beside the published ones and with bootstrap intervals
over frames. Interrupted runs resume. ``--untrained`` predicts with what a config starts from, its energies shifted to
the labels.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from published import PUBLISHED

from mlcalc.training.dataset import read_labelled, take_fold
from mlcalc.training.metrics import Predictions, errors_by_group, predict
from mlcalc.training.run import train
from mlcalc.training.settings import TrainingSettings, read_settings
from mlcalc.training.trainer import Trainer

RESAMPLES = 10_000


def fold_settings(config: Path, fold: int, folds: int, out: Path) -> TrainingSettings:
    """Return the settings of a config with one of so many folds taken out."""
    settings = read_settings(config)
    data = dataclasses.replace(settings.data, folds=folds, fold=fold)
    return dataclasses.replace(settings, data=data, out=str(out.resolve() / f"{config.stem}-{fold}of{folds}"))


def fold_predictions(settings: TrainingSettings, untrained: bool) -> Predictions:
    """Train, or take up what is trained, and predict the frames of the fold."""

    def report(row: dict[str, Any]) -> None:
        print(
            f"{Path(settings.out).name}: epoch {row['epoch'] + 1} of at most {settings.optimizer.epochs}, "
            f"validation {row['energy_rmse_mev_per_atom']:.2f} meV/atom, {row['forces_rmse_ev_per_ang']:.4f} eV/Å",
            flush=True,
        )

    potential = Trainer(settings).potential if untrained else train(settings, report).potential
    data = [x for path in settings.data.train for x in read_labelled(path, settings.data)]
    return predict(potential, [data[k] for k in take_fold(data, settings.data.folds, settings.data.fold)[1]])


def joined(parts: list[Predictions]) -> Predictions:
    """Return predictions on several sets of frames as one."""
    return Predictions(
        data=tuple(x for p in parts for x in p.data),
        energies=np.concatenate([p.energies for p in parts]),
        forces=tuple(x for p in parts for x in p.forces),
        stresses=tuple(x for p in parts for x in p.stresses),
    )


def intervals(found: Predictions) -> dict[str, list[float]]:
    """Return the 2.5 and 97.5 percentiles of the RMSEs over resampled frames."""
    atoms = np.array([len(x.atoms) for x in found.data])
    energies = (1e3 * (found.energies - [x.energy for x in found.data]) / atoms) ** 2
    forces = np.array([np.sum((f - x.forces) ** 2) / 3 for f, x in zip(found.forces, found.data, strict=True)])
    chosen = np.random.default_rng(0).integers(len(atoms), size=(RESAMPLES, len(atoms)))
    resampled = {
        "energy_rmse_mev_per_atom": np.sqrt(energies[chosen].mean(axis=1)),
        "forces_rmse_ev_per_ang": np.sqrt(forces[chosen].sum(axis=1) / atoms[chosen].sum(axis=1)),
    }
    return {name: [float(x) for x in np.percentile(values, [2.5, 97.5])] for name, values in resampled.items()}


def main() -> None:
    """Train the folds of one element and print the pooled errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("element", choices=list(PUBLISHED))
    parser.add_argument("--config", type=Path, help="default: that of the network that ships")
    parser.add_argument("--untrained", action="store_true", help="predict without training")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--json", type=Path, help="write the errors here")
    parser.add_argument("--folds", type=int, default=10, help="parts to cut the data into (default: %(default)s)")
    parser.add_argument("--take", type=int, nargs="+", help="folds to train, from 0 (default: all)")
    args = parser.parse_args()
    taken = list(range(args.folds)) if args.take is None else args.take
    if not set(taken) <= set(range(args.folds)):
        parser.error(f"--take: folds are numbered 0 to {args.folds - 1}")
    torch.set_num_threads(1)
    config = args.config or Path(__file__).parent / f"mlearn-{args.element}.yaml"
    settings = [fold_settings(config, k, args.folds, args.out) for k in taken]
    found = joined([fold_predictions(s, args.untrained) for s in settings])
    result = {
        "element": args.element,
        "folds": args.folds,
        "taken": taken,
        **errors_by_group(found),
        "interval_95": intervals(found),
    }
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    for name, errors in [("all", result["overall"]), *result["groups"].items()]:
        print(
            f"{args.element} {name}: {errors['n_structures']} frames, RMSE {errors['energy_rmse_mev_per_atom']:.2f} "
            f"meV/atom, {errors['forces_rmse_ev_per_ang']:.4f} eV/Å"
        )
    low, high = result["interval_95"]["forces_rmse_ev_per_ang"]
    print(f"{args.element} all: 95 % of resamples {low:.4f} to {high:.4f} eV/Å")
    for name, (energy, force) in PUBLISHED[args.element].errors.items():
        print(f"{args.element} {name}, as published, on other frames: {energy:.2f} meV/atom, {force:.3f} eV/Å")


if __name__ == "__main__":
    main()
