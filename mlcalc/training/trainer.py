"""Training: resumable to the bit after a kill at any moment."""

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
import yaml
from torch import Tensor

from mlcalc.checkpoints import load_checkpoint, save_checkpoint, write_log
from mlcalc.crystals import closest_neighbors
from mlcalc.errors import TrainingError
from mlcalc.files import write_atomic
from mlcalc.potentials.base import PotentialInfo
from mlcalc.potentials.neural import NeuralPotential
from mlcalc.potentials.references import fit_reference_energies
from mlcalc.potentials.registry import build, completed, network_traits
from mlcalc.training.dataset import GraphDataset, elements_of, read_sets
from mlcalc.training.loss import residuals, weights_at
from mlcalc.training.metrics import predict
from mlcalc.training.settings import TrainingSettings
from mlcalc.training.start import read_start

_LOG_FIELDS = (
    "epoch",
    "learning_rate",
    "train_energy_rmse_mev_per_atom",
    "train_forces_rmse_ev_per_ang",
    "energy_rmse_mev_per_atom",
    "forces_rmse_ev_per_ang",
    "stress_rmse_ev_per_atom",
    "validation_loss",
    "seconds",
)


class _Squares:
    """Running sums of squared residuals."""

    def __init__(self) -> None:
        self.sums = np.zeros(3)
        self.counts = np.zeros(3)

    def add(self, *parts: Tensor) -> None:
        self.sums += [float(p.detach().double().square().sum()) for p in parts]
        self.counts += [p.numel() for p in parts]

    def means(self) -> np.ndarray:
        return self.sums / np.maximum(self.counts, 1)


def _digest(potential: NeuralPotential) -> str:
    digest = hashlib.sha256()
    for value in potential.state_dict().values():
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


