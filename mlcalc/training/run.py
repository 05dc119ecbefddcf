"""One call from settings to a finished folder: weights, model file, log, metrics, card, pictures."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mlcalc.deploy import export, save_weights
from mlcalc.files import write_atomic
from mlcalc.potentials.base import Potential
from mlcalc.training.card import model_card
from mlcalc.training.extrapolation import calibration, fit_grade
from mlcalc.training.metrics import errors, errors_by_group, predict
from mlcalc.training.plots import grade_plot, learning_curve, parity_plot
from mlcalc.training.settings import TrainingSettings
from mlcalc.training.trainer import Trainer


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run leaves behind.

    Attributes:
        potential: the trained potential (averaged weights of the epoch that ``optimizer.keep`` chose).
        folder: holds ``NAME.safetensors``, ``NAME.pt``, ``config.yaml``, ``log.csv``, ``metrics.json``, ``card.md``,
            ``parity.png``, ``learning.png``, ``grade.png`` and ``checkpoint.pt``.
        metrics: errors on training, validation and test sets (if there is one), see ``metrics.errors_by_group``.
        epochs: epochs trained.
        best_epoch: epoch the weights come from.
        seconds: time spent in epochs, over all sittings.
    """

    potential: Potential
    folder: Path
    metrics: dict[str, Any]
    epochs: int
    best_epoch: int
    seconds: float


def train(settings: TrainingSettings, report: Callable[[dict[str, Any]], None] | None = None) -> TrainingResult:
    """Train, resuming whatever the folder holds, and write everything a user needs.

    Args:
        settings: see ``read_settings``; ``settings.out`` is the folder.
        report: called with each epoch's row of the log.

    Raises:
        TrainingError: if data or settings cannot work, or the loss is no longer finite.
    """
    return finish(Trainer(settings, report))


def finish(trainer: Trainer) -> TrainingResult:
    """Train to the end and write the folder."""
    settings, folder = trainer.settings, trainer.folder
    potential = trainer.run()
    if settings.model.grade:
        potential = fit_grade(potential, trainer.train_set.graphs, settings.model.grade)
    data = {"training": trainer.training, "validation": trainer.validation, "test": trainer.test}
    predictions = {name: predict(potential, items) for name, items in data.items() if items}
    metrics: dict[str, Any] = {name: {**errors_by_group(p), "grade": calibration(p)} for name, p in predictions.items()}
    if settings.loss.stress_offset:
        offset = float(trainer.best["stress_offset"])
        metrics["stress_offset_ev_per_ang3"] = offset
        for name, p in predictions.items():
            shifted = tuple(None if s is None else s + offset * np.eye(3) for s in p.stresses)
            corrected = errors(dataclasses.replace(p, stresses=shifted))["stress_rmse_gpa"]
            metrics[name]["overall"]["stress_rmse_gpa_without_offset"] = corrected
    seconds = sum(row["seconds"] for row in trainer.history)
    training = {
        "epochs": trainer.epoch,
        "best_epoch": trainer.best_epoch,
        "seconds": seconds,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    save_weights(potential, folder / f"{settings.name}.safetensors")
    export(potential, folder / f"{settings.name}.pt", "float32")
    write_atomic(folder / "metrics.json", json.dumps({**metrics, "run": training}, indent=1))
    write_atomic(folder / "card.md", model_card(potential, settings, metrics, training))
    parity_plot(predictions, folder / "parity.png")
    learning_curve(trainer.history, folder / "learning.png")
    if settings.model.grade:
        grade_plot(predictions["validation"], folder / "grade.png")
    return TrainingResult(potential, folder, metrics, trainer.epoch, trainer.best_epoch, seconds)
