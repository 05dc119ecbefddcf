"""Training the Wyckoff transformer: resumable to the bit after a kill at any moment."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlcalc.checkpoints import load_checkpoint, save_checkpoint, write_log
from mlcalc.crystals import WyckoffCrystal, encode
from mlcalc.crystals.io import read_crystals
from mlcalc.errors import CrystalError, TrainingError
from mlcalc.files import write_atomic
from mlcalc.generators._wyckoff_data import (
    Batch,
    Encoded,
    batches,
    composition,
    conditions,
    encode_crystal,
    split_by_formula,
)
from mlcalc.generators._wyckoff_likelihood import PARTS, log_likelihood
from mlcalc.generators._wyckoff_network import WyckoffNetwork
from mlcalc.generators._wyckoff_settings import (
    GeneratorTrainingSettings,
    generator_settings,
    read_generator_settings,
)
from mlcalc.generators._wyckoff_vocabulary import in_order
from mlcalc.generators._wyckoff_weights import save_network

__all__ = ["PARTS", "GeneratorTrainer", "GeneratorTrainingSettings", "generator_settings", "read_generator_settings"]

_FIELDS = ("epoch", "learning_rate", "training_nats", "validation_nats", *(f"{p}_nats" for p in PARTS), "seconds")


class GeneratorTrainer:
    """Fits the Wyckoff transformer to a set of crystals.

    Args:
        settings: of the run.
        report: called with one dictionary an epoch (the columns of the log).
        progress: called with what is being done, how far, and out of how many, while crystals are read.

    Raises:
        TrainingError: data or settings that cannot work.
    """

    def __init__(
        self,
        settings: GeneratorTrainingSettings,
        report: Callable[[dict[str, Any]], None] | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self.settings, self.report = settings, report
        self.folder = Path(settings.out or settings.name)
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            crystals, labels = self._read(progress)
        except CrystalError as error:
            raise TrainingError(str(error)) from error
        self.elements = in_order({o.element for c in crystals for o in c.orbits})
        items = [encode_crystal(c, self.elements, label) for c, label in zip(crystals, labels, strict=True)]
        kept, held = split_by_formula(crystals, settings.validation_fraction, settings.seed)
        self.training: list[Encoded] = [items[k] for k in kept]
        self.validation: list[Encoded] = [items[k] for k in held]
        with torch.random.fork_rng(devices=[]):  # the caller's random state is not ours to change
            torch.manual_seed(settings.seed)
            self.network = WyckoffNetwork(self.elements, settings.network)
        decayed = [p for p in self.network.parameters() if p.dim() > 1]
        others = [p for p in self.network.parameters() if p.dim() <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=settings.learning_rate,
            betas=(0.9, 0.98),
        )
        self.ema, self.best = self._state(), self._state()
        self.best_loss, self.best_epoch, self.epoch = math.inf, -1, 0
        self.history: list[dict[str, Any]] = []

    def _read(
        self, progress: Callable[[str, int, int], None] | None
    ) -> tuple[list[WyckoffCrystal], list[dict[str, float]]]:
        """Read and encode the crystals, or take them from the folder where that was done before."""
        s = self.settings
        found = [item for path in s.data for item in read_crystals(path)]
        digest = hashlib.sha256(repr(s.symprec).encode())
        for item in found:
            for array in (item.atoms.numbers, item.atoms.positions, item.atoms.cell.array):
                digest.update(np.ascontiguousarray(array).tobytes())
        content = digest.hexdigest()
        cache = self.folder / "crystals.json"
        stored = json.loads(cache.read_text(encoding="utf-8")) if cache.is_file() else {}
        if stored.get("content") != content:
            described: list[Any] = []
            for k, item in enumerate(found):
                try:
                    described.append(encode(item.atoms, s.symprec).to_dict())
                except CrystalError:
                    described.append(None)  # counted below
                if progress:
                    progress("crystals", k + 1, len(found))
            stored = {"content": content, "crystals": described}
            write_atomic(cache, json.dumps(stored))
        pairs = [(c, item.labels) for c, item in zip(stored["crystals"], found, strict=True) if c is not None]
        self.left_out = len(found) - len(pairs)
        if len(pairs) < 2:
            raise TrainingError(f"{len(found)} crystals, {self.left_out} of which cannot be described, are too few")
        self.fingerprint = self._fingerprint(content, [label for _, label in pairs])
        return [WyckoffCrystal.from_dict(c) for c, _ in pairs], [label for _, label in pairs]

    def _fingerprint(self, content: str, labels: list[dict[str, float]]) -> str:
        """Everything the weights depend on: settings, and the data's content."""
        values = dataclasses.asdict(self.settings)
        for key in ("out", "threads", "licence", "training_data", "data", "name"):
            values.pop(key)
        known = hashlib.sha256(json.dumps(labels, sort_keys=True).encode()).hexdigest()
        return json.dumps({**values, "crystals": content, "labels": known}, sort_keys=True)

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
        return s.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (at - s.warmup) / (s.epochs - s.warmup))))

    def _conditions(self, batch: Batch, rng: np.random.Generator) -> Tensor:
        """What the network is told of each crystal, some of it left out at random."""
        s, n, size = self.settings, len(self.elements), len(batch.group)
        system, shares = composition(batch, n)
        hidden = torch.from_numpy(rng.random((size, 1)) < s.drop_elements)
        secret = hidden | torch.from_numpy(rng.random((size, 1)) < s.drop_composition)
        untold = torch.from_numpy(rng.random((size, batch.properties.shape[1])) < s.drop_property)
        return conditions(
            n,
            system.masked_fill(hidden, torch.nan),
            shares.masked_fill(secret, torch.nan),
            batch.properties.masked_fill(untold, torch.nan),
            size,
        )

    def _train_epoch(self) -> float:
        s = self.settings
        # Order, dropout and hidden conditions depend on seed and epoch alone, so that a resumed run goes on as if it
        # had never stopped.
        rng = np.random.default_rng([s.seed, self.epoch])
        order = rng.permutation(len(self.training))
        steps = math.ceil(len(order) / s.batch_size)
        total = 0.0
        self.network.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(s.seed * 1_000_003 + self.epoch)
            for step, batch in enumerate(batches(self.training, s.batch_size, len(self.elements), order)):
                for group in self.optimizer.param_groups:
                    group["lr"] = self._learning_rate(self.epoch + step / steps)
                loss = -log_likelihood(self.network, batch, self._conditions(batch, rng)).sum(dim=1).mean()
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
                total += loss.item() * len(batch.group)
        return total / len(order)

    @torch.no_grad()
    def _validate(self) -> np.ndarray:
        """Mean negative log-likelihood of the validation crystals without conditions, by parts."""
        live = self._state()
        self._load(self.ema)
        self.network.eval()
        sums = np.zeros(len(PARTS))
        for batch in batches(self.validation, self.settings.batch_size, len(self.elements)):
            condition = conditions(len(self.elements), None, None, None, len(batch.group))
            sums -= log_likelihood(self.network, batch, condition).double().sum(dim=0).numpy()
        self._load(live)
        return sums / len(self.validation)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return self.epoch >= self.settings.epochs or self.epoch - max(self.best_epoch, 0) > self.settings.patience

    @property
    def weights_file(self) -> Path:
        """Where the best weights are, after every epoch."""
        return self.folder / f"{self.settings.name}.safetensors"

    def run(self, stop_after: int | None = None) -> WyckoffNetwork:
        """Train until the last epoch or early stop, resuming from the folder's checkpoint, and return the best weights.

        Args:
            stop_after: leave after this many epochs of this call (the checkpoint is kept), for tests and schedulers.
        """
        self._resume()
        first = self.epoch
        while not self.finished and (stop_after is None or self.epoch - first < stop_after):
            start = time.monotonic()
            training = self._train_epoch()
            parts = self._validate()
            if parts.sum() < self.best_loss:
                self.best_loss, self.best_epoch = float(parts.sum()), self.epoch
                self.best = {k: v.clone() for k, v in self.ema.items()}
            rate = self.optimizer.param_groups[0]["lr"]
            values = (self.epoch, rate, training, float(parts.sum()), *map(float, parts), time.monotonic() - start)
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
        s = self.settings
        return {
            "name": s.name,
            "licence": s.licence,
            "training_data": s.training_data or ", ".join(Path(p).name for p in s.data),
            "symprec_ang": s.symprec,
            "crystals": {"training": len(self.training), "validation": len(self.validation), "left_out": self.left_out},
            "epoch": self.best_epoch + 1,
            "validation_nats": {p: self.history[self.best_epoch][f"{p}_nats"] for p in PARTS} if self.history else {},
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
        save_network(self.network, self.weights_file, self.facts())
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
