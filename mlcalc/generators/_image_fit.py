"""What trainings of generators of images share: crystals become images, conditions are told or withheld."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from mlcalc.crystals.codec import Codec
from mlcalc.errors import CodecError, TrainingError
from mlcalc.generators._fit import Fit, FitSettings, Progress, Report, content_digest
from mlcalc.generators._image_conditions import Conditions
from mlcalc.generators._image_data import Images, encode_set
from mlcalc.generators._split import split_by_formula
from mlcalc.generators._wyckoff_vocabulary import in_order


@dataclass(frozen=True)
class ImageFitSettings(FitSettings):
    """What generators of images take beside ``FitSettings``.

    Attributes:
        max_atoms: largest crystals of the images; larger ones are left out and counted.
        drop_elements: share of crystals whose elements the network is not told.
        drop_composition: share of the others of which it is told the elements, not their shares.
        drop_property: share of crystals for each property that it is not told.
    """

    max_atoms: int = 20
    drop_elements: float = 0.5
    drop_composition: float = 0.5
    drop_property: float = 0.5

    def __post_init__(self) -> None:
        """Reject what cannot be trained."""
        super().__post_init__()
        for name in ("drop_elements", "drop_composition", "drop_property"):
            if not 0 <= getattr(self, name) <= 1:
                raise TrainingError(f"{name} must lie between 0 and 1")
        if self.max_atoms < 1:
            raise TrainingError("max_atoms must be at least 1")


S = TypeVar("S", bound=ImageFitSettings)
N = TypeVar("N", bound=torch.nn.Module)


class ImageFit(Fit[S, N]):
    """A training run on images; subclasses make codec and network of the elements at hand, or take them from weights.

    Args:
        settings: of the run.
        report: called with one dictionary an epoch.
        progress: called while crystals are read.

    Raises:
        TrainingError: data or settings that cannot work.
    """

    training: Images
    validation: Images
    conditions: Conditions
    refused: Counter[str]

    def __init__(self, settings: S, report: Report | None = None, progress: Progress | None = None) -> None:
        super().__init__(settings, report)
        crystals = self.read()
        if not crystals:
            raise TrainingError(f"no crystals in {', '.join(settings.data)}")
        present = in_order({e for item in crystals for e in item.atoms.symbols})
        codec, conditions, start = self.begin(present)
        elements = conditions.elements if conditions else present
        unknown = [e for e in present if e not in elements]
        if unknown:
            raise TrainingError(f"the weights in {settings.start} know no {' '.join(unknown)}; leave out such crystals")
        try:
            encoded = encode_set(crystals, codec, elements, conditions, progress)
        except CodecError as error:
            raise TrainingError(str(error)) from error
        self.conditions, self.refused = encoded.conditions, encoded.refused
        self.left_out = encoded.refused.total()
        kept, held = split_by_formula(encoded.compositions, settings.validation_fraction, settings.seed)
        self.training, self.validation = encoded.images.take(kept), encoded.images.take(held)
        self.content = content_digest(crystals)
        with torch.random.fork_rng(devices=[]):  # the caller's random state is not ours to change
            torch.manual_seed(settings.seed)
            self.prepare(self.build(codec, encoded.conditions), start)

    @abstractmethod
    def begin(self, present: tuple[str, ...]) -> tuple[Codec, Conditions | None, Mapping[str, Tensor] | None]:
        """Return the codec, and conditions and weights where the run starts from those of another."""

    @abstractmethod
    def build(self, codec: Codec, conditions: Conditions) -> N:
        """Return the network to be trained."""

    def told(self, batch: Images, rng: np.random.Generator) -> Tensor:
        """Return what the network is told of each crystal, some of it left out at random."""
        s, size = self.settings, len(batch)
        elements = rng.random(size) >= s.drop_elements
        told = torch.from_numpy(elements * (1 + (rng.random(size) >= s.drop_composition)))
        untold = torch.from_numpy(rng.random(batch.properties.shape) < s.drop_property)
        properties = batch.properties.masked_fill(untold, torch.nan)
        return self.conditions.vector(batch.shares, told, properties, size)

    def describe(self) -> str:
        """Return one line about data and network."""
        labelled = int((~self.training.properties.isnan()).any(dim=1).sum())
        properties = ", ".join(self.conditions.properties) or "none"
        return f"{super().describe()}; {len(self.conditions.elements)} elements; {labelled} with labels ({properties})"
