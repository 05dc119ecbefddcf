"""Settings of a training run of the Wyckoff transformer: what a config file may say."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlcalc.configs import build_settings, read_config
from mlcalc.errors import TrainingError
from mlcalc.generators._wyckoff_network import NetworkSettings


@dataclass(frozen=True)
class GeneratorTrainingSettings:
    """Everything a training run depends on; same settings and seed, same weights.

    Attributes:
        name: of the generator's weights.
        data: files of crystals (``mlcalc.crystals.io.read_crystals``); paths relative to the config file.
        out: folder of the run, relative to the config file; by default the name.
        seed: of weights, split and order.
        threads: torch threads (0: leave as they are).
        symprec: distance tolerance of the crystals' space groups, Å.
        validation_fraction: share of reduced formulas held out.
        epochs: passes over the training set.
        batch_size: crystals per step.
        learning_rate: largest one, after ``warmup`` epochs; a cosine leads from there to zero.
        warmup: epochs of linear increase.
        weight_decay: of AdamW.
        gradient_clip: largest norm of the gradient.
        ema: decay per step of the moving average that is validated and shipped.
        patience: epochs without improvement after which training stops early.
        drop_elements: share of crystals whose elements the network is not told.
        drop_composition: share of the others whose composition it is not told.
        drop_property: share of crystals for each property that it is not told.
        network: size of the network.
        training_data: where the data came from, for the weights file.
        licence: of the weights.
    """

    name: str = "wyckoff"
    data: tuple[str, ...] = ()
    out: str = ""
    seed: int = 1
    threads: int = 0
    symprec: float = 0.1
    validation_fraction: float = 0.05
    epochs: int = 100
    batch_size: int = 128
    learning_rate: float = 2e-3
    warmup: int = 2
    weight_decay: float = 0.05
    gradient_clip: float = 1.0
    ema: float = 0.998
    patience: int = 30
    drop_elements: float = 0.5
    drop_composition: float = 0.5
    drop_property: float = 0.5
    network: NetworkSettings = field(default_factory=NetworkSettings)
    training_data: str = ""
    licence: str = "unknown"

    def __post_init__(self) -> None:
        """Reject what cannot be trained."""
        if not self.data:
            raise TrainingError("data names no file; give one or more files of crystals")
        if min(self.epochs, self.batch_size) < 1:
            raise TrainingError("epochs and batch_size must be at least 1")
        if not 0 < self.validation_fraction < 1:
            raise TrainingError("validation_fraction must lie between 0 and 1")
        if self.network.width % self.network.heads:
            raise TrainingError("network.width must be a multiple of network.heads")
        for name in ("drop_elements", "drop_composition", "drop_property"):
            if not 0 <= getattr(self, name) <= 1:
                raise TrainingError(f"{name} must lie between 0 and 1")


def generator_settings(values: dict[str, Any]) -> GeneratorTrainingSettings:
    """Build settings from nested dictionaries.

    Raises:
        TrainingError: naming an unknown key, a wrong type, or what cannot be trained.
    """
    settings: GeneratorTrainingSettings = build_settings(
        GeneratorTrainingSettings, values, {"network": NetworkSettings}
    )
    return settings


def read_generator_settings(path: str | Path) -> GeneratorTrainingSettings:
    """Read a YAML config; ``~`` and ``$VARIABLES`` are expanded, other relative paths are taken from its folder.

    Raises:
        TrainingError: the file is missing, no YAML, or says something unknown.
    """
    values, resolve = read_config(path)
    settings = generator_settings(values)
    data = tuple(resolve(name) for name in settings.data)
    return dataclasses.replace(settings, data=data, out=resolve(settings.out or settings.name))
