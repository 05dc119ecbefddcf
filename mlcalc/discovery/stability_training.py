"""Training the stability score: resumable to the bit after a kill at any moment."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor

from mlcalc.checkpoints import load_checkpoint, save_checkpoint, write_log
from mlcalc.crystals import closest_pair
from mlcalc.discovery._stability_graph import Crystals, Neighbourhoods, neighbourhoods
from mlcalc.discovery._stability_network import OUTPUTS, StabilityNetwork, StabilityNetworkSettings
from mlcalc.discovery.stability import save_stability
from mlcalc.errors import TrainingError

_FIELDS = ("epoch", "learning_rate", "training_loss", *(f"validation_mae_{name}" for name in OUTPUTS), "seconds")
# Copies of a crystal whose atoms come closer than this part of a bond are drawn again, so many times.
_CLOSE, _TRIES = 0.6, 10


@dataclass(frozen=True)
class LabelledStructures:
    """One crystal in several shapes that relax to the same, and the energies it relaxes to.

    Attributes:
        given: the shape to predict from; the first half of all that the network sees.
        others: further shapes of it.
        labels: (2,) ``OUTPUTS``, eV per atom; NaN where not known.
        weight: how often it is seen in an epoch.
    """

    given: Atoms
    others: tuple[Atoms, ...]
    labels: tuple[float, float]
    weight: int = 1


@dataclass(frozen=True)
class StabilityTrainingSettings:
    """How the network is trained.

    Attributes:
        network: sizes.
        epochs: at most.
        patience: epochs without improvement after which to stop.
        batch_size: crystals in a step.
        learning_rate: at its highest.
        warmup: epochs.
        weight_decay: of AdamW.
        gradient_clip: largest norm.
        ema: of the weights that are kept, a step.
        copies: displaced and strained copies of each crystal.
        largest_rattle_ang: standard deviations of displacements are drawn up to here, Å.
        largest_strain: and of the change of volume, relative.
        seed: of everything.
    """

    network: StabilityNetworkSettings = field(default_factory=StabilityNetworkSettings)
    epochs: int = 60
    patience: int = 12
    batch_size: int = 64
    learning_rate: float = 2e-3
    warmup: float = 1.0
    weight_decay: float = 0.02
    gradient_clip: float = 2.0
    ema: float = 0.998
    copies: int = 2
    largest_rattle_ang: float = 0.15
    largest_strain: float = 0.15
    seed: int = 0


def disturbed(atoms: Atoms, rng: np.random.Generator, settings: StabilityTrainingSettings) -> Atoms:
    """Return a copy with displaced atoms and another volume, that would relax to what it was.

    As in Gibson, Hire and Hennig, npj Comput. Mater. 8, 211 (2022): what learns from relaxed crystals alone knows
    nothing of those to come.
    """
    for _ in range(_TRIES):
        copy = atoms.copy()
        size, strain = settings.largest_rattle_ang * rng.random(), settings.largest_strain * rng.uniform(-1.0, 1.0)
        copy.set_cell(copy.cell * (1.0 + strain) ** (1 / 3), scale_atoms=True)
        copy.positions += rng.normal(scale=size, size=copy.positions.shape)
        if closest_pair(copy, _CLOSE) is None:
            return copy
    return atoms.copy()


class StabilityTrainer:
    """Fits the stability network.

    Args:
        training: crystals to learn from.
        validation: crystals that tell when to stop.
        folder: for checkpoint, log and ``stability.safetensors``.
        settings: of the run.
        report: called with one dictionary an epoch (the columns of the log).
        facts: more for the weights file to say.

    Raises:
        TrainingError: nothing to learn from, or labels that are not finite.
    """

    def __init__(
        self,
        training: Sequence[LabelledStructures],
        validation: Sequence[LabelledStructures],
        folder: str | Path,
        settings: StabilityTrainingSettings | None = None,
        report: Callable[[dict[str, Any]], None] | None = None,
        facts: dict[str, Any] | None = None,
    ) -> None:
        self.settings, self.report = settings or StabilityTrainingSettings(), report
        if not training or not validation:
            raise TrainingError("the stability score needs crystals to learn from and others to stop by")
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.elements = tuple(sorted({e for item in training for e in item.given.get_chemical_symbols()}))
        known = set(self.elements)
        validation = [item for item in validation if set(item.given.get_chemical_symbols()) <= known]
        s = self.settings
        rng = np.random.default_rng(s.seed)
        self.training = [self._graphs(item, rng) for item in training]
        self.validation = [self._graphs(item, None)[0] for item in validation]
        self.targets, self.aims = _labels(training), _labels(validation)
        self.weights = np.array([item.weight for item in training])
        with torch.random.fork_rng(devices=[]):  # the caller's random state is not ours to change
            torch.manual_seed(s.seed)
            self.network = StabilityNetwork(self.elements, s.network)
        decayed = [p for p in self.network.parameters() if p.dim() > 1]
        others = [p for p in self.network.parameters() if p.dim() <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": s.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=s.learning_rate,
        )
        self.ema, self.best = self._state(), self._state()
        self.best_loss, self.best_epoch, self.epoch = math.inf, -1, 0
        self.history: list[dict[str, Any]] = []
        self.more = facts or {}
        self.fingerprint = self._fingerprint()

    def _graphs(self, item: LabelledStructures, rng: np.random.Generator | None) -> list[Neighbourhoods]:
        """Return neighbours of all shapes of a crystal, the given one first; with ``rng``, copies too."""
        shapes = [item.given]
        if rng is not None:
            shapes += [*item.others, *(disturbed(item.given, rng, self.settings) for _ in range(self.settings.copies))]
        return [neighbourhoods(atoms, self.elements, self.settings.network.neighbours) for atoms in shapes]

    def _fingerprint(self) -> str:
        """Everything the weights depend on: settings, and the data's content."""
        digest = hashlib.sha256(np.concatenate([self.targets, self.aims]).tobytes() + self.weights.tobytes())
        for item in [*(graph for graphs in self.training for graph in graphs), *self.validation]:
            digest.update(item.species.tobytes() + item.distances.tobytes())
        return json.dumps({**asdict(self.settings), "data": digest.hexdigest()}, sort_keys=True)

    def _state(self) -> dict[str, Tensor]:
        return {k: v.detach().clone() for k, v in self.network.named_parameters()}

    def _load(self, state: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                parameter.copy_(state[name])

    def _learning_rate(self, at: float) -> float:
        s = self.settings
        if at < s.warmup:
            return s.learning_rate * (at + 0.05) / (s.warmup + 0.05)
        done = (at - s.warmup) / (s.epochs - s.warmup)
        return s.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))

    def _train_epoch(self) -> float:
        s = self.settings
        # Order, shapes and dropout depend on seed and epoch alone, so that a resumed run goes on as if it had never
        # stopped.
        rng = np.random.default_rng([s.seed, self.epoch])
        order = rng.permutation(np.repeat(np.arange(len(self.training)), self.weights))
        steps = math.ceil(len(order) / s.batch_size)
        total = 0.0
        self.network.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(s.seed * 1_000_003 + self.epoch)
            for step in range(steps):
                for group in self.optimizer.param_groups:
                    group["lr"] = self._learning_rate(self.epoch + step / steps)
                chosen = order[step * s.batch_size : (step + 1) * s.batch_size]
                batch = Crystals.of([self._shape(int(k), rng) for k in chosen])
                loss = _loss(self.network(batch), torch.from_numpy(self.targets[chosen]))
                if not torch.isfinite(loss):
                    raise TrainingError(
                        f"the loss became {loss.item()} in epoch {self.epoch}; lower learning_rate; "
                        "the last checkpoint is kept"
                    )
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.network.parameters(), s.gradient_clip)
                self.optimizer.step()
                done = self.epoch * steps + step
                decay = min(s.ema, (1.0 + done) / (10.0 + done))  # a short memory at first
                with torch.no_grad():
                    for name, value in self.network.named_parameters():
                        self.ema[name].lerp_(value, 1.0 - decay)
                total += loss.item() * len(chosen)
        return total / len(order)

    def _shape(self, number: int, rng: np.random.Generator) -> Neighbourhoods:
        """Return a crystal as given half of the time, else in another shape."""
        shapes = self.training[number]
        return shapes[0] if rng.random() < 0.5 else shapes[int(rng.integers(len(shapes)))]

    @torch.no_grad()
    def _validate(self) -> NDArray[np.float64]:
        """Return the mean absolute error of each output on the validation crystals as given."""
        live = self._state()
        self._load(self.ema)
        self.network.eval()
        size = self.settings.batch_size
        parts = [
            self.network(Crystals.of(self.validation[k : k + size])).numpy()
            for k in range(0, len(self.validation), size)
        ]
        self._load(live)
        errors: NDArray[np.float64] = np.nanmean(np.abs(np.concatenate(parts) - self.aims), axis=0).astype(np.float64)
        return errors

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return self.epoch >= self.settings.epochs or self.epoch - max(self.best_epoch, 0) > self.settings.patience

    @property
    def weights_file(self) -> Path:
        """Where the best weights are, after every epoch."""
        return self.folder / "stability.safetensors"

    def run(self, stop_after: int | None = None) -> StabilityNetwork:
        """Train until the last epoch or early stop, resuming from the folder's checkpoint, and return the best weights.

        Args:
            stop_after: leave after this many epochs of this call (the checkpoint is kept), for tests and schedulers.
        """
        self._resume()
        first = self.epoch
        while not self.finished and (stop_after is None or self.epoch - first < stop_after):
            start = time.monotonic()
            training = self._train_epoch()
            errors = self._validate()
            if errors.sum() < self.best_loss:
                self.best_loss, self.best_epoch = float(errors.sum()), self.epoch
                self.best = {k: v.clone() for k, v in self.ema.items()}
            rate = self.optimizer.param_groups[0]["lr"]
            values = (self.epoch, rate, training, *map(float, errors), time.monotonic() - start)
            self.history.append(dict(zip(_FIELDS, values, strict=True)))
            self.epoch += 1
            self._save()
            if self.report is not None:
                self.report(self.history[-1])
        self._load(self.best)
        self.network.eval()
        return self.network

    def facts(self) -> dict[str, Any]:
        """Return what the weights file says about its training."""
        return {
            **self.more,
            "crystals": {"training": len(self.training), "validation": len(self.validation)},
            "epoch": self.best_epoch + 1,
            "epochs": self.epoch,
            "settings": {k: v for k, v in asdict(self.settings).items() if k != "network"},
            "hours": sum(row["seconds"] for row in self.history) / 3600,
            "torch": torch.__version__,
        }

    def _save(self) -> None:
        keys = ("epoch", "ema", "best", "best_loss", "best_epoch", "history")
        state = {key: getattr(self, key) for key in keys}
        state |= {"model": self._state(), "optimizer": self.optimizer.state_dict()}
        save_checkpoint(self.folder / "checkpoint.pt", self.fingerprint, state)
        self._write_results()

    def _write_results(self) -> None:
        write_log(self.folder / "log.csv", _FIELDS, self.history)
        live = self._state()
        self._load(self.best)
        save_stability(self.network, self.weights_file, self.facts())
        self._load(live)

    def _resume(self) -> None:
        saved = load_checkpoint(self.folder / "checkpoint.pt", self.fingerprint)
        if saved is None:
            return
        self._load(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        for key in ("ema", "best", "best_loss", "best_epoch", "epoch", "history"):
            setattr(self, key, saved[key])
        self._write_results()  # a kill between checkpoint and log leaves these a row short


def _labels(items: Sequence[LabelledStructures]) -> NDArray[np.float32]:
    return np.array([item.labels for item in items], dtype=np.float32).reshape(-1, len(OUTPUTS))


def _loss(values: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute error of what is known, both outputs alike."""
    known = torch.isfinite(targets)
    return (values - targets.nan_to_num())[known].abs().mean()
