"""Weights files of the generator `flow`: safetensors with one JSON document."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from mlcalc.errors import ModelFileError
from mlcalc.files import write_atomic
from mlcalc.generators._flow_data import Scales
from mlcalc.generators._flow_network import CompositionNetwork, FlowNetworkSettings, GeometryNetwork

_FORMAT = "mlcalc-flow-1"


class FlowNetworks(nn.Module):
    """Both networks, and what they need to know of the data.

    Args:
        elements: symbols.
        properties: labels that may be asked for.
        scales: of the data.
        settings: sizes.
    """

    def __init__(
        self, elements: tuple[str, ...], properties: tuple[str, ...], scales: Scales, settings: FlowNetworkSettings
    ) -> None:
        super().__init__()
        self.elements, self.properties, self.scales, self.settings = elements, properties, scales, settings
        self.composition = CompositionNetwork(elements, 2 * len(properties), settings)
        self.geometry = GeometryNetwork(elements, 2 * len(properties), settings)

    def document(self) -> dict[str, Any]:
        """Return what is needed to build them again, JSON-ready."""
        return {
            "elements": list(self.elements),
            "properties": list(self.properties),
            "scales": self.scales.to_dict(),
            "network": asdict(self.settings),
        }

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> FlowNetworks:
        """Build networks with any weights."""
        with torch.random.fork_rng(devices=[]):
            return cls(
                tuple(document["elements"]),
                tuple(document["properties"]),
                Scales.from_dict(document["scales"]),
                FlowNetworkSettings(**document["network"]),
            )


@dataclass(frozen=True)
class LoadedFlow:
    """Networks from a file.

    Attributes:
        networks: in evaluation mode.
        facts: name, training data, licence, losses, … as written.
        model_hash: of architecture and weights.
    """

    networks: FlowNetworks
    facts: dict[str, Any]
    model_hash: str


def flow_hash(networks: FlowNetworks) -> str:
    """Return a digest of architecture and weights."""
    digest = hashlib.sha256(json.dumps(networks.document(), sort_keys=True).encode())
    for name, tensor in sorted(networks.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def save_flow(networks: FlowNetworks, path: str | Path, facts: dict[str, Any]) -> None:
    """Write weights and what they need to be rebuilt; as float16, which is finer than they are determined."""
    document = {"format": _FORMAT, **networks.document(), "facts": facts}
    state = {name: tensor.half().contiguous() for name, tensor in networks.state_dict().items()}
    write_atomic(path, save(state, metadata={"mlcalc": json.dumps(document)}))


def load_flow(path: str | Path) -> LoadedFlow:
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
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - it is no dictionary
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ModelFileError(f"{path} is damaged: {error}") from error
    if document.get("format") != _FORMAT:
        raise ModelFileError(f"{path} holds no weights of the generator `flow` ({document.get('format')!r})")
    networks = FlowNetworks.from_document(document)
    try:
        networks.load_state_dict(state)
    except RuntimeError as error:
        raise ModelFileError(f"{path} is damaged: {error}") from error
    networks.eval()
    return LoadedFlow(networks, document["facts"], flow_hash(networks))
