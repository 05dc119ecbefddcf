"""What generators of images can be told of a crystal: elements, composition, properties."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlcalc.generators.base import LABELS

_TARGETS = {label: name for name, label in LABELS.items()}


@dataclass(frozen=True)
class Conditions:
    """The layout of a vector of conditions: elements present, their shares, properties; each with a flag.

    Attributes:
        elements: in order.
        properties: names of labels.
        middle: of each property in the training data, in its units.
        spread: standard deviation of each.
        lowest: of the training data.
        highest: likewise.
    """

    elements: tuple[str, ...]
    properties: tuple[str, ...] = ()
    middle: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()
    lowest: tuple[float, ...] = ()
    highest: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """Length of the vector."""
        return 2 * len(self.elements) + 2 + 2 * len(self.properties)

    @property
    def targets(self) -> dict[str, int]:
        """Columns of the properties, by the names that constraints use."""
        return {_TARGETS.get(name, name): k for k, name in enumerate(self.properties)}

    def vector(self, shares: Tensor | None, told: Tensor | None, properties: Tensor | None, size: int) -> Tensor:
        """Return (size, width) conditions.

        Args:
            shares: (size, elements) of the atoms; None tells nothing about elements.
            told: (size,) 0 where nothing is told of the elements, 1 where which ones, 2 where their shares too; None
                tells everything.
            properties: (size, properties) in their units; NaN is not told.
            size: rows.
        """
        n = len(self.elements)
        if shares is None:
            shares, told = torch.zeros(size, n), torch.zeros(size)
        elif told is None:
            told = torch.full((size,), 2)
        which, exact = (told > 0).float()[:, None], (told > 1).float()[:, None]
        parts = [(shares > 0).float() * which, which, shares * exact, exact]
        if properties is None:
            properties = torch.full((size, len(self.properties)), torch.nan)
        parts += [torch.nan_to_num(self.standardised(properties)).clamp(-5, 5), (~properties.isnan()).float()]
        return torch.cat(parts, dim=1)

    def standardised(self, properties: Tensor) -> Tensor:
        """Return properties in standard deviations from the mean of the training data."""
        return (properties - torch.tensor(self.middle)) / torch.tensor(self.spread)

    def in_units(self, standardised: Tensor) -> Tensor:
        """Return properties in their units."""
        return standardised * torch.tensor(self.spread) + torch.tensor(self.middle)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary; ``from_dict`` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Conditions:
        """Build from ``to_dict`` output."""
        return cls(**{key: tuple(value) for key, value in values.items()})


def conditions_of(elements: tuple[str, ...], properties: tuple[str, ...], values: np.ndarray) -> Conditions:
    """Return the layout for training data.

    Args:
        elements: in order.
        properties: names of labels; those that no crystal has are left out.
        values: (crystals, properties), NaN where unknown.
    """
    known = [k for k in range(len(properties)) if (~np.isnan(values[:, k])).sum() > 1]
    columns = [values[:, k][~np.isnan(values[:, k])] for k in known]
    return Conditions(
        elements,
        tuple(properties[k] for k in known),
        tuple(float(c.mean()) for c in columns),
        tuple(float(c.std()) or 1.0 for c in columns),
        tuple(float(c.min()) for c in columns),
        tuple(float(c.max()) for c in columns),
    )
