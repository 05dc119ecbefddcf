"""Weights files of the variational autoencoder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlcalc.crystals.codec import make_codec
from mlcalc.crystals.coordinate_image import CoordinateImage
from mlcalc.errors import ModelFileError
from mlcalc.generators._image_conditions import Conditions
from mlcalc.generators._vae_network import VaeNetwork, VaeSettings
from mlcalc.generators._weights import load_state, read_weights, save_weights, weights_hash

_KNOWN = "known_latents"


@dataclass(frozen=True)
class LoadedVae:
    """A network from a file.

    Attributes:
        network: in evaluation mode.
        facts: name, training data, licence, … as written.
        model_hash: of architecture and weights.
        known: (n, latent) latent vectors of training crystals, to tell how far from them another one lies.
    """

    network: VaeNetwork
    facts: dict[str, Any]
    model_hash: str
    known: np.ndarray


def save_vae(network: VaeNetwork, known: Tensor, path: str | Path, facts: dict[str, Any]) -> None:
    """Write weights, latent vectors (n, latent) of training crystals, and what is needed to rebuild the network."""
    state = {**network.state_dict(), _KNOWN: known.half()}
    save_weights(path, "vae", {**_description(network), "facts": facts}, state)


def load_vae(path: str | Path) -> LoadedVae:
    """Read a weights file.

    Raises:
        ModelFileError: missing, damaged, not of the generator `vae`, or for a codec other than the coordinate image.
    """
    document, state = read_weights(path, "vae")
    known = state.pop(_KNOWN, torch.zeros(0, document["network"]["latent"]))
    codec = make_codec(document["codec"])
    if not isinstance(codec, CoordinateImage):
        raise ModelFileError(f"{path} was trained on images of the codec {codec.name!r}, not 'coordinate'")
    with torch.random.fork_rng(devices=[]):
        network = VaeNetwork(codec, Conditions.from_dict(document["conditions"]), VaeSettings(**document["network"]))
    load_state(network, state, path)
    digest = weights_hash(_description(network), network.state_dict())
    return LoadedVae(network, document["facts"], digest, known.double().numpy())


def _description(network: VaeNetwork) -> dict[str, Any]:
    return {
        "codec": network.codec.to_dict(),
        "conditions": network.conditions.to_dict(),
        "network": asdict(network.settings),
    }
