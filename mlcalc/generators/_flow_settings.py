"""Settings of a training run of the generator `flow`: what a config file may say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from mlcalc.errors import TrainingError
from mlcalc.generators._fit import FitSettings
from mlcalc.generators._flow_network import FlowNetworkSettings


@dataclass(frozen=True)
class FlowSettings(FitSettings):
    """What a config file may say; same settings and seed, same weights. See ``FitSettings`` for the others.

    Attributes:
        most_atoms: larger crystals are left out, and counted.
        properties: labels that the networks are told, as the data names them.
        drop_property: share of crystals for each property that the networks are not told.
        lattice_weight: of the lattice's velocity in the loss, beside that of the coordinates.
        species_weight: of the elements, per nat.
        match_every: epochs between counts of how many held-out crystals are found from their formula (0: never).
        match_crystals: how many are tried, always the same ones.
        network: size of the networks; with ``start``, that of the weights there.
    """

    name: str = "flow"
    epochs: int = 30
    learning_rate: float = 4e-3
    warmup: int = 1
    weight_decay: float = 0.01
    most_atoms: int = 20
    properties: tuple[str, ...] = ()
    drop_property: float = 0.5
    lattice_weight: float = 0.2
    species_weight: float = 0.02
    match_every: int = 5
    match_crystals: int = 100
    network: FlowNetworkSettings = field(default_factory=FlowNetworkSettings)

    sections: ClassVar[Mapping[str, type]] = {"network": FlowNetworkSettings}

    def __post_init__(self) -> None:
        """Reject what cannot be trained."""
        super().__post_init__()
        if self.most_atoms < 1:
            raise TrainingError("most_atoms must be at least 1")
        if self.match_every < 0 or self.match_crystals < 1:
            raise TrainingError("match_every must not be negative, match_crystals at least 1")
        if not 0 <= self.drop_property <= 1:
            raise TrainingError("drop_property must lie between 0 and 1")
        if len(set(self.properties)) < len(self.properties):
            raise TrainingError(f"properties named twice: {' '.join(self.properties)}")
