"""Training generative adversarial networks: Wasserstein critics with a gradient penalty, collapse watched."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mlcalc.crystals.codec import Codec, make_codec
from mlcalc.crystals.coordinate_image import CoordinateImage
from mlcalc.errors import CodecError, ModelFileError, TrainingError
from mlcalc.generators._gan_network import GanNetwork, GanSettings, critics_for, gradient_penalty
from mlcalc.generators._gan_weights import load_gan, save_gan
from mlcalc.generators._image_conditions import Conditions
from mlcalc.generators._image_data import Images
from mlcalc.generators._image_fit import ImageFit, ImageFitSettings
from mlcalc.generators._precision_recall import features, precision_and_recall

#: Crystals drawn and held out for precision and recall: the cost is their product.
_WATCHED = 1000
#: Without momentum of the first order, as is usual where the target moves (Gulrajani et al.).
_BETAS = (0.0, 0.9)


@dataclass(frozen=True)
class GanFitSettings(ImageFitSettings):
    """What generative adversarial networks take beside ``ImageFitSettings``.

    Attributes:
        codec: options of the codec (``make_codec``), e.g. ``{name: density, ...}``; by default coordinate images of the
            elements in the data.
        critic_steps: steps of the critics for each of the generator.
        critic_rate: learning rate of the critics in units of the generator's.
        penalty: weight of the gradient penalty.
        composition_weight: how much the verdict on the composition counts beside that on the structure.
        network: size of generator and critics; with ``start``, that of the weights there.
    """

    name: str = "gan"
    codec: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 64
    learning_rate: float = 5e-4
    weight_decay: float = 0.0
    gradient_clip: float = 10.0
    critic_steps: int = 2
    critic_rate: float = 1.0
    penalty: float = 10.0
    composition_weight: float = 1.0
    network: GanSettings = field(default_factory=GanSettings)

    sections: ClassVar[Mapping[str, type]] = {"network": GanSettings}

    def __post_init__(self) -> None:
        """Reject what cannot be trained."""
        super().__post_init__()
        if self.critic_steps < 1 or self.penalty < 0:
            raise TrainingError("critic_steps must be at least 1, penalty not negative")


class GanTrainer(ImageFit[GanFitSettings, GanNetwork]):
    """Trains generator and critics in turn; the weights that ship are those with the best precision and recall.

    Columns of the log: the critics' estimates of the Wasserstein distances, gradient penalty, and precision and recall
    against the crystals held out (``_precision_recall.py``); ``miss`` is 1 minus their harmonic mean, ``different`` the
    share of different compositions, and ``collapsed`` 1 where recall is below half its best so far.
    """

    columns = ("structure", "composition", "penalty", "precision", "recall", "different", "collapsed", "miss")
    criterion = "miss"

    def begin(self, present: tuple[str, ...]) -> tuple[Codec, Conditions | None, Mapping[str, Tensor] | None]:
        """Return the codec, and conditions and weights where the run starts from those of another."""
        s = self.settings
        self.begun: GanNetwork | None = None
        try:
            if not s.start:
                codec = make_codec(s.codec) if s.codec else CoordinateImage(present, s.max_atoms)
                return codec, None, None
            self.begun = load_gan(s.start).network
        except (CodecError, ModelFileError, TypeError) as error:
            raise TrainingError(f"{'start' if s.start else 'codec'}: {error}") from error
        return self.begun.codec, self.begun.conditions, self.begun.state_dict()

    def build(self, codec: Codec, conditions: Conditions) -> GanNetwork:
        """Return the network to be trained, and make its critics."""
        s = self.settings
        size = self.begun.settings if self.begun else s.network
        network = GanNetwork(codec, conditions, size)
        self.critics = critics_for(codec, conditions, size)
        self.critic_optimizer = torch.optim.Adam(
            self.critics.parameters(), lr=s.learning_rate * s.critic_rate, betas=_BETAS
        )
        return network

    def prepare(self, network: GanNetwork, start: Mapping[str, Tensor] | None = None) -> None:
        """Take the network to be trained; see ``Fit``."""
        super().prepare(network, start)
        s = self.settings
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=s.learning_rate, betas=_BETAS, weight_decay=s.weight_decay
        )

    def extra_state(self) -> dict[str, Any]:
        """Return the critics and their optimiser."""
        return {"critics": self.critics.state_dict(), "critic_optimizer": self.critic_optimizer.state_dict()}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take up what ``extra_state`` gave."""
        self.critics.load_state_dict(state["critics"])
        self.critic_optimizer.load_state_dict(state["critic_optimizer"])

    def _made(self, told: Tensor) -> Tensor:
        network = self.network
        raw = network(torch.randn(len(told), network.settings.noise), told)
        return network.finished(raw, network.gumbel(len(told)))

    def _critic_step(self, real: Images, told: Tensor, rate: float) -> dict[str, float]:
        s = self.settings
        with torch.no_grad():
            fake = self._made(told)
        at = torch.rand(len(told))
        loss = torch.zeros(())
        row = {"composition": 0.0, "penalty": 0.0}
        for name, critic in self.critics.items():
            apart = critic(real.arrays, told).mean() - critic(fake, told).mean()
            steep = gradient_penalty(critic, real.arrays, fake, told, at)
            loss = loss - apart + s.penalty * steep
            row[name] = float(apart.detach())
            row["penalty"] += float(steep.detach()) / len(self.critics)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the critics' loss became {loss.item()} in epoch {self.epoch}; lower learning_rate; "
                "the last checkpoint is kept"
            )
        for group in self.critic_optimizer.param_groups:
            group["lr"] = rate
        self.critic_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.critic_optimizer.step()
        return row

    def train_epoch(self) -> dict[str, float]:
        """Show every crystal to the critics once; the generator takes a step after every few of theirs."""
        s = self.settings
        rng = np.random.default_rng([s.seed, self.epoch])
        order = rng.permutation(len(self.training))
        shown = math.ceil(len(order) / s.batch_size)
        steps = math.ceil(shown / s.critic_steps)
        sums = dict.fromkeys(("structure", "composition", "penalty"), 0.0)
        for number in range(shown):
            batch = self.training.take(order[number * s.batch_size : (number + 1) * s.batch_size])
            told = self.told(batch, rng)
            turn = number // s.critic_steps
            # That of the generator in the same turn, so that the two stay in proportion.
            rate = self.learning_rate(self.epoch + turn / steps) * s.critic_rate
            for name, value in self._critic_step(batch, told, rate).items():
                sums[name] += value / shown
            if number % s.critic_steps == 0:
                fake = self._made(told)
                verdict = self.critics["structure"](fake, told).mean()
                if "composition" in self.critics:
                    verdict = verdict + s.composition_weight * self.critics["composition"](fake, told).mean()
                self.step(-verdict, turn, steps)
        return sums

    def validate(self) -> dict[str, float]:
        """Draw as many crystals as are held out, told nothing, and compare the two sets."""
        network, size = self.network, min(_WATCHED, len(self.validation))
        noise = torch.Generator().manual_seed(self.settings.seed)
        made = []
        for start in range(0, size, self.settings.batch_size):
            rows = min(self.settings.batch_size, size - start)
            told = self.conditions.vector(None, None, None, rows)
            raw = network(torch.randn(rows, network.settings.noise, generator=noise), told)
            made.append(network.finished(raw, network.gumbel(rows, noise)))
        drawn = torch.cat(made)
        held = self.validation.arrays[:size]
        precision, recall = precision_and_recall(
            features(drawn.numpy(), network.codec), features(held.numpy(), network.codec)
        )
        best = max([row["recall"] for row in self.history], default=0.0)
        both = precision + recall
        return {
            "precision": precision,
            "recall": recall,
            "different": _different(drawn, network.codec),
            "collapsed": float(recall < 0.5 * best),
            "miss": 1.0 - (2 * precision * recall / both if both else 0.0),
        }

    def facts(self) -> dict[str, Any]:
        """Return what the weights file says about its training, collapses included."""
        collapsed = [int(row["epoch"]) + 1 for row in self.history if row["collapsed"]]
        return {**super().facts(), "collapsed_epochs": collapsed}

    def write_weights(self, path: Path) -> None:
        """Write the generator."""
        save_gan(self.network, path, self.facts())


def _different(images: Tensor, codec: Codec) -> float:
    """Return the share of different compositions; of different images for codecs whose elements cannot be read off."""
    kinds = images[:, -len(codec.elements) :, 1:].sum(dim=2) if isinstance(codec, CoordinateImage) else images
    rows = {tuple(row) for row in kinds.flatten(1).round(decimals=2).tolist()}
    return len(rows) / len(images)
