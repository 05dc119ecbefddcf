"""Weights files of the variational autoencoder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mlcalc.crystals.codec import make_codec
from mlcalc.crystals.coordinate_image import CoordinateImage
from mlcalc.errors import ModelFileError
from mlcalc.generators._image_conditions import Conditions
from mlcalc.generators._vae_network import VaeNetwork, VaeSettings
from mlcalc.generators._weights import load_state, read_weights, save_weights, weights_hash


@dataclass(frozen=True)
class LoadedVae:
    """A network from a file.

    Attributes:
        network: in evaluation mode.
        facts: name, training data, licence, … as written.
        model_hash: of architecture and weights.
    """

    network: VaeNetwork
    facts: dict[str, Any]
    model_hash: str


def save_vae(network: VaeNetwork, path: str | Path, facts: dict[str, Any]) -> None:
    """Write weights and what they need to be rebuilt."""
    save_weights(path, "vae", {**_description(network), "facts": facts}, network.state_dict())


def load_vae(path: str | Path) -> LoadedVae:
    """Read a weights file.

    Raises:
        ModelFileError: missing, damaged, not of the generator `vae`, or for a codec other than the coordinate image.
    """
    document, state = read_weights(path, "vae")
    codec = make_codec(document["codec"])
    if not isinstance(codec, CoordinateImage):
        raise ModelFileError(f"{path} was trained on images of the codec {codec.name!r}, not 'coordinate'")
    with torch.random.fork_rng(devices=[]):
        network = VaeNetwork(codec, Conditions.from_dict(document["conditions"]), VaeSettings(**document["network"]))
    load_state(network, state, path)
    return LoadedVae(network, document["facts"], weights_hash(_description(network), network.state_dict()))


def _description(network: VaeNetwork) -> dict[str, Any]:
    return {
        "codec": network.codec.to_dict(),
        "conditions": network.conditions.to_dict(),
        "network": asdict(network.settings),
    }
