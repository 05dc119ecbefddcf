"""What the trainings of all generators share: epochs, averaged weights, checkpoints that resume to the bit."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from mlcalc.checkpoints import load_checkpoint, save_checkpoint, write_log
from mlcalc.crystals.io import LabelledCrystal, read_crystals
from mlcalc.errors import CrystalError, TrainingError

Report = Callable[[dict[str, Any]], None]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class FitSettings:
    """What a config file may say for every generator; same settings and seed, same weights.

    Attributes:
        name: of the generator's weights.
        data: files of crystals (``mlcalc.crystals.io.read_crystals``); paths relative to the config file.
        out: folder of the run, relative to the config file; by default the name.
        start: weights of the same generator to begin from, instead of random ones.
        seed: of weights, split and order.
        threads: torch threads (0: leave as they are).
        validation_fraction: share of reduced formulas held out.
        epochs: passes over the training set.
        batch_size: crystals per step.
        learning_rate: largest one, after ``warmup`` epochs; a cosine leads from there to zero.
        warmup: epochs of linear increase.
        weight_decay: of AdamW.
        gradient_clip: largest norm of the gradient.
        ema: decay per step of the moving average that is validated and shipped.
        patience: epochs without improvement after which training stops early.
        training_data: where the data came from, for the weights file.
        licence: of the weights.
    """

    name: str = "generator"
    data: tuple[str, ...] = ()
    out: str = ""
    start: str = ""
    seed: int = 1
    threads: int = 0
    validation_fraction: float = 0.05
    epochs: int = 100
    batch_size: int = 128
    learning_rate: float = 2e-3
    warmup: int = 2
    weight_decay: float = 0.05
    gradient_clip: float = 1.0
    ema: float = 0.998
    patience: int = 30
    training_data: str = ""
    licence: str = "unknown"

    #: Fields that are dataclasses themselves.
    sections: ClassVar[Mapping[str, type]] = {}

    def __post_init__(self) -> None:
        """Reject what cannot be trained."""
        if not self.data:
            raise TrainingError("data names no file; give one or more files of crystals")
        if min(self.epochs, self.batch_size) < 1:
            raise TrainingError("epochs and batch_size must be at least 1")
        if self.seed < 0:
            raise TrainingError(f"seed must not be negative, like {self.seed}")
        if not 0 < self.validation_fraction < 1:
            raise TrainingError("validation_fraction must lie between 0 and 1")


S = TypeVar("S", bound=FitSettings)
N = TypeVar("N", bound=torch.nn.Module)


class Fit(ABC, Generic[S, N]):
    """A training run; subclasses say what an epoch is.

    A subclass sets ``training``, ``validation`` (crystals in whatever form it likes), ``left_out`` and
    ``content`` (a digest of the data) before it calls ``self.prepare(network)``.

    Args:
        settings: of the run.
        report: called with one dictionary an epoch (the columns of the log).
        progress: called with what is being done, how far, and out of how many, while crystals are read.

    Raises:
        TrainingError: data or settings that cannot work.
    """

    #: Columns of the log beside epoch, learning_rate and seconds: the keys of ``train_epoch`` and ``validate``.
    columns: ClassVar[tuple[str, ...]]
    #: Key of ``validate`` that is to become small; its best epoch ships.
    criterion: ClassVar[str]

    training: Sized
    validation: Sized
    left_out: int
    content: str

    def __init__(self, settings: S, report: Report | None = None) -> None:
        self.settings, self.report = settings, report
        self.folder = Path(settings.out or settings.name)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"no folder {self.folder} can be made ({error}); choose another `out`") from error

    @abstractmethod
    def train_epoch(self) -> dict[str, float]:
        """Train ``self.network`` for one epoch, with ``self.step``, and return columns of the log.

        Whatever is random must follow from seed and ``self.epoch`` alone, so that a resumed run goes on as if it had
        never stopped.
        """

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Judge ``self.network``, which holds the averaged weights and is in evaluation mode; return columns."""

    @abstractmethod
    def write_weights(self, path: Path) -> None:
        """Write ``self.network``, which holds the best weights."""

    def extra_state(self) -> dict[str, Any]:
        """Return what else a checkpoint must hold (critics, their optimiser); see ``load_extra_state``."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take up what ``extra_state`` gave."""

    def read(self) -> list[LabelledCrystal]:
        """Return all crystals of ``settings.data``.

        Raises:
            TrainingError: a file that cannot be read.
        """
        try:
            return [item for path in self.settings.data for item in read_crystals(path)]
        except CrystalError as error:
            raise TrainingError(str(error)) from error

    def prepare(self, network: N, start: Mapping[str, Tensor] | None = None) -> None:
        """Take the network to be trained, with its weights from ``start`` where given, and make its optimiser."""
        if start is not None:
            try:
                network.load_state_dict(start)
            except RuntimeError as error:
                raise TrainingError(f"{self.settings.start} holds another network: {error}") from error
        s = self.settings
        self.network = network
        self.fingerprint = self._fingerprint(start)
        self.optimizer = adamw(network.named_parameters(), s.learning_rate, s.weight_decay)
        self.ema, self.best = self._state(), self._state()
        self.best_loss, self.best_epoch, self.epoch = math.inf, -1, 0
        self.history: list[dict[str, Any]] = []

    def _fingerprint(self, start: Mapping[str, Tensor] | None) -> str:
        """Everything the weights depend on: settings, the data's content, and where they start."""
        values = dataclasses.asdict(self.settings)
        for key in ("out", "threads", "licence", "training_data", "data", "name", "start"):
            values.pop(key)
        if start is not None:
            digest = hashlib.sha256()
            for name, tensor in sorted(start.items()):
                digest.update(name.encode() + tensor.numpy().tobytes())
            values["start"] = digest.hexdigest()
        return json.dumps({**values, "content": self.content}, sort_keys=True)

    def _state(self) -> dict[str, Tensor]:
        return {k: v.detach().clone() for k, v in self.network.named_parameters()}

    def _load(self, state: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                parameter.copy_(state[name])

    def learning_rate(self, at: float) -> float:
        """Return the learning rate after ``at`` epochs."""
        s = self.settings
        if at < s.warmup:
            return s.learning_rate * (at + 0.05) / (s.warmup + 0.05)
        return s.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (at - s.warmup) / (s.epochs - s.warmup))))

    def step(self, loss: Tensor, number: int, steps: int) -> None:
        """Take step ``number`` of the ``steps`` of this epoch down the gradient of a loss.

        Raises:
            TrainingError: the loss is not finite.
        """
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss.item()} in epoch {self.epoch}; lower learning_rate; the last checkpoint is kept"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.epoch + number / steps)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_clip)
        self.optimizer.step()
        done = self.epoch * steps + number
        decay = min(self.settings.ema, (1.0 + done) / (10.0 + done))  # a short memory at first
        with torch.no_grad():
            for name, value in self.network.named_parameters():
                self.ema[name].lerp_(value, 1.0 - decay)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return self.epoch >= self.settings.epochs or self.epoch - max(self.best_epoch, 0) > self.settings.patience

    @property
    def weights_file(self) -> Path:
        """Where the best weights are, after every epoch."""
        return self.folder / f"{self.settings.name}.safetensors"

    def run(self, stop_after: int | None = None) -> N:
        """Train until the last epoch or early stop, resuming from the folder's checkpoint, and return the best weights.

        Args:
            stop_after: leave after this many epochs of this call (the checkpoint is kept), for tests and schedulers.
        """
        self._resume()
        first = self.epoch
        while not self.finished and (stop_after is None or self.epoch - first < stop_after):
            start = time.monotonic()
            with torch.random.fork_rng(devices=[]):  # the caller's random state is not ours to change
                torch.manual_seed(self.settings.seed * 1_000_003 + self.epoch)
                self.network.train()
                row = self.train_epoch()
                row |= self._validated()
            if not math.isfinite(row[self.criterion]):
                raise TrainingError(
                    f"{self.criterion} became {row[self.criterion]} in epoch {self.epoch}; lower learning_rate; "
                    "the last checkpoint is kept"
                )
            if row[self.criterion] < self.best_loss:
                self.best_loss, self.best_epoch = row[self.criterion], self.epoch
                self.best = {k: v.clone() for k, v in self.ema.items()}
            rate = self.optimizer.param_groups[0]["lr"]
            values = {key: float(row[key]) for key in self.columns}
            self.history.append(
                {"epoch": self.epoch, "learning_rate": rate, **values, "seconds": time.monotonic() - start}
            )
            self.epoch += 1
            self._save()
            if self.report is not None:
                self.report(self.history[-1])
        self._load(self.best)
        self.network.eval()
        return self.network

    def _validated(self) -> dict[str, float]:
        live = self._state()
        self._load(self.ema)
        self.network.eval()
        with torch.no_grad():
            row = self.validate()
        self._load(live)
        return row

    def facts(self) -> dict[str, Any]:
        """Return what the weights file says about its training."""
        s = self.settings
        return {
            "name": s.name,
            "licence": s.licence,
            "training_data": s.training_data or ", ".join(Path(p).name for p in s.data),
            "crystals": {"training": len(self.training), "validation": len(self.validation), "left_out": self.left_out},
            "epoch": self.best_epoch + 1,
            "best": {k: self.history[self.best_epoch][k] for k in self.columns} if self.history else {},
            "hours": sum(row["seconds"] for row in self.history) / 3600,
            "torch": torch.__version__,
        }

    def describe(self) -> str:
        """Return one line about data and network."""
        weights = sum(p.numel() for p in self.network.parameters())
        return (
            f"{len(self.training)} training and {len(self.validation)} validation crystals ({self.left_out} left out); "
            f"{weights} weights; folder {self.folder}"
        )

    def _save(self) -> None:
        keys = ("epoch", "ema", "best", "best_loss", "best_epoch", "history")
        state = {key: getattr(self, key) for key in keys}
        state |= {"model": self._state(), "optimizer": self.optimizer.state_dict(), "extra": self.extra_state()}
        save_checkpoint(self.folder / "checkpoint.pt", self.fingerprint, state)
        self._write_results()

    def _write_results(self) -> None:
        write_log(self.folder / "log.csv", ("epoch", "learning_rate", *self.columns, "seconds"), self.history)
        live, training = self._state(), self.network.training
        self._load(self.best)
        self.network.eval()  # what is written must not depend on dropout
        self.write_weights(self.weights_file)
        self.network.train(training)
        self._load(live)

    def _resume(self) -> None:
        saved = load_checkpoint(self.folder / "checkpoint.pt", self.fingerprint)
        if saved is None:
            return
        self._load(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.load_extra_state(saved["extra"])
        for key in ("ema", "best", "best_loss", "best_epoch", "epoch", "history"):
            setattr(self, key, saved[key])
        self._write_results()  # a kill between checkpoint and log leaves these a row short


def adamw(parameters: Iterable[tuple[str, torch.nn.Parameter]], rate: float, decay: float) -> torch.optim.AdamW:
    """Return an optimiser that lets only matrices decay, not offsets and norms."""
    every = [p for _, p in parameters]
    return torch.optim.AdamW(
        [
            {"params": [p for p in every if p.dim() > 1], "weight_decay": decay},
            {"params": [p for p in every if p.dim() <= 1], "weight_decay": 0.0},
        ],
        lr=rate,
        betas=(0.9, 0.98),
    )


def content_digest(crystals: Sequence[LabelledCrystal], *more: Any) -> str:
    """Return a digest of crystals, their labels, and anything else with a ``repr``."""
    digest = hashlib.sha256(repr(more).encode())
    for item in crystals:
        for array in (item.atoms.numbers, item.atoms.positions, item.atoms.cell.array):
            digest.update(array.tobytes())
        digest.update(json.dumps(item.labels, sort_keys=True).encode())
    return digest.hexdigest()
