"""Weights files of the Wyckoff transformer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mlcalc.generators._known import KnownFingerprints
from mlcalc.generators._weights import load_state, read_weights, save_weights, weights_hash
from mlcalc.generators._wyckoff_data import PROPERTIES
from mlcalc.generators._wyckoff_network import NetworkSettings, WyckoffNetwork

_KNOWN = ("known_fingerprints", "known_formulas")


@dataclass(frozen=True)
class LoadedNetwork:
    """A network from a file.

    Attributes:
        network: in evaluation mode.
        facts: name, training data, licence, likelihoods, … as written.
        model_hash: of architecture and weights.
        known: fingerprints of the crystals of its data, those held out and those of ``start`` included.
    """

    network: WyckoffNetwork
    facts: dict[str, Any]
    model_hash: str
    known: KnownFingerprints

    @property
    def labels(self) -> tuple[str, ...]:
        """Which of ``PROPERTIES`` had labels in training; all of them in files of earlier versions."""
        return tuple(self.facts.get("labels", PROPERTIES))


def save_network(network: WyckoffNetwork, path: str | Path, facts: dict[str, Any], known: KnownFingerprints) -> None:
    """Write weights, what they need to be rebuilt, and which crystals are known to them."""
    document = {"elements": list(network.elements), "network": asdict(network.settings), "facts": facts}
    known_tensors = dict(zip(_KNOWN, known.to_tensors(), strict=True))
    save_weights(path, "wyckoff", document, {**network.state_dict(), **known_tensors})


def load_network(path: str | Path) -> LoadedNetwork:
    """Read a weights file.

    Raises:
        ModelFileError: missing, damaged, or not such a file.
    """
    document, state = read_weights(path, "wyckoff")
    symprec = float(document["facts"].get("symprec_ang", 0.1))
    nothing = torch.zeros(0, dtype=torch.int64)  # what files of earlier versions know
    whole, formulas = (state.pop(name, nothing) for name in _KNOWN)
    known = KnownFingerprints.from_tensors(whole, formulas, symprec)
    with torch.random.fork_rng(devices=[]):
        network = WyckoffNetwork(tuple(document["elements"]), NetworkSettings(**document["network"]))
    load_state(network, state, path)
    digest = weights_hash([network.elements, asdict(network.settings)], network.state_dict())
    return LoadedNetwork(network, document["facts"], digest, known)
