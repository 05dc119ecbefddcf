"""Settings of a training run of the Wyckoff transformer: what a config file may say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from mlcalc.errors import TrainingError
from mlcalc.generators._fit import FitSettings
from mlcalc.generators._wyckoff_network import NetworkSettings


@dataclass(frozen=True)
class WyckoffSettings(FitSettings):
    """What the Wyckoff transformer takes beside ``FitSettings``.

    Attributes:
        symprec: distance tolerance of the crystals' space groups, Å.
        drop_elements: share of crystals whose elements the network is not told.
        drop_composition: share of the others whose composition it is not told.
        drop_property: share of crystals for each property that it is not told.
        network: size of the network; with ``start``, that of the weights there.
    """

    name: str = "wyckoff"
    symprec: float = 0.1
    drop_elements: float = 0.5
    drop_composition: float = 0.5
    drop_property: float = 0.5
    network: NetworkSettings = field(default_factory=NetworkSettings)

    sections: ClassVar[Mapping[str, type]] = {"network": NetworkSettings}

    def __post_init__(self) -> None:
        """Reject what cannot be trained."""
        super().__post_init__()
        if self.network.heads < 1 or self.network.width % self.network.heads:
            raise TrainingError("network.width must be a multiple of network.heads")
        for name in ("drop_elements", "drop_composition", "drop_property"):
            if not 0 <= getattr(self, name) <= 1:
                raise TrainingError(f"{name} must lie between 0 and 1")
