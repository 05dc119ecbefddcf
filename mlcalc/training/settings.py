"""Settings of a training run: what a config file may say, with defaults that train a good potential unattended."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlcalc.configs import build_settings, read_config
from mlcalc.errors import TrainingError


@dataclass(frozen=True)
class DataSettings:
    """Where labelled structures come from.

    Attributes:
        train: extended XYZ files (paths relative to the config file).
        validation: extended XYZ files; empty: hold out ``validation_fraction`` of ``train``.
        validation_fraction: share of frames held out, whole blocks of trajectories at a time.
        test: extended XYZ files that play no part in training, not even in choosing the epoch; errors are reported.
        folds: for cross-validation, cut ``train`` into this many parts (0: do not).
        fold: which of them, from 0, is held out as test set.
        group_key: ``info`` key that names groups of frames.
        energy_key: ``info`` key of the total energy, eV.
        forces_key: per-atom array of forces, eV/Å.
        stress_key: ``info`` key of the stress, eV/Å³, tension positive (6 or 9 numbers); absent in a frame: no label.
        elements: order of elements; empty: sorted by atomic number.
    """

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    validation_fraction: float = 0.1
    test: tuple[str, ...] = ()
    folds: int = 0
    fold: int = 0
    group_key: str = "group"
    energy_key: str = "energy"
    forces_key: str = "forces"
    stress_key: str = "stress"
    elements: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelSettings:
    """Which network.

    Attributes:
        architecture: ``"equivariant"`` or ``"schnet"``.
        cutoff: Å.
        zbl: add short-range nuclear repulsion.
        grade: training environments of each element that the extrapolation grade keeps (0: no grade).
        network: keyword arguments of the network class.
        start: potential to start from (a name or a weights file), whose network is fine-tuned; empty: fresh weights.
    """

    architecture: str = "equivariant"
    cutoff: float = 5.0
    zbl: bool = True
    grade: int = 64
    network: dict[str, Any] = field(default_factory=dict)
    start: str = ""


@dataclass(frozen=True)
class LossSettings:
    """Weights of mean squared errors; each pair is (at the start, at the end), geometrically interpolated.

    Attributes:
        energy: per (eV/atom)².
        forces: per (eV/Å)², over components.
        stress: per (eV/atom)², over components of stress × volume per atom.
        stress_offset: fit one constant isotropic offset of the stress labels against their own energies (eV/Å³);
            some data sets carry one.
    """

    energy: tuple[float, float] = (2.0, 50.0)
    forces: tuple[float, float] = (1.0, 1.0)
    stress: tuple[float, float] = (0.5, 2.0)
    stress_offset: bool = False


@dataclass(frozen=True)
class OptimizerSettings:
    """Adam with a cosine decay, and an exponential moving average of the weights.

    Attributes:
        learning_rate: at the start, after ``warmup`` epochs.
        final_learning_rate: at the end of the cosine.
        warmup: epochs of linear increase.
        batch_size: structures per step.
        epochs: passes over the training set.
        ema: decay per step of the moving average that is validated and shipped.
        gradient_clip: largest norm of the gradient.
        keep: ``"best"``, the average of the epoch with the lowest validation loss, or ``"last"``, that of the last
            epoch; for a validation set so small that one frame decides which epoch is best.
        patience: epochs without improvement of the validation loss after which training stops early (not with
            ``keep: last``).
    """

    learning_rate: float = 0.005
    final_learning_rate: float = 1e-5
    warmup: int = 1
    batch_size: int = 2
    epochs: int = 80
    ema: float = 0.998
    gradient_clip: float = 10.0
    keep: str = "best"
    patience: int = 60


@dataclass(frozen=True)
class TrainingSettings:
    """Everything a training run depends on; same settings and seed, same weights.

    Attributes:
        name: name of the potential and of its files.
        out: folder of the run, relative to the config file.
        seed: of weights, split and order.
        threads: torch threads.
        energy_scale: what the energies mean (functional, code), for the model file.
        training_data: where the data came from, for the model file.
        licence: licence of the weights.
    """

    name: str = "potential"
    out: str = ""
    seed: int = 1
    threads: int = 0
    energy_scale: str = "as labelled"
    training_data: str = ""
    licence: str = "unknown"
    data: DataSettings = field(default_factory=DataSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)

    def to_dict(self) -> dict[str, Any]:
        """Return plain dictionaries and lists, fit for YAML and JSON."""
        return _plain(dataclasses.asdict(self))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (tuple, list)) else value


_SECTIONS: dict[str, type] = {
    "data": DataSettings,
    "model": ModelSettings,
    "loss": LossSettings,
    "optimizer": OptimizerSettings,
}


def settings_from_dict(values: dict[str, Any]) -> TrainingSettings:
    """Build settings from nested dictionaries.

    Raises:
        TrainingError: naming an unknown key, a wrong type, or a missing training file.
    """
    settings: TrainingSettings = build_settings(TrainingSettings, values, _SECTIONS)
    if not settings.data.train:
        raise TrainingError("data.train names no file; give one or more extended XYZ files")
    if not 0.0 < settings.data.validation_fraction < 1.0:
        raise TrainingError("data.validation_fraction must lie between 0 and 1")
    if settings.data.folds and (settings.data.folds < 2 or not 0 <= settings.data.fold < settings.data.folds):
        raise TrainingError("data.folds must be 0 or at least 2, and data.fold lie between 0 and data.folds - 1")
    if settings.optimizer.epochs < 1 or settings.optimizer.batch_size < 1:
        raise TrainingError("optimizer.epochs and optimizer.batch_size must be at least 1")
    if settings.optimizer.keep not in ("best", "last"):
        raise TrainingError(f"optimizer.keep must be best or last, not {settings.optimizer.keep!r}")
    return settings


def read_settings(path: str | Path) -> TrainingSettings:
    """Read a YAML config; ``~`` and ``$VARIABLES`` are expanded, other relative paths are taken from its folder.

    Raises:
        TrainingError: if the file is missing, no YAML, or says something unknown.
    """
    values, resolve = read_config(path)
    settings = settings_from_dict(values)
    data = dataclasses.replace(
        settings.data,
        train=tuple(resolve(p) for p in settings.data.train),
        validation=tuple(resolve(p) for p in settings.data.validation),
        test=tuple(resolve(p) for p in settings.data.test),
    )
    start = settings.model.start  # a name stays a name
    model = dataclasses.replace(settings.model, start=resolve(start) if Path(start).suffix else start)
    return dataclasses.replace(settings, data=data, model=model, out=resolve(settings.out or settings.name))
