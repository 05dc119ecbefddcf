"""Weights files of the Wyckoff transformer: safetensors with one JSON document."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from mlcalc.errors import ModelFileError
from mlcalc.files import write_atomic
from mlcalc.generators._wyckoff_network import NetworkSettings, WyckoffNetwork

_FORMAT = "mlcalc-wyckoff-1"


@dataclass(frozen=True)
class LoadedNetwork:
    """A network from a file.

    Attributes:
        network: in evaluation mode.
        facts: name, training data, licence, likelihoods, … as written.
        model_hash: of architecture and weights.
    """

    network: WyckoffNetwork
    facts: dict[str, Any]
    model_hash: str


def network_hash(network: WyckoffNetwork) -> str:
    """Return a digest of architecture and weights."""
    digest = hashlib.sha256(json.dumps([network.elements, asdict(network.settings)]).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def save_network(network: WyckoffNetwork, path: str | Path, facts: dict[str, Any]) -> None:
    """Write weights and what they need to be rebuilt."""
    document = {
        "format": _FORMAT,
        "elements": list(network.elements),
        "network": asdict(network.settings),
        "facts": facts,
    }
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    write_atomic(path, save(state, metadata={"mlcalc": json.dumps(document)}))


def load_network(path: str | Path) -> LoadedNetwork:
    """Read a weights file.

    Raises:
        ModelFileError: missing, damaged, or not such a file.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"no weights file {path}")
    try:
        with safe_open(path, "pt") as file:
            document = json.loads((file.metadata() or {}).get("mlcalc", "{}"))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ModelFileError(f"{path} is damaged: {error}") from error
    if document.get("format") != _FORMAT:
        raise ModelFileError(f"{path} holds no weights of the generator `wyckoff` ({document.get('format')!r})")
    with torch.random.fork_rng(devices=[]):
        network = WyckoffNetwork(tuple(document["elements"]), NetworkSettings(**document["network"]))
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ModelFileError(f"{path} is damaged: {error}") from error
    network.eval()
    return LoadedNetwork(network, document["facts"], network_hash(network))
