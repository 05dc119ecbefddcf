"""The networks of the generator `flow` together, and their weights files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlcalc.generators._flow_data import Scales
from mlcalc.generators._flow_network import CompositionNetwork, FlowNetworkSettings, GeometryNetwork
from mlcalc.generators._weights import load_state, read_weights, save_weights, weights_hash


class FlowNetworks(nn.Module):
    """Both networks, and what they need to know of the data.

    Args:
        elements: symbols.
        properties: labels that may be asked for.
        scales: of the data.
        settings: sizes.
    """

    def __init__(
        self, elements: Sequence[str], properties: Sequence[str], scales: Scales, settings: FlowNetworkSettings
    ) -> None:
        super().__init__()
        self.elements, self.properties = tuple(elements), tuple(properties)
        self.scales, self.settings = scales, settings
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

    def told_more(self, properties: Sequence[str], scales: Scales) -> FlowNetworks:
        """Return networks that do the same, and may be told other labels, for data of other sizes.

        Args:
            properties: the new labels; those known already keep their scale and their effect.
            scales: of the new data: those of new labels are taken from it, and how frequent numbers of atoms are.
        """
        mine = self.scales
        middle, spread = (
            dict(zip(self.properties, mine.label_middle, strict=True)),
            dict(zip(self.properties, mine.label_spread, strict=True)),
        )
        kept = replace(
            mine,
            sizes=scales.sizes,
            label_middle=tuple(middle.get(p, m) for p, m in zip(properties, scales.label_middle, strict=True)),
            label_spread=tuple(spread.get(p, s) for p, s in zip(properties, scales.label_spread, strict=True)),
        )
        made = FlowNetworks(self.elements, properties, kept, self.settings)
        state = {name: tensor.clone() for name, tensor in self.state_dict().items()}
        for name in ("composition.numbers.weight", "geometry.whole.0.weight"):
            state[name] = _columns(state[name], self.properties, properties)
        made.load_state_dict(state)
        return made


def _columns(weight: Tensor, old: Sequence[str], new: Sequence[str]) -> Tensor:
    """Return a weight matrix whose last columns, (value, …, known, …), are those of other labels; new ones are zero."""
    first = weight.shape[1] - 2 * len(old)
    told = torch.zeros(len(weight), 2, len(new))
    for k, name in enumerate(new):
        if name in old:
            told[:, :, k] = weight[:, [first + old.index(name), first + len(old) + old.index(name)]]
    return torch.cat([weight[:, :first], told.flatten(1)], dim=1)


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


def save_flow(networks: FlowNetworks, path: str | Path, facts: dict[str, Any]) -> None:
    """Write weights and what they need to be rebuilt; in float16, far finer than training determines them."""
    state = {name: tensor.half() for name, tensor in networks.state_dict().items()}
    save_weights(path, "flow", {**networks.document(), "facts": facts}, state)


def load_flow(path: str | Path) -> LoadedFlow:
    """Read a weights file.

    Raises:
        ModelFileError: missing, damaged, or not such a file.
    """
    document, state = read_weights(path, "flow")
    with torch.random.fork_rng(devices=[]):
        networks = FlowNetworks(
            document["elements"],
            document["properties"],
            Scales.from_dict(document["scales"]),
            FlowNetworkSettings(**document["network"]),
        )
    load_state(networks, {name: tensor.float() for name, tensor in state.items()}, path)
    return LoadedFlow(networks, document["facts"], weights_hash(networks.document(), networks.state_dict()))
