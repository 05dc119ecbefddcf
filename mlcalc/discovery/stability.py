"""A learned stability score: how far above the hull a crystal would relax, from its structure as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.discovery._stability_graph import Crystals, neighbourhoods
from mlcalc.discovery._stability_network import OUTPUTS, StabilityNetwork, StabilityNetworkSettings
from mlcalc.errors import CrystalError
from mlcalc.generators._weights import load_state, read_weights, save_weights, weights_hash

NAME = "stability"
#: Weights that come with mlcalc.
SHIPPED = Path(__file__).parent / "weights" / "stability.safetensors"
# Crystals evaluated at once.
_BATCH = 256


@dataclass(frozen=True)
class StabilityModel:
    """Predicts energies of relaxed crystals from structures that are not, without a potential.

    The two numbers are learnt apart: the energy above the hull is not made of the formation energy and a hull. They are
    a guess on the Materials Project's scale, to choose what is worth a relaxation, and no energies to be compared with
    those of a potential.

    Attributes:
        network: in evaluation mode.
        facts: training data, errors, licence, … as the weights file has them.
        model_hash: of architecture and weights.
    """

    network: StabilityNetwork
    facts: dict[str, Any]
    model_hash: str

    @classmethod
    def load(cls, path: str | Path | None = None) -> StabilityModel:
        """Read a weights file; None takes the one that comes with mlcalc.

        Raises:
            ModelFileError: missing, damaged, or not such a file.
        """
        path = SHIPPED if path is None else Path(path)
        document, state = read_weights(path, NAME)
        with torch.random.fork_rng(devices=[]):
            network = StabilityNetwork(document["elements"], StabilityNetworkSettings(**document["network"]))
        load_state(network, state, path)
        return cls(network, document["facts"], weights_hash(_description(network), network.state_dict()))

    def predict(self, structures: Sequence[Atoms]) -> NDArray[np.float64]:
        """Return (structures, 2): formation energy and energy above the hull after relaxation, eV per atom.

        A structure of which nothing can be said, for an element that was not in training or a cell that is not
        periodic, has NaN.
        """
        found = np.full((len(structures), len(OUTPUTS)), np.nan)
        items, places = [], []
        for k, atoms in enumerate(structures):
            try:
                items.append(neighbourhoods(atoms, self.network.elements, self.network.settings.neighbours))
                places.append(k)
            except CrystalError:
                continue  # NaN says so
        with torch.no_grad():
            for start in range(0, len(items), _BATCH):
                values = self.network(Crystals.of(items[start : start + _BATCH]))
                found[places[start : start + _BATCH]] = values.double().numpy()
        return found

    def above_hull(self, structures: Sequence[Atoms]) -> list[float | None]:
        """Return the predicted energy above the hull of each, eV per atom; None where nothing can be said."""
        return [None if np.isnan(value) else float(value) for value in self.predict(structures)[:, 1]]


def save_stability(network: StabilityNetwork, path: str | Path, facts: dict[str, Any]) -> None:
    """Write weights and what they need to be rebuilt."""
    elements, settings = _description(network)
    save_weights(path, NAME, {"elements": elements, "network": settings, "facts": facts}, network.state_dict())


def _description(network: StabilityNetwork) -> tuple[list[str], dict[str, Any]]:
    return list(network.elements), asdict(network.settings)
