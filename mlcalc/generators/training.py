"""Training generators from config files; runs resume to the bit after a kill at any moment."""

from __future__ import annotations

import dataclasses
from importlib import import_module
from pathlib import Path
from typing import Any

from mlcalc.configs import build_settings, read_config
from mlcalc.errors import TrainingError
from mlcalc.generators._fit import Fit, FitSettings, Progress, Report

#: Modules, settings and trainer of each generator that can be trained: a new one is one line here.
TRAINERS: dict[str, tuple[str, str, str, str]] = {
    "flow": (
        "mlcalc.generators._flow_settings",
        "FlowSettings",
        "mlcalc.generators._flow_training",
        "FlowTrainer",
    ),
    "gan": (
        "mlcalc.generators._gan_training",
        "GanFitSettings",
        "mlcalc.generators._gan_training",
        "GanTrainer",
    ),
    "vae": (
        "mlcalc.generators._vae_training",
        "VaeFitSettings",
        "mlcalc.generators._vae_training",
        "VaeTrainer",
    ),
    "wyckoff": (
        "mlcalc.generators._wyckoff_settings",
        "WyckoffSettings",
        "mlcalc.generators._wyckoff_training",
        "WyckoffTrainer",
    ),
}


def generator_settings(values: Any) -> tuple[str, FitSettings]:
    """Return a generator's name and its settings from nested dictionaries; ``generator`` names it (``wyckoff``).

    Raises:
        TrainingError: naming an unknown generator, an unknown key, a wrong type, or what cannot be trained.
    """
    values = dict(values) if isinstance(values, dict) else values
    name = values.pop("generator", "wyckoff") if isinstance(values, dict) else "wyckoff"
    if not isinstance(name, str) or name not in TRAINERS:
        raise TrainingError(f"no generator {name!r} can be trained; there are: {', '.join(sorted(TRAINERS))}")
    module, cls, _, _ = TRAINERS[name]
    kind: type[FitSettings] = getattr(import_module(module), cls)
    settings: FitSettings = build_settings(kind, values, kind.sections)
    return name, settings


def read_generator_settings(path: str | Path) -> tuple[str, FitSettings]:
    """Read a YAML config; ``~`` and ``$VARIABLES`` are expanded, other relative paths are taken from its folder.

    Raises:
        TrainingError: the file is missing, no YAML, or says something unknown.
    """
    values, resolve = read_config(path)
    name, settings = generator_settings(values)
    return name, dataclasses.replace(
        settings,
        data=tuple(resolve(file) for file in settings.data),
        out=resolve(settings.out or settings.name),
        start=resolve(settings.start) if settings.start else "",
    )


def make_trainer(
    name: str, settings: FitSettings, report: Report | None = None, progress: Progress | None = None
) -> Fit[Any, Any]:
    """Return the trainer of a generator; its ``run()`` trains.

    Args:
        name: of the generator.
        settings: of the run, as ``generator_settings`` gives them.
        report: called with one dictionary an epoch (the columns of the log).
        progress: called with what is being done, how far, and out of how many, while crystals are read.

    Raises:
        TrainingError: data or settings that cannot work.
    """
    _, _, module, cls = TRAINERS[name]
    trainer: Fit[Any, Any] = getattr(import_module(module), cls)(settings, report, progress)
    return trainer
