"""The generator `gan`: crystals from images that a generative adversarial network draws.

Works on any codec. On coordinate images elements are drawn so that they obey the constraints (``_image_choice.py``);
images of other codecs are decoded, and what breaks a constraint is drawn again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mlcalc.crystals.codec import Codec
from mlcalc.crystals.coordinate_image import GEOMETRY, CoordinateImage
from mlcalc.errors import CodecError, GeneratorError
from mlcalc.generators._gan_weights import LoadedGan, load_gan
from mlcalc.generators._image_choice import Choice, check_fits
from mlcalc.generators._image_conditions import Conditions
from mlcalc.generators._image_rules import broken
from mlcalc.generators._image_sampling import Drawn, ImageGenerator, short_reason
from mlcalc.generators._weights import find_weights, stamped
from mlcalc.generators.base import Constraints


class GanGenerator(ImageGenerator):
    """Crystals from a trained generative adversarial network.

    Where the constraints name elements or a formula, the network is told, and what does not fit is masked or drawn
    again. Targets are told as well: for each candidate a value is drawn uniformly from the range. They are wishes, not
    promises.

    Args:
        weights: a weights file of ``mlcalc train-generator``, or the name of one that ships; None takes ``"gan"``.
        min_distance: smallest allowed distance in units of the sum of covalent radii, own images included.
        symprec: what comes out is moved onto the symmetry found at this tolerance, Å; 0 leaves it as it is.
        attempts: crystals drawn for one candidate before giving up.
    """

    name = "gan"

    def __init__(
        self,
        weights: str | Path | None = None,
        min_distance: float = 0.6,
        symprec: float = 0.1,
        attempts: int = 100,
    ) -> None:
        super().__init__(min_distance, symprec, attempts)
        self._loaded = _load(*stamped(find_weights(self.name, weights)))

    @property
    def codec(self) -> Codec:
        """Of the images."""
        return self._loaded.network.codec

    @property
    def conditions(self) -> Conditions:
        """What the network can be told."""
        return self._loaded.network.conditions

    @property
    def model_hash(self) -> str:
        """Hash of architecture and weights."""
        return self._loaded.model_hash

    def _drawer(self, constraints: Constraints) -> Choice | Constraints:
        if isinstance(self.codec, CoordinateImage):
            return Choice(constraints, self.codec)
        unknown = [e for e in constraints.species() if e not in self.conditions.elements]
        if unknown:
            raise GeneratorError(
                f"{' '.join(unknown)} did not occur in the training of these weights, which know "
                f"{' '.join(sorted(self.conditions.elements))}"
            )
        if constraints.species():
            check_fits(constraints)
        return constraints

    @torch.no_grad()
    def _draw(self, drawer: Choice | Constraints, told: Tensor, rngs: Sequence[np.random.Generator]) -> list[Drawn]:
        network = self._loaded.network
        noise = torch.from_numpy(np.stack([rng.standard_normal(network.settings.noise) for rng in rngs])).float()
        raw = network(noise, told)
        images = network.finished(raw).numpy()
        rows = []
        for k, image in enumerate(images):
            if isinstance(drawer, Choice):
                # The likeliest with Gumbel noise is a draw, as in training; the constraints hold for it.
                logs = raw[k, GEOMETRY:, 1:].log_softmax(dim=0).T.double().numpy()
                image = _with_kinds(image, raw[k], drawer.choose(logs + rngs[k].gumbel(size=logs.shape)))
            try:
                atoms = self.codec.decode(image)
            except CodecError as error:
                rows.append(Drawn(None, short_reason(error)))
                continue
            reason = broken(atoms, drawer, volume=False) if isinstance(drawer, Constraints) else None
            rows.append(Drawn(None, reason) if reason else Drawn(atoms))
        return rows


def _with_kinds(image: np.ndarray, raw: Tensor, kinds: np.ndarray) -> np.ndarray:
    """Return a coordinate image with these elements; columns that were empty get the coordinates the network drew."""
    image = image.copy()
    places = raw[:GEOMETRY, 1:].unflatten(0, (3, 2))
    circle = torch.nn.functional.normalize(places, dim=1, eps=1e-6).flatten(0, 1).numpy()
    image[:GEOMETRY, 1:] = np.where(kinds > 0, circle, 0.0)
    image[GEOMETRY:, 1:] = 0.0
    image[GEOMETRY + kinds, 1 + np.arange(len(kinds))] = 1.0
    return image


@lru_cache(maxsize=4)
def _load(path: Path, changed: int, size: int) -> LoadedGan:  # the last two are for the cache
    return load_gan(path)
