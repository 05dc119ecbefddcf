"""Weights files of generative adversarial networks: the generator alone, critics stay in the checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mlcalc.crystals.codec import make_codec
from mlcalc.generators._gan_network import GanNetwork, GanSettings
from mlcalc.generators._image_conditions import Conditions
from mlcalc.generators._weights import load_state, read_weights, save_weights, weights_hash


@dataclass(frozen=True)
class LoadedGan:
    """A network from a file.

    Attributes:
        network: in evaluation mode.
        facts: name, training data, licence, … as written.
        model_hash: of architecture and weights.
    """

    network: GanNetwork
    facts: dict[str, Any]
    model_hash: str


def save_gan(network: GanNetwork, path: str | Path, facts: dict[str, Any]) -> None:
    """Write weights and what they need to be rebuilt."""
    save_weights(path, "gan", {**_description(network), "facts": facts}, network.state_dict())


def load_gan(path: str | Path) -> LoadedGan:
    """Read a weights file.

    Raises:
        ModelFileError: missing, damaged, or not of the generator `gan`.
        CodecError: trained on a codec that does not exist here.
    """
    document, state = read_weights(path, "gan")
    with torch.random.fork_rng(devices=[]):
        network = GanNetwork(
            make_codec(document["codec"]),
            Conditions.from_dict(document["conditions"]),
            GanSettings(**document["network"]),
        )
    load_state(network, state, path)
    return LoadedGan(network, document["facts"], weights_hash(_description(network), network.state_dict()))


def _description(network: GanNetwork) -> dict[str, Any]:
    return {
        "codec": network.codec.to_dict(),
        "conditions": network.conditions.to_dict(),
        "network": asdict(network.settings),
    }