class Trainer:
    """Fits a potential to labelled structures.

    Args:
        settings: the run's settings.
        report: called with one dictionary per epoch (the CSV log's columns).

    Raises:
        TrainingError: if data or settings cannot work.
    """

    def __init__(self, settings: TrainingSettings, report: Callable[[dict[str, Any]], None] | None = None) -> None:
        self.settings = settings
        self.report = report
        self.folder = Path(settings.out)
        self.training, self.validation, self.test = read_sets(settings)
        present = elements_of([*self.training, *self.validation, *self.test])
        elements = settings.data.elements or elements_of(self.training)
        if set(present) - set(elements):
            raise TrainingError(
                f"elements {sorted(set(present) - set(elements))} occur in the data but not among {list(elements)}"
            )
        model = settings.model
        try:
            start = read_start(model, elements) if model.start else None
            if start is not None:
                config, cutoff = start.config, start.info.cutoff
                layers, needs = start.info.layers, start.info.needs
            else:
                config = completed({"architecture": model.architecture, "network": model.network, "zbl": model.zbl})
                cutoff, (layers, needs) = model.cutoff, network_traits(config)
                network = {k: v for k, v in config["network"].items() if k != "avg_neighbors" or k in model.network}
                self.settings = dataclasses.replace(settings, model=dataclasses.replace(model, network=network))
            self.train_set = GraphDataset(self.training, elements, cutoff, needs)
            self.validation_set = GraphDataset(self.validation, elements, cutoff, needs)
            if not self.train_set.mean_neighbors():
                raise TrainingError(f"no two atoms are closer than model.cutoff = {cutoff:g} Å; is the data in Å?")
            info = self._info(elements, cutoff, layers, needs)
            self.potential = self._new_potential(config, info) if start is None else self._started(start, info)
        except ValueError as error:  # an unknown architecture, settings it does not take, an element without data
            raise TrainingError(str(error)) from error
        self.offset = torch.zeros((), requires_grad=settings.loss.stress_offset)
        self.parameters = [*self.potential.parameters()] + ([self.offset] if settings.loss.stress_offset else [])
        self.optimizer = torch.optim.Adam(self.parameters, lr=settings.optimizer.learning_rate, amsgrad=True)
        self.fingerprint = self._fingerprint()
        self.ema = self._state()
        self.best = self._state()
        self.best_loss = math.inf
        self.best_epoch = -1
        self.epoch = 0
        self.history: list[dict[str, Any]] = []

    def _info(self, elements: tuple[str, ...], cutoff: float, layers: int, needs: tuple[str, ...]) -> PotentialInfo:
        s = self.settings
        closest = closest_neighbors(d.atoms for d in self.training)
        return PotentialInfo(
            elements=elements,
            cutoff=cutoff,
            layers=layers,
            name=s.name,
            needs=needs,
            energy_scale=s.energy_scale,
            min_distance=round(self.train_set.min_distance(), 4),
            licence=s.licence,
            training_data=s.training_data or ", ".join(Path(p).name for p in s.data.train),
            provenance={"closest_neighbors_ang": [round(float(d), 4) for d in closest]},
        )

    def _references(self, elements: tuple[str, ...], energies: np.ndarray) -> np.ndarray:
        counts = np.array([[d.atoms.get_chemical_symbols().count(e) for e in elements] for d in self.training])
        return fit_reference_energies(counts.astype(float), energies, elements)

    def _new_potential(self, config: dict[str, Any], info: PotentialInfo) -> NeuralPotential:
        s = self.settings
        network = {**config["network"], "avg_neighbors": round(self.train_set.mean_neighbors(), 3), **s.model.network}
        with torch.random.fork_rng(devices=[]):  # the caller's random state is not ours to change
            torch.manual_seed(s.seed)
            potential = build({**config, "network": network}, info)
        scale = float(np.sqrt(np.mean(np.concatenate([d.forces.ravel() for d in self.training]) ** 2)))
        references = self._references(info.elements, np.array([d.energy for d in self.training]))
        potential.set_energies(references.tolist(), scale if scale > 0 else 1.0)
        return potential

    def _started(self, potential: NeuralPotential, info: PotentialInfo) -> NeuralPotential:
        """Take over a potential, its reference energies moved to where the labels are."""
        origin = {"start": Path(self.settings.model.start).name, "start_weights": _digest(potential)}
        if "licence_text" in potential.info.provenance:
            origin["licence_text"] = potential.info.provenance["licence_text"]
        licence = info.licence if info.licence != "unknown" else potential.info.licence
        potential.info = dataclasses.replace(
            info, licence=licence, min_distance=info.min_distance, provenance={**info.provenance, **origin}
        )
        missing = np.array([d.energy for d in self.training]) - predict(potential, self.training).energies
        shift = self._references(info.elements, missing)
        potential.set_energies(potential.reference_energies.double().numpy() + shift, float(potential.scale))
        return potential

    def _state(self) -> dict[str, Tensor]:
        state = {k: v.detach().clone() for k, v in self.potential.named_parameters()}
        state["stress_offset"] = self.offset.detach().clone()
        return state

    def _load(self, state: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.potential.named_parameters():
                parameter.copy_(state[name])
            self.offset.copy_(state["stress_offset"])

    @property
    def _offset(self) -> Tensor | None:
        return self.offset if self.settings.loss.stress_offset else None

    def _learning_rate(self, progress_epochs: float) -> float:
        o = self.settings.optimizer
        if progress_epochs < o.warmup:
            return o.learning_rate * (progress_epochs + 0.1) / (o.warmup + 0.1)
        x = (progress_epochs - o.warmup) / max(1e-9, o.epochs - o.warmup)
        return o.final_learning_rate + 0.5 * (o.learning_rate - o.final_learning_rate) * (1 + math.cos(math.pi * x))

    def _train_epoch(self) -> _Squares:
        o = self.settings.optimizer
        # The order depends on seed and epoch alone, so that a resumed run goes on as if it had never stopped.
        order = np.random.default_rng([self.settings.seed, self.epoch]).permutation(len(self.train_set))
        steps = math.ceil(len(order) / o.batch_size)
        squares = _Squares()
        for step, batch in enumerate(self.train_set.batches(o.batch_size, order.tolist())):
            at = self.epoch + step / steps
            for group in self.optimizer.param_groups:
                group["lr"] = self._learning_rate(at)
            result = residuals(self.potential, batch, create_graph=True, stress_offset=self._offset)
            loss = result.loss(weights_at(self.settings.loss, at / o.epochs))
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"the loss became {loss.item()} in epoch {self.epoch}; lower optimizer.learning_rate "
                    "or look for wrong labels; the last checkpoint is kept"
                )
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, o.gradient_clip)
            self.optimizer.step()
            with torch.no_grad():
                # A short memory at first, else the random start lingers.
                done = self.epoch * steps + step
                decay = min(o.ema, (1.0 + done) / (10.0 + done))
                for name, value in self.potential.named_parameters():
                    self.ema[name].lerp_(value, 1.0 - decay)
                self.ema["stress_offset"].lerp_(self.offset, 1.0 - decay)
            squares.add(result.energy, result.forces, result.stress)
        return squares

    def _validate(self) -> tuple[_Squares, float]:
        live = self._state()
        self._load(self.ema)
        squares = _Squares()
        for batch in self.validation_set.batches(8):
            result = residuals(self.potential, batch, stress_offset=self._offset)
            squares.add(result.energy, result.forces, result.stress)
        self._load(live)
        end = weights_at(self.settings.loss, 1.0)
        return squares, float(np.dot(squares.means(), [end.energy, end.forces, end.stress]))

    def run(self, stop_after: int | None = None) -> NeuralPotential:
        """Train until the last epoch or early stop, resuming from the folder's checkpoint, and return the kept weights.

        Args:
            stop_after: leave after this many epochs of this call (the checkpoint is kept), for tests and schedulers.
        """
        o = self.settings.optimizer
        self.folder.mkdir(parents=True, exist_ok=True)
        self._resume()
        config = self.folder / "config.yaml"
        if not config.exists():  # it may be the user's own, or that of the run being resumed
            write_atomic(config, yaml.safe_dump(self.settings.to_dict(), sort_keys=False))
        first = self.epoch
        while not self.finished:
            if stop_after is not None and self.epoch - first >= stop_after:
                break
            start = time.monotonic()
            train = self._train_epoch().means()
            squares, score = self._validate()
            if score < self.best_loss or o.keep == "last":
                self.best_loss, self.best_epoch = score, self.epoch
                self.best = {k: v.clone() for k, v in self.ema.items()}
            rmse = np.sqrt(squares.means())
            values = (
                self.epoch,
                self.optimizer.param_groups[0]["lr"],
                float(np.sqrt(train[0])) * 1e3,
                float(np.sqrt(train[1])),
                float(rmse[0]) * 1e3,
                float(rmse[1]),
                float(rmse[2]) if squares.counts[2] else None,
                score,
                time.monotonic() - start,
            )
            row = dict(zip(_LOG_FIELDS, values, strict=True))
            self.history.append(row)
            self.epoch += 1
            self._save()
            if self.report is not None:
                self.report(row)
        self._load(self.best)
        return self.potential

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        o = self.settings.optimizer
        stale = o.keep == "best" and self.epoch - max(self.best_epoch, 0) > o.patience
        return stale or self.epoch >= o.epochs

    def _fingerprint(self) -> str:
        """Everything the weights depend on: settings, and the data's content."""
        values = dataclasses.asdict(self.settings)
        for key in ("out", "threads", "licence", "energy_scale", "training_data"):
            values.pop(key)
        values["model"].pop("grade")
        for key in ("train", "validation", "test"):
            values["data"][key] = [Path(p).name for p in values["data"][key]]
        digest = hashlib.sha256()
        for item in (*self.training, *self.validation):
            for array in (item.atoms.numbers, item.atoms.positions, item.atoms.cell.array, item.forces, item.energy):
                digest.update(np.ascontiguousarray(array).tobytes())
            digest.update(b"" if item.stress is None else item.stress.tobytes())
        if values["model"]["start"]:  # the same weights under whatever name
            values["model"]["start"] = self.potential.info.provenance["start_weights"]
        else:  # settings of before there was one
            values["model"].pop("start")
        if values["optimizer"]["keep"] == "best":  # likewise
            values["optimizer"].pop("keep")
        return json.dumps({**values, "frames": digest.hexdigest()}, sort_keys=True)

    def _save(self) -> None:
        state = {
            "epoch": self.epoch,
            "model": self._state(),
            "ema": self.ema,
            "best": self.best,
            "best_loss": self.best_loss,
            "best_epoch": self.best_epoch,
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
        }
        save_checkpoint(self.folder / "checkpoint.pt", self.fingerprint, state)
        write_log(self.folder / "log.csv", _LOG_FIELDS, self.history)

    def _resume(self) -> None:
        saved = load_checkpoint(self.folder / "checkpoint.pt", self.fingerprint)
        if saved is None:
            return
        self._load(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.ema, self.best = saved["ema"], saved["best"]
        self.best_loss, self.best_epoch = saved["best_loss"], saved["best_epoch"]
        self.epoch, self.history = saved["epoch"], saved["history"]
        # A kill between checkpoint and log leaves the log a row short.
        write_log(self.folder / "log.csv", _LOG_FIELDS, self.history)


def set_threads(settings: TrainingSettings) -> None:
    """Set torch's number of threads for this process (0: leave as it is). Called by the command, never on import."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
