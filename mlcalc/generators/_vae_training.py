"""Training the variational autoencoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mlcalc.crystals.coordinate_image import CoordinateImage
from mlcalc.errors import CodecError, ModelFileError, TrainingError
from mlcalc.generators._fit import Fit, FitSettings, Progress, Report, content_digest
from mlcalc.generators._image_data import EncodedSet, Images, encode_set
from mlcalc.generators._split import split_by_formula
from mlcalc.generators._vae_network import VaeNetwork, VaeSettings, divergence, reconstruction
from mlcalc.generators._vae_weights import load_vae, save_vae
from mlcalc.generators._wyckoff_vocabulary import in_order

_PARTS = ("lattice", "elements", "coordinates")


@dataclass(frozen=True)
class VaeFitSettings(FitSettings):
    """What the variational autoencoder takes beside ``FitSettings``.

    Attributes:
        max_atoms: largest crystals of the images; larger ones are left out and counted.
        drop_elements: share of crystals whose elements the prior is not told.
        drop_composition: share of the others of which it is told the elements, not their shares.
        drop_property: share of crystals for each property that it is not told.
        divergence: weight of the divergence from the prior. Below 1 more of a crystal is kept in its latent vector; at
            1 elements are not, which costs the bound nothing and leaves nothing to search. What is drawn is right all
            the same, since the prior is learnt.
        divergence_epochs: epochs over which that weight is reached.
        property_weight: of the squared error of the properties (in standard deviations), in nats.
        property_rate: how much faster the property head learns than the rest would; labelled crystals are drawn this
            many times an epoch, where others are drawn once.
        network: size of the network; with ``start``, that of the weights there.
    """

    name: str = "vae"
    max_atoms: int = 20
    drop_elements: float = 0.5
    drop_composition: float = 0.5
    drop_property: float = 0.5
    divergence: float = 0.25
    divergence_epochs: int = 5
    property_weight: float = 5.0
    property_rate: int = 1
    network: VaeSettings = field(default_factory=VaeSettings)

    sections: ClassVar[Mapping[str, type]] = {"network": VaeSettings}

    def __post_init__(self) -> None:
        """Reject what cannot be trained."""
        super().__post_init__()
        if self.network.width % self.network.heads:
            raise TrainingError("network.width must be a multiple of network.heads")
        for name in ("drop_elements", "drop_composition", "drop_property"):
            if not 0 <= getattr(self, name) <= 1:
                raise TrainingError(f"{name} must lie between 0 and 1")
        if self.max_atoms < 1 or self.property_rate < 1:
            raise TrainingError("max_atoms and property_rate must be at least 1")


class VaeTrainer(Fit[VaeFitSettings, VaeNetwork]):
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

    training: Images
    validation: Images

    def __init__(
        self, settings: VaeFitSettings, report: Report | None = None, progress: Progress | None = None
    ) -> None:
        super().__init__(settings, report)
        crystals = self.read()
        if not crystals:
            raise TrainingError(f"no crystals in {', '.join(settings.data)}")
        network, start, encoded = self._begin(crystals, progress)
        kept, held = split_by_formula(encoded.compositions, settings.validation_fraction, settings.seed)
        self.training, self.validation = encoded.images.take(kept), encoded.images.take(held)
        self.left_out = encoded.refused.total()
        self.refused = encoded.refused
        self.content = content_digest(crystals)
        self.prepare(network, start)

    def _begin(
        self, crystals: list[Any], progress: Progress | None
    ) -> tuple[VaeNetwork, dict[str, Tensor] | None, EncodedSet]:
        s = self.settings
        begun = None
        if s.start:
            try:
                begun = load_vae(s.start).network
            except ModelFileError as error:
                raise TrainingError(f"start: {error}") from error
        present = in_order({e for item in crystals for e in item.atoms.symbols})
        codec = begun.codec if begun else CoordinateImage(present, s.max_atoms)
        try:
            encoded = encode_set(crystals, codec, codec.elements, begun.conditions if begun else None, progress)
        except CodecError as error:
            raise TrainingError(str(error)) from error
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(s.seed)
            network = VaeNetwork(codec, encoded.conditions, begun.settings if begun else s.network)
        return network, begun.state_dict() if begun else None, encoded

    def _told(self, batch: Images, rng: np.random.Generator) -> Tensor:
        """What the prior is told of each crystal, some of it left out at random."""
        s, size = self.settings, len(batch)
        elements = rng.random(size) >= s.drop_elements
        told = torch.from_numpy(elements * (1 + (rng.random(size) >= s.drop_composition)))
        untold = torch.from_numpy(rng.random(batch.properties.shape) < s.drop_property)
        properties = batch.properties.masked_fill(untold, torch.nan)
        return self.network.conditions.vector(batch.shares, told, properties, size)

    def _property_loss(self, predicted: Tensor, batch: Images) -> tuple[Tensor, int]:
        """Return the sum of squared errors in standard deviations over what is labelled, and how many that are."""
        true = self.network.conditions.standardised(batch.properties)
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
            prior = network.prior(self._told(batch, rng))
            rebuilt = reconstruction(decoded, batch.arrays).sum(dim=1)
            apart = divergence(mean, log_width, z, prior)
            wrong, known = self._property_loss(network.properties(z, decoded), batch)
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
            one, many = self._property_loss(network.properties(mean, at_mean), batch)
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

    def describe(self) -> str:
        """Return one line about data and network."""
        n = int((~self.training.properties.isnan()).any(dim=1).sum())
        properties = ", ".join(self.network.conditions.properties) or "none"
        return f"{super().describe()}; {len(self.network.codec.elements)} elements; {n} with labels ({properties})"

    def write_weights(self, path: Path) -> None:
        """Write the network."""
        save_vae(self.network, path, self.facts())
