"""Training the generator `flow`."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlcalc.crystals.matching import match_error
from mlcalc.errors import ModelFileError, TrainingError
from mlcalc.generators._fit import Fit, Progress, Report, content_digest
from mlcalc.generators._flow_data import FlowCrystal, Scales, chunks, collate, to_atoms, to_numbers
from mlcalc.generators._flow_loss import geometry_losses, species_loss
from mlcalc.generators._flow_sampling import GeometrySampler, Schedule
from mlcalc.generators._flow_settings import FlowSettings
from mlcalc.generators._flow_weights import FlowNetworks, load_flow, save_flow
from mlcalc.generators._split import split_by_formula

_PARTS = ("coordinates", "lattice", "species")


class FlowTrainer(Fit[FlowSettings, FlowNetworks]):
    """Fits velocities and elements to a set of crystals; see ``Fit``.

    The columns ``coordinates`` and ``lattice`` are squared errors of velocities (``_flow_loss.py``), ``species`` nats
    per crystal, ``match`` the share of held-out crystals found from their formula with one sample each (NaN in epochs
    without a count).
    """

    columns = ("training_loss", "validation_loss", *_PARTS, "match")
    criterion = "validation_loss"

    training: list[FlowCrystal]
    validation: list[FlowCrystal]

    def __init__(self, settings: FlowSettings, report: Report | None = None, progress: Progress | None = None) -> None:
        super().__init__(settings, report)
        found = self.read()
        small = [item for item in found if len(item.atoms) <= settings.most_atoms]
        self.left_out = len(found) - len(small)
        if len(small) < 2:
            raise TrainingError(f"{len(found)} crystals, {self.left_out} of which are too large, are too few")
        named = {label for item in small for label in item.labels}
        missing = [p for p in settings.properties if p not in named]
        if missing:
            raise TrainingError(f"no crystal has the label {missing[0]!r}; there are: {', '.join(sorted(named))}")
        begun = self._begun()
        present = sorted({s for item in small for s in item.atoms.symbols})
        self.elements = present if begun is None else list(begun.elements)
        unknown = [e for e in present if e not in self.elements]
        if unknown:
            raise TrainingError(f"the weights in {settings.start} know no {' '.join(unknown)}; leave out such crystals")
        items = []
        for k, item in enumerate(small):
            items.append(to_numbers(item.atoms, self.elements, item.labels, settings.properties))
            if progress:
                progress("crystals", k + 1, len(small))
        counts = [dict(Counter(item.atoms.symbols)) for item in small]
        kept, held = split_by_formula(counts, settings.validation_fraction, settings.seed)
        self.training, self.validation = [items[k] for k in kept], [items[k] for k in held]
        scales = Scales.of(self.training, len(self.elements))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            if begun is None:
                network, start = FlowNetworks(self.elements, settings.properties, scales, settings.network), None
            else:
                network = begun.told_more(settings.properties, scales)
                start = network.state_dict()
        self.content = content_digest(small, settings.most_atoms)
        self.prepare(network, start)

    def _begun(self) -> FlowNetworks | None:
        if not self.settings.start:
            return None
        try:
            return load_flow(self.settings.start).networks
        except ModelFileError as error:
            raise TrainingError(f"start: {error}") from error

    def _losses(self, items: list[FlowCrystal], rng: np.random.Generator, told: bool) -> tuple[Tensor, np.ndarray]:
        """Return what is to become small, and the mean of each part."""
        s, batch = self.settings, collate(items)
        labels = batch.labels
        hidden = rng.random(labels.shape) < s.drop_property if told else np.ones(labels.shape, bool)
        conditions = self.network.scales.told(labels.masked_fill(torch.from_numpy(hidden), torch.nan))
        geometry = geometry_losses(self.network.geometry, items, batch, conditions, self.network.scales, rng)
        species = species_loss(self.network.composition, batch, conditions, len(self.elements), rng)
        parts = torch.stack([*geometry.mean(dim=0), species.mean()])
        loss = parts @ torch.tensor([1.0, s.lattice_weight, s.species_weight])
        return loss, parts.detach().numpy()

    def train_epoch(self) -> dict[str, float]:
        """Follow one noisy path of every crystal."""
        s = self.settings
        rng = np.random.default_rng([s.seed, self.epoch])
        sizes = [len(c.species) for c in self.training]
        steps = math.ceil(len(sizes) / s.batch_size)
        total = 0.0
        for number, rows in enumerate(chunks(sizes, s.batch_size, rng.permutation(len(sizes)), rng)):
            loss, _ = self._losses([self.training[k] for k in rows], rng, told=True)
            self.step(loss, number, steps)
            total += loss.item() * len(rows)
        return {"training_loss": total / len(sizes)}

    def validate(self) -> dict[str, float]:
        """Judge the same noise, times and masks every time, without labels."""
        rng = np.random.default_rng([self.settings.seed, 11])
        sizes, sums, total = [len(c.species) for c in self.validation], np.zeros(len(_PARTS)), 0.0
        for rows in chunks(sizes, 256, np.arange(len(sizes)), rng):
            loss, parts = self._losses([self.validation[k] for k in rows], rng, told=False)
            sums, total = sums + parts * len(rows), total + loss.item() * len(rows)
        row = dict(zip(_PARTS, (sums / len(sizes)).tolist(), strict=True))
        every = self.settings.match_every
        last = self.epoch == self.settings.epochs - 1
        counted = every > 0 and ((self.epoch + 1) % every == 0 or last)
        return {"validation_loss": total / len(sizes), **row, "match": self._match() if counted else math.nan}

    def _match(self) -> float:
        """Return the share of held-out crystals that are found from their formula."""
        s = self.settings
        order = np.random.default_rng([s.seed, 13]).permutation(len(self.validation))[: s.match_crystals]
        goals = [self.validation[k] for k in order]
        counts = [np.bincount(c.species, minlength=len(self.elements)) for c in goals]
        sampler = GeometrySampler(self.network.geometry, self.network.scales, Schedule())
        rngs = [np.random.default_rng([s.seed, 17, k]) for k in range(len(goals))]
        hits = 0
        for drawn, goal in zip(
            sampler.draw(counts, torch.zeros(len(goals), 2 * len(s.properties)), None, rngs), goals, strict=True
        ):
            made = to_atoms(drawn.species, drawn.coordinates, drawn.shape, self.elements)
            hits += match_error(made, to_atoms(goal.species, goal.coordinates, goal.shape, self.elements)) is not None
        return hits / len(goals)

    def describe(self) -> str:
        """Return one line about data and network."""
        return f"{super().describe()}; {len(self.elements)} elements"

    def write_weights(self, path: Any) -> None:
        """Write the networks."""
        save_flow(self.network, path, self.facts())
