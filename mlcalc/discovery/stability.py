"""A learned stability score: how far above the hull a crystal would relax to, from its structure as it is."""

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
from mlcalc.discovery._stability_network import StabilityNetwork, StabilityNetworkSettings
from mlcalc.discovery.hull import Hulls, Phase
from mlcalc.discovery.identity import EnergyScale
from mlcalc.errors import CrystalError
from mlcalc.generators._weights import load_state, read_weights, save_weights, weights_hash

NAME = "stability"
#: Weights that come with mlcalc.
SHIPPED = Path(__file__).parent / "weights" / "stability.safetensors"
# Crystals evaluated at once.
_BATCH = 256


@dataclass(frozen=True)
class StabilityModel:
    """Predicts the formation energy of relaxed crystals from structures that are not, without a potential.

    Energies above a hull are those above the hull of its own predictions: what it gets wrong about a kind of crystal is
    wrong on both sides. They are a guess, to choose what is worth a relaxation, and of a scale of their own.

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

    @property
    def scale(self) -> EnergyScale:
        """What its energies mean."""
        return EnergyScale("formation energies as a stability score predicts them", f"weights {self.model_hash}")

    def predict(self, structures: Sequence[Atoms]) -> NDArray[np.float64]:
        """Return (structures,) formation energies after relaxation, eV per atom.

        A structure of which nothing can be said, for an element that was not in training or a cell that is not
        periodic, has NaN.
        """
        found = np.full(len(structures), np.nan)
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

    def hulls(self, references: Sequence[Atoms]) -> Hulls:
        """Return the hulls of what is predicted of references, and of their elements at zero."""
        energies = self.predict(references)
        elements = {symbol for atoms in references for symbol in atoms.get_chemical_symbols()}
        phases = [Phase(element, element, 0.0) for element in sorted(elements & set(self.network.elements))]
        for atoms, energy in zip(references, energies, strict=True):
            if not np.isnan(energy):
                formula = atoms.get_chemical_formula()
                phases.append(Phase(formula, formula, float(energy)))
        return Hulls(phases, self.scale)

    def above(self, structures: Sequence[Atoms], hulls: Hulls) -> list[float | None]:
        """Return how far each lies above the hull of predictions, eV per atom; None where nothing can be said."""
        return [
            None if np.isnan(energy) else hulls.above(atoms, float(energy))
            for atoms, energy in zip(structures, self.predict(structures), strict=True)
        ]


def save_stability(network: StabilityNetwork, path: str | Path, facts: dict[str, Any]) -> None:
    """Write weights and what they need to be rebuilt."""
    elements, settings = _description(network)
    save_weights(path, NAME, {"elements": elements, "network": settings, "facts": facts}, network.state_dict())


def _description(network: StabilityNetwork) -> tuple[list[str], dict[str, Any]]:
    return list(network.elements), asdict(network.settings)
