"""Training the Wyckoff transformer."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlcalc.crystals import WyckoffCrystal, encode
from mlcalc.crystals.fingerprints import fingerprint_of
from mlcalc.crystals.io import LabelledCrystal
from mlcalc.errors import CrystalError, ModelFileError, TrainingError
from mlcalc.files import write_atomic
from mlcalc.generators._fit import Fit, Progress, Report, content_digest
from mlcalc.generators._known import KnownFingerprints
from mlcalc.generators._split import split_by_formula
from mlcalc.generators._wyckoff_data import (
    PROPERTIES,
    Batch,
    Encoded,
    batches,
    composition,
    conditions,
    encode_crystal,
)
from mlcalc.generators._wyckoff_likelihood import PARTS, log_likelihood
from mlcalc.generators._wyckoff_network import WyckoffNetwork
from mlcalc.generators._wyckoff_settings import WyckoffSettings
from mlcalc.generators._wyckoff_vocabulary import in_order
from mlcalc.generators._wyckoff_weights import LoadedNetwork, load_network, save_network


class WyckoffTrainer(Fit[WyckoffSettings, WyckoffNetwork]):
    """Fits the Wyckoff transformer to a set of crystals by maximum likelihood; see ``Fit``."""

    columns = ("training_nats", "validation_nats", *(f"{p}_nats" for p in PARTS))
    criterion = "validation_nats"

    training: list[Encoded]
    validation: list[Encoded]

    def __init__(
        self, settings: WyckoffSettings, report: Report | None = None, progress: Progress | None = None
    ) -> None:
        super().__init__(settings, report)
        found = self.read()
        crystals, labels = self._describe(found, progress)
        present = in_order({o.element for c in crystals for o in c.orbits})
        begun = self._begun(present)
        network, start = self._network(present, begun)
        self.elements = network.elements
        items = [encode_crystal(c, self.elements, label) for c, label in zip(crystals, labels, strict=True)]
        kept, held = split_by_formula([c.counts() for c in crystals], settings.validation_fraction, settings.seed)
        self.training, self.validation = [items[k] for k in kept], [items[k] for k in held]
        told = [not all(np.isnan(i.properties[k]) for i in self.training) for k in range(len(PROPERTIES))]
        self.labels = [p for p, some in zip(PROPERTIES, told, strict=True) if some or (begun and p in begun.labels)]
        self.known = KnownFingerprints(map(fingerprint_of, crystals), settings.symprec)
        if begun:
            self.known.update(begun.known)
        self.content = content_digest(found, settings.symprec)
        self.prepare(network, start)

    def _begun(self, present: tuple[str, ...]) -> LoadedNetwork | None:
        """Return what ``start`` names, which must know the elements at hand."""
        s = self.settings
        if not s.start:
            return None
        try:
            begun = load_network(s.start)
        except ModelFileError as error:
            raise TrainingError(f"start: {error}") from error
        unknown = [e for e in present if e not in begun.network.elements]
        if unknown:
            raise TrainingError(f"the weights in {s.start} know no {' '.join(unknown)}; leave out such crystals")
        return begun

    def _network(
        self, present: tuple[str, ...], begun: LoadedNetwork | None
    ) -> tuple[WyckoffNetwork, dict[str, Tensor] | None]:
        """Return a network for the elements at hand, or that of ``start`` with its weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed)
            if begun is None:
                return WyckoffNetwork(present, self.settings.network), None
            return WyckoffNetwork(begun.network.elements, begun.network.settings), begun.network.state_dict()

    def _describe(
        self, found: list[LabelledCrystal], progress: Progress | None
    ) -> tuple[list[WyckoffCrystal], list[dict[str, float]]]:
        """Return descriptions and labels; descriptions are taken from the folder where they were made before."""
        s = self.settings
        digest = hashlib.sha256(repr(s.symprec).encode())
        for item in found:
            for array in (item.atoms.numbers, item.atoms.positions, item.atoms.cell.array):
                digest.update(np.ascontiguousarray(array).tobytes())
        content = digest.hexdigest()
        cache = self.folder / "crystals.json"
        stored = json.loads(cache.read_text(encoding="utf-8")) if cache.is_file() else {}
        if stored.get("content") != content:
            described: list[Any] = []
            for k, item in enumerate(found):
                try:
                    described.append(encode(item.atoms, s.symprec).to_dict())
                except CrystalError:
                    described.append(None)  # counted below
                if progress:
                    progress("crystals", k + 1, len(found))
            stored = {"content": content, "crystals": described}
            write_atomic(cache, json.dumps(stored))
        pairs = [(c, item.labels) for c, item in zip(stored["crystals"], found, strict=True) if c is not None]
        self.left_out = len(found) - len(pairs)
        if len(pairs) < 2:
            raise TrainingError(f"{len(found)} crystals, {self.left_out} of which cannot be described, are too few")
        return [WyckoffCrystal.from_dict(c) for c, _ in pairs], [label for _, label in pairs]

    def _conditions(self, batch: Batch, rng: np.random.Generator) -> Tensor:
        """What the network is told of each crystal, some of it left out at random."""
        s, n, size = self.settings, len(self.elements), len(batch.group)
        system, shares = composition(batch, n)
        hidden = torch.from_numpy(rng.random((size, 1)) < s.drop_elements)
        secret = hidden | torch.from_numpy(rng.random((size, 1)) < s.drop_composition)
        untold = torch.from_numpy(rng.random((size, batch.properties.shape[1])) < s.drop_property)
        return conditions(
            n,
            system.masked_fill(hidden, torch.nan),
            shares.masked_fill(secret, torch.nan),
            batch.properties.masked_fill(untold, torch.nan),
            size,
        )

    def train_epoch(self) -> dict[str, float]:
        """Raise the likelihood of every crystal once."""
        s = self.settings
        rng = np.random.default_rng([s.seed, self.epoch])
        order = rng.permutation(len(self.training))
        steps = math.ceil(len(order) / s.batch_size)
        total = 0.0
        for number, batch in enumerate(batches(self.training, s.batch_size, len(self.elements), order)):
            loss = -log_likelihood(self.network, batch, self._conditions(batch, rng)).sum(dim=1).mean()
            self.step(loss, number, steps)
            total += loss.item() * len(batch.group)
        return {"training_nats": total / len(order)}

    def validate(self) -> dict[str, float]:
        """Mean negative log-likelihood of the validation crystals without conditions, by parts."""
        sums = np.zeros(len(PARTS))
        for batch in batches(self.validation, self.settings.batch_size, len(self.elements)):
            condition = conditions(len(self.elements), None, None, None, len(batch.group))
            sums -= log_likelihood(self.network, batch, condition).double().sum(dim=0).numpy()
        parts = sums / len(self.validation)
        return {
            "validation_nats": float(parts.sum()),
            **{f"{p}_nats": float(v) for p, v in zip(PARTS, parts, strict=True)},
        }

    def describe(self) -> str:
        """Return one line about data and network."""
        return f"{super().describe()}; {len(self.elements)} elements"

    def write_weights(self, path: Path) -> None:
        """Write the network."""
        save_network(self.network, path, self.facts(), self.known)

    def facts(self) -> dict[str, Any]:
        """Return what the weights file says about its training."""
        best = self.history[self.best_epoch] if self.history else {}
        return {
            **super().facts(),
            "symprec_ang": self.settings.symprec,
            "labels": self.labels,
            "validation_nats": {p: best[f"{p}_nats"] for p in PARTS} if best else {},
        }
