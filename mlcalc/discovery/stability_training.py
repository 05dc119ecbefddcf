"""Training the stability score: resumable to the bit after a kill at any moment."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.crystals import closest_pair
from mlcalc.discovery._stability_graph import Crystals, Neighbourhoods, neighbourhoods
from mlcalc.discovery._stability_network import StabilityNetwork, StabilityNetworkSettings
from mlcalc.discovery.stability import NAME, save_stability
from mlcalc.errors import TrainingError
from mlcalc.generators._fit import Fit, FitSettings, Report

# Copies of a crystal whose atoms come closer than this part of a bond are drawn again, so many times.
_CLOSE, _TRIES = 0.6, 10


@dataclass(frozen=True)
class LabelledStructures:
    """One crystal in several shapes that relax to the same, and the energy it relaxes to.

    Attributes:
        given: the shape to predict from, which the network sees half of the time.
        others: further shapes of it.
        formation_energy_ev_per_atom: of the relaxed crystal.
        weight: how often it is seen in an epoch.
    """

    given: Atoms
    others: tuple[Atoms, ...]
    formation_energy_ev_per_atom: float
    weight: int = 1


@dataclass(frozen=True)
class StabilityTrainingSettings(FitSettings):
    """How the network is trained; see ``FitSettings`` for what all trainings share.

    Attributes:
        network: sizes.
        copies: displaced and strained copies of each crystal.
        largest_rattle_ang: standard deviations of displacements are drawn up to here, Å.
        largest_strain: and of the change of volume, relative.
    """

    name: str = NAME
    seed: int = 0
    epochs: int = 20
    batch_size: int = 64
    warmup: int = 1
    weight_decay: float = 0.02
    gradient_clip: float = 2.0
    patience: int = 12
    network: StabilityNetworkSettings = field(default_factory=StabilityNetworkSettings)
    copies: int = 1
    largest_rattle_ang: float = 0.15
    largest_strain: float = 0.15

    sections: ClassVar[Mapping[str, type]] = {"network": StabilityNetworkSettings}


def disturbed(atoms: Atoms, rng: np.random.Generator, settings: StabilityTrainingSettings) -> Atoms:
    """Return a copy with displaced atoms and another volume, that would relax to what it was.

    As in Gibson, Hire and Hennig, npj Comput. Mater. 8, 211 (2022): what learns from relaxed crystals alone knows
    nothing of those to come.
    """
    for _ in range(_TRIES):
        copy = atoms.copy()
        size, strain = settings.largest_rattle_ang * rng.random(), settings.largest_strain * rng.uniform(-1.0, 1.0)
        copy.set_cell(copy.cell * (1.0 + strain) ** (1 / 3), scale_atoms=True)
        copy.positions += rng.normal(scale=size, size=copy.positions.shape)
        if closest_pair(copy, _CLOSE) is None:
            return copy
    return atoms.copy()


class StabilityFit(Fit[StabilityTrainingSettings, StabilityNetwork]):
    """Fits the stability network.

    Args:
        training: crystals to learn from.
        validation: crystals that tell when to stop; those with elements that are not in training are left out.
        settings: of the run.
        report: called with one dictionary an epoch (the columns of the log).
        more: what else the weights file says.

    Raises:
        TrainingError: nothing to learn from, or to stop by.
    """

    columns = ("training_mae_ev_per_atom", "validation_mae_ev_per_atom")
    criterion = "validation_mae_ev_per_atom"

    training: list[list[Neighbourhoods]]
    validation: list[Neighbourhoods]

    def __init__(
        self,
        training: Sequence[LabelledStructures],
        validation: Sequence[LabelledStructures],
        settings: StabilityTrainingSettings,
        report: Report | None = None,
        more: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(settings, report)
        self.elements = tuple(sorted({e for item in training for e in item.given.get_chemical_symbols()}))
        known = set(self.elements)
        judging = [item for item in validation if set(item.given.get_chemical_symbols()) <= known]
        if not training or not judging:
            raise TrainingError("the stability score needs crystals to learn from, and others of them to stop by")
        self.left_out, self.more = len(validation) - len(judging), more or {}
        rng = np.random.default_rng(settings.seed)
        self.training = [self._graphs(item, rng) for item in training]
        self.validation = [self._graphs(item, None)[0] for item in judging]
        self.targets, self.aims = _energies(training), _energies(judging)
        self.weights = np.array([item.weight for item in training])
        self.content = self._digest()
        with torch.random.fork_rng(devices=[]):  # the caller's random state is not ours to change
            torch.manual_seed(settings.seed)
            network = StabilityNetwork(self.elements, settings.network)
        self.prepare(network)
        for group in self.optimizer.param_groups:
            group["betas"] = (0.9, 0.999)  # few large errors among many small ones: gradients vary much

    def _graphs(self, item: LabelledStructures, rng: np.random.Generator | None) -> list[Neighbourhoods]:
        """Return neighbours of all shapes of a crystal, the given one first; with ``rng``, copies too."""
        shapes = [item.given]
        if rng is not None:
            shapes += [*item.others, *(disturbed(item.given, rng, self.settings) for _ in range(self.settings.copies))]
        return [neighbourhoods(atoms, self.elements, self.settings.network.neighbours) for atoms in shapes]

    def _digest(self) -> str:
        digest = hashlib.sha256(np.concatenate([self.targets, self.aims]).tobytes() + self.weights.tobytes())
        for item in [*(graph for graphs in self.training for graph in graphs), *self.validation]:
            digest.update(item.species.tobytes() + item.distances.tobytes())
        return digest.hexdigest()

    def train_epoch(self) -> dict[str, float]:
        """Show every crystal as often as its weight says, in one of its shapes."""
        s = self.settings
        rng = np.random.default_rng([s.seed, self.epoch])
        order = rng.permutation(np.repeat(np.arange(len(self.training)), self.weights))
        steps = math.ceil(len(order) / s.batch_size)
        total = 0.0
        for number in range(steps):
            chosen = order[number * s.batch_size : (number + 1) * s.batch_size]
            batch = Crystals.of([self._shape(int(k), rng) for k in chosen])
            loss = (self.network(batch) - torch.from_numpy(self.targets[chosen])).abs().mean()
            self.step(loss, number, steps)
            total += loss.item() * len(chosen)
        return {"training_mae_ev_per_atom": total / len(order)}

    def _shape(self, number: int, rng: np.random.Generator) -> Neighbourhoods:
        """Return a crystal as given half of the time, else in another shape."""
        shapes = self.training[number]
        return shapes[0] if rng.random() < 0.5 else shapes[int(rng.integers(len(shapes)))]

    def validate(self) -> dict[str, float]:
        """Return the mean absolute error on the validation crystals as given."""
        size = self.settings.batch_size
        parts = [
            self.network(Crystals.of(self.validation[k : k + size])).numpy()
            for k in range(0, len(self.validation), size)
        ]
        return {"validation_mae_ev_per_atom": float(np.abs(np.concatenate(parts) - self.aims).mean())}

    def facts(self) -> dict[str, Any]:
        """Return what the weights file says about its training."""
        return {**super().facts(), **self.more, "epochs": [self.epoch, self.settings.epochs]}

    def write_weights(self, path: Path) -> None:
        """Write the network."""
        save_stability(self.network, path, self.facts())


def _energies(items: Sequence[LabelledStructures]) -> NDArray[np.float32]:
    return np.array([item.formation_energy_ev_per_atom for item in items], dtype=np.float32)
