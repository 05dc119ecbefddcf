"""A learned stability score: how far above the hull a crystal would relax, from its structure as it is."""

from __future__ import annotations

import hashlib
import json
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
from mlcalc.errors import CrystalError, ModelFileError
from mlcalc.files import write_atomic

_FORMAT = "mlcalc-stability-1"
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
        from safetensors import SafetensorError, safe_open

        path = SHIPPED if path is None else Path(path)
        if not path.is_file():
            raise ModelFileError(f"no weights file {path}")
        try:
            with safe_open(path, "pt") as file:
                document = json.loads((file.metadata() or {}).get("mlcalc", "{}"))
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
        except (SafetensorError, json.JSONDecodeError) as error:
            raise ModelFileError(f"{path} is damaged: {error}") from error
        if document.get("format") != _FORMAT:
            raise ModelFileError(f"{path} holds no weights of the stability score ({document.get('format')!r})")
        with torch.random.fork_rng(devices=[]):
            network = StabilityNetwork(document["elements"], StabilityNetworkSettings(**document["network"]))
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise ModelFileError(f"{path} is damaged: {error}") from error
        network.eval()
        return cls(network, document["facts"], network_hash(network))

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


def network_hash(network: StabilityNetwork) -> str:
    """Return a digest of architecture and weights."""
    digest = hashlib.sha256(json.dumps([network.elements, asdict(network.settings)]).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def save_stability(network: StabilityNetwork, path: str | Path, facts: dict[str, Any]) -> None:
    """Write weights and what they need to be rebuilt."""
    from safetensors.torch import save

    document = {
        "format": _FORMAT,
        "elements": list(network.elements),
        "network": asdict(network.settings),
        "facts": facts,
    }
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    write_atomic(path, save(state, metadata={"mlcalc": json.dumps(document)}))
