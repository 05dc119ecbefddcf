"""Training the variational autoencoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from mlcalc.crystals.codec import Codec
from mlcalc.crystals.coordinate_image import CoordinateImage
from mlcalc.errors import ModelFileError, TrainingError
from mlcalc.generators._image_conditions import Conditions
from mlcalc.generators._image_data import Images
from mlcalc.generators._image_fit import ImageFit, ImageFitSettings
from mlcalc.generators._vae_network import VaeNetwork, VaeSettings, divergence, reconstruction
from mlcalc.generators._vae_weights import load_vae, save_vae

#: Training crystals whose latent vectors the weights file holds.
_KNOWN = 4096
_PARTS = ("lattice", "elements", "coordinates")


@dataclass(frozen=True)
class VaeFitSettings(ImageFitSettings):
    """What the variational autoencoder takes beside ``ImageFitSettings``.

    Attributes:
        divergence: weight of the divergence from the prior. Below 1 more of a crystal is kept in its latent vector; at
            1 elements are not, which costs the bound nothing and leaves nothing to search. What is drawn is right all
            the same, since the prior is learnt.
        divergence_epochs: epochs over which that weight is reached.
        property_weight: of the squared error of the properties (in standard deviations), in nats.
        property_rate: how often a labelled crystal is seen in an epoch, where others are seen once.
        network: size of the network; with ``start``, that of the weights there.
    """

    name: str = "vae"
    divergence: float = 0.25
    divergence_epochs: int = 5
    property_weight: float = 5.0
    property_rate: int = 1
    network: VaeSettings = field(default_factory=VaeSettings)

    sections: ClassVar[Mapping[str, type]] = {"network": VaeSettings}

    def __post_init__(self) -> None:
        """Reject what cannot be trained."""
        super().__post_init__()
        if self.network.heads < 1 or self.network.width % self.network.heads:
            raise TrainingError("network.width must be a multiple of network.heads")
        if self.property_rate < 1:
            raise TrainingError("property_rate must be at least 1")


class VaeTrainer(ImageFit[VaeFitSettings, VaeNetwork]):
    """Raises the evidence lower bound of every crystal, and fits the property head to those that have labels."""

    columns = (
        "training_nats",
        "validation_loss",
        "validation_nats",
        *(f"{part}_nats" for part in _PARTS),
        "divergence_nats",
        "elements_right",
        "property_error",
    )
    criterion = "validation_loss"

    def begin(self, present: tuple[str, ...]) -> tuple[Codec, Conditions | None, Mapping[str, Tensor] | None]:
        """Return the codec, and conditions and weights where the run starts from those of another."""
        self.begun: VaeNetwork | None = None
        if not self.settings.start:
            return CoordinateImage(present, self.settings.max_atoms), None, None
        try:
            self.begun = load_vae(self.settings.start).network
        except ModelFileError as error:
            raise TrainingError(f"start: {error}") from error
        return self.begun.codec, self.begun.conditions, self.begun.state_dict()

    def build(self, codec: Codec, conditions: Conditions) -> VaeNetwork:
        """Return the network to be trained."""
        assert isinstance(codec, CoordinateImage)  # of begin
        return VaeNetwork(codec, conditions, self.begun.settings if self.begun else self.settings.network)

    def _property_loss(self, predicted: Tensor, batch: Images) -> tuple[Tensor, int]:
        """Return the sum of squared errors in standard deviations over what is labelled, and how many that are."""
        true = self.conditions.standardised(batch.properties)
        known = ~true.isnan()
        return ((predicted - torch.nan_to_num(true)) ** 2 * known).sum(), int(known.sum())

    def train_epoch(self) -> dict[str, float]:
        """See every crystal once, labelled ones ``property_rate`` times."""
        s, network = self.settings, self.network
        rng = np.random.default_rng([s.seed, self.epoch])
        labelled = np.flatnonzero((~self.training.properties.isnan()).any(dim=1).numpy())
        pool = np.concatenate([np.arange(len(self.training)), *([labelled] * (s.property_rate - 1))])
        order = rng.permutation(pool)
        steps = math.ceil(len(order) / s.batch_size)
        total = 0.0
        for number in range(steps):
            batch = self.training.take(order[number * s.batch_size : (number + 1) * s.batch_size])
            risen = min(1.0, (self.epoch + (number + 1) / steps) / max(s.divergence_epochs, 1e-9))
            mean, log_width = network.encode(batch.arrays)
            z = mean + log_width.exp() * torch.randn(mean.shape)
            decoded = network.decode(z)
            prior = network.prior(self.told(batch, rng))
            rebuilt = reconstruction(decoded, batch.arrays).sum(dim=1)
            apart = divergence(mean, log_width, z, prior)
            wrong, known = self._property_loss(network.properties(decoded), batch)
            loss = (s.divergence * risen * apart - rebuilt).mean() + s.property_weight * wrong / max(known, 1)
            self.step(loss, number, steps)
            total += float((apart - rebuilt).sum().detach())
        return {"training_nats": total / len(order)}

    def validate(self) -> dict[str, float]:
        """Return the bound without conditions by parts, and how well elements and properties come back."""
        network, s = self.network, self.settings
        noise = torch.Generator().manual_seed(s.seed)
        sums = np.zeros(len(_PARTS) + 1)
        right, atoms, wrong, known = 0.0, 0.0, 0.0, 0
        for start in range(0, len(self.validation), s.batch_size):
            batch = self.validation.take(range(start, min(start + s.batch_size, len(self.validation))))
            mean, log_width = network.encode(batch.arrays)
            z = mean + log_width.exp() * torch.randn(mean.shape, generator=noise)
            decoded = network.decode(z)
            prior = network.prior(network.conditions.vector(None, None, None, len(batch)))
            parts = torch.cat(
                [-reconstruction(decoded, batch.arrays), divergence(mean, log_width, z, prior)[:, None]], dim=1
            )
            sums += parts.double().sum(dim=0).numpy()
            kinds = batch.arrays[:, -decoded.kinds.shape[2] :, 1:].transpose(1, 2)
            hit = decoded.kinds.argmax(dim=2) == kinds.argmax(dim=2)
            there = kinds[..., 0] < 0.5
            right, atoms = right + float((hit & there).sum()), atoms + float(there.sum())
            at_mean = network.decode(mean)
            one, many = self._property_loss(network.properties(at_mean), batch)
            wrong, known = wrong + float(one), known + many
        nats = sums / len(self.validation)
        error = wrong / max(known, 1)
        return {
            "validation_loss": float(nats[:-1].sum() + s.divergence * nats[-1]) + s.property_weight * error,
            "validation_nats": float(nats.sum()),
            **{f"{part}_nats": float(v) for part, v in zip((*_PARTS, "divergence"), nats, strict=True)},
            "elements_right": right / atoms,
            "property_error": math.sqrt(error),
        }

    @torch.no_grad()
    def write_weights(self, path: Path) -> None:
        """Write the network, and where it puts crystals of the training set."""
        some = np.linspace(0, len(self.training) - 1, min(_KNOWN, len(self.training))).astype(int)
        arrays = self.training.take(some).arrays
        known = torch.cat([self.network.encode(part)[0] for part in arrays.split(self.settings.batch_size)])
        save_vae(self.network, known, path, self.facts())
