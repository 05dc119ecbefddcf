"""The generator `vae`: crystals from a variational autoencoder of coordinate images.

A latent vector is drawn from the prior, given what was asked for, and decoded. Elements are the likeliest ones that
obey the constraints (``_image_choice.py``); volumes are brought into their range; atoms that come too close, and space
groups that are not allowed, are drawn again. Beside drawing, there is the way back: ``latent``, ``reconstruct``, and
``interpolate`` between two crystals. ``mlcalc.generators.design`` searches the latent space for properties.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from mlcalc.crystals.coordinate_image import GEOMETRY, CoordinateImage
from mlcalc.errors import CodecError, GeneratorError
from mlcalc.generators._image_choice import Choice
from mlcalc.generators._image_conditions import Conditions
from mlcalc.generators._image_rules import Finish
from mlcalc.generators._image_sampling import Drawn, ImageGenerator, short_reason
from mlcalc.generators._image_setting import standard_setting
from mlcalc.generators._vae_network import Decoded, VaeNetwork
from mlcalc.generators._vae_weights import LoadedVae, load_vae
from mlcalc.generators._weights import find_weights, stamped
from mlcalc.generators.base import Candidate, Constraints, Provenance


class VaeGenerator(ImageGenerator):
    """Crystals from a trained variational autoencoder.

    Where the constraints name elements or a formula, the prior is told, and what does not fit is masked. Targets are
    told as well: for each candidate a value is drawn uniformly from the range. They are wishes, not promises; what the
    property head says of the finished crystal is in ``details["predicted"]``.

    Args:
        weights: a weights file of ``mlcalc train-generator``, or the name of one that ships; None takes ``"vae"``.
        min_distance: smallest allowed distance in units of the sum of covalent radii, own images included.
        symprec: what comes out is moved onto the symmetry found at this tolerance, Å; 0 leaves it as it is.
        attempts: crystals drawn for one candidate before giving up.
    """

    name = "vae"

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
    def network(self) -> VaeNetwork:
        """The network, in evaluation mode."""
        return self._loaded.network

    @property
    def codec(self) -> CoordinateImage:
        """Of the images."""
        return self._loaded.network.codec

    @property
    def conditions(self) -> Conditions:
        """What the prior can be told."""
        return self._loaded.network.conditions

    @property
    def model_hash(self) -> str:
        """Hash of architecture and weights."""
        return self._loaded.model_hash

    @property
    def known(self) -> np.ndarray:
        """(n, latent) latent vectors of training crystals."""
        return self._loaded.known

    def latent(self, atoms: Atoms) -> np.ndarray:
        """Return the (latent,) vector of a crystal, the mean of q(z|x).

        Raises:
            CodecError: larger than the images, an element that they do not know, partly occupied sites, not periodic,
                atoms that clash.
        """
        array = self.codec.encode(standard_setting(atoms))
        with torch.no_grad():
            mean, _ = self.network.encode(torch.from_numpy(array)[None])
        return mean[0].double().numpy()

    def reconstruct(self, atoms: Atoms) -> Atoms:
        """Return what the network makes of a crystal: encoded, decoded, nothing mended.

        Raises:
            CodecError: it cannot be encoded, or what comes out is no crystal.
        """
        return self.decode(torch.from_numpy(self.latent(atoms)).float()[None])[0]

    def decode(self, z: Tensor, choice: Choice | None = None) -> list[Atoms]:
        """Return the crystals of (B, latent) vectors.

        Raises:
            CodecError: one of them describes no crystal.
        """
        choice = choice or Choice(Constraints(n_atoms=(1, self.codec.max_atoms)), self.codec)
        with torch.no_grad():
            return [self.codec.decode(array) for array in hard_images(self.network.decode(z), choice, self.codec)]

    def interpolate(
        self, start: Atoms, end: Atoms, n: int = 11, constraints: Constraints | None = None
    ) -> tuple[list[Candidate], Counter[str]]:
        """Return crystals on the straight line between the latent vectors of two, both ends included.

        Args:
            start: a crystal that the codec holds.
            end: another one.
            n: points on the line.
            constraints: hard ones; None allows whatever the codec holds.

        Returns:
            Candidates, with their place on the line (0 to 1) in ``details["at"]``; and how many points gave none, by
            reason.

        Raises:
            CodecError: one of the two cannot be encoded.
            GeneratorError: fewer than two points.
        """
        if n < 2:
            raise GeneratorError(f"a line has at least two points, not {n}")
        constraints = constraints or Constraints(n_atoms=(1, self.codec.max_atoms))
        at = np.linspace(0.0, 1.0, n)
        line = (1 - at)[:, None] * self.latent(start) + at[:, None] * self.latent(end)
        finish = Finish(constraints, self.min_distance, self.symprec)
        found, failed = [], Counter[str]()
        drawn = self.draw_at(torch.from_numpy(line).float(), Choice(constraints, self.codec))
        for index, (place, one) in enumerate(zip(at, drawn, strict=True)):
            finished = None
            if one.atoms is None:
                failed[one.reason] += 1
            else:
                finished = finish(one.atoms, failed)
            if finished is not None:
                details = {**one.details, "at": float(place), "options": self.options()}
                provenance = Provenance(
                    self.name, None, index, self.model_hash, found_space_group=finished[1], details=details
                )
                found.append(Candidate(finished[0], provenance))
        return found, failed

    def draw_at(self, z: Tensor, choice: Choice) -> list[Drawn]:
        """Return what (B, latent) vectors decode to, with the predicted properties."""
        with torch.no_grad():
            arrays = hard_images(self.network.decode(z), choice, self.codec)
            predicted = self.predict(torch.from_numpy(arrays))
        rows = []
        for array, values in zip(arrays, predicted.tolist(), strict=True):
            try:
                atoms = self.codec.decode(array)
            except CodecError as error:
                rows.append(Drawn(None, short_reason(error)))
                continue
            named = dict(zip(self.conditions.targets, values, strict=True))
            rows.append(Drawn(atoms, details={"predicted": named} if named else {}))
        return rows

    def predict(self, images: Tensor) -> Tensor:
        """Return (B, properties), in their units, of (B, channels, columns) images."""
        mean, _ = self.network.encode(images)
        return self.conditions.in_units(self.network.properties(self.network.decode(mean)))

    def properties_of(self, atoms: Atoms) -> dict[str, float]:
        """Return what the property head reads off a crystal, by label, in the units of the training data.

        Raises:
            CodecError: it cannot be encoded.
        """
        array = self.codec.encode(standard_setting(atoms))
        with torch.no_grad():
            values = self.predict(torch.from_numpy(array)[None])[0].tolist()
        return dict(zip(self.conditions.properties, values, strict=True))

    def _drawer(self, constraints: Constraints) -> Choice:
        return Choice(constraints, self.codec)

    @torch.no_grad()
    def _draw(self, drawer: Choice, told: Tensor, rngs: Sequence[np.random.Generator]) -> list[Drawn]:
        return self.draw_at(draw_latent(self.network, told, rngs), drawer)


@torch.no_grad()
def draw_latent(network: VaeNetwork, told: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
    """Return (B, latent) vectors drawn from p(z|conditions), one for each row and source of randomness."""
    log_weights, means, log_widths = network.prior(told)
    rows = []
    for k, rng in enumerate(rngs):
        cumulative = np.cumsum(log_weights[k].double().exp().numpy())
        component = min(int(np.searchsorted(cumulative, rng.random() * cumulative[-1])), len(cumulative) - 1)
        noise = torch.from_numpy(rng.standard_normal(means.shape[2])).float()
        rows.append(means[k, component] + log_widths[k, component].exp() * noise)
    return torch.stack(rows)


def hard_images(decoded: Decoded, choice: Choice, codec: CoordinateImage) -> np.ndarray:
    """Return (B, channels, columns) images of the likeliest crystals that a choice of elements allows."""
    size = len(decoded.lattice)
    arrays = np.zeros((size, *codec.shape), dtype=np.float32)
    arrays[:, :GEOMETRY, 0] = decoded.lattice.numpy()
    logs = decoded.kinds.double().numpy()
    directions = decoded.directions.numpy()
    for array, log, direction in zip(arrays, logs, directions, strict=True):
        kinds = choice.choose(log)
        there = kinds > 0
        array[:GEOMETRY, 1:][:, there] = direction[there].reshape(-1, GEOMETRY).T
        array[GEOMETRY + kinds, 1 + np.arange(len(kinds))] = 1.0
    return arrays


@lru_cache(maxsize=4)
def _load(path: Path, changed: int, size: int) -> LoadedVae:  # the last two are for the cache
    return load_vae(path)
