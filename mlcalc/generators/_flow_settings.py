"""Settings of a training run of the generator `flow`: what a config file may say."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlcalc.errors import TrainingError
from mlcalc.generators._flow_network import FlowNetworkSettings


@dataclass(frozen=True)
class FlowTrainingSettings:
    """Everything a training run depends on; same settings and seed, same weights.

    Attributes:
        generator: ``"flow"``.
        name: of the generator's weights.
        data: files of crystals (``mlcalc.crystals.io.read_crystals``); paths relative to the config file.
        out: folder of the run, relative to the config file; by default the name.
        seed: of weights, split and order.
        threads: torch threads (0: leave as they are).
        validation_fraction: share of reduced formulas held out.
        most_atoms: larger crystals are left out, and counted.
        properties: labels that the networks are told, as the data names them.
        epochs: passes over the training set.
        batch_size: crystals per step.
        learning_rate: largest one, after ``warmup`` epochs; a cosine leads from there to zero.
        warmup: epochs of linear increase.
        weight_decay: of AdamW.
        gradient_clip: largest norm of the gradient.
        ema: decay per step of the moving average that is validated and shipped.
        patience: epochs without improvement after which training stops early.
        drop_property: share of crystals for each property that the networks are not told.
        lattice_weight: of the lattice's velocity in the loss, beside that of the coordinates.
        species_weight: of the elements, per nat.
        match_every: epochs between counts of how many held-out crystals are found from their formula (0: never).
        match_crystals: how many are tried, always the same ones.
        network: size of the networks.
        training_data: where the data came from, for the weights file.
        licence: of the weights.
    """

    generator: str = "flow"
    name: str = "flow"
    data: tuple[str, ...] = ()
    out: str = ""
    seed: int = 1
    threads: int = 0
    validation_fraction: float = 0.05
    most_atoms: int = 20
    properties: tuple[str, ...] = ()
    epochs: int = 30
    batch_size: int = 128
    learning_rate: float = 2.5e-3
    warmup: int = 1
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    ema: float = 0.998
    patience: int = 30
    drop_property: float = 0.5
    lattice_weight: float = 0.2
    species_weight: float = 0.02
    match_every: int = 5
    match_crystals: int = 100
    network: FlowNetworkSettings = field(default_factory=FlowNetworkSettings)
    training_data: str = ""
    licence: str = "unknown"

    def __post_init__(self) -> None:
        """Reject what cannot be trained."""
        if not self.data:
            raise TrainingError("data names no file; give one or more files of crystals")
        if min(self.epochs, self.batch_size, self.most_atoms) < 1:
            raise TrainingError("epochs, batch_size and most_atoms must be at least 1")
        if not 0 < self.validation_fraction < 1:
            raise TrainingError("validation_fraction must lie between 0 and 1")
        if not 0 <= self.drop_property <= 1:
            raise TrainingError("drop_property must lie between 0 and 1")
        if len(set(self.properties)) < len(self.properties):
            raise TrainingError(f"properties named twice: {' '.join(self.properties)}")
