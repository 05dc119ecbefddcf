"""Elements as vectors: what the periodic table says of them, and what is learnt."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase.data import atomic_numbers, covalent_radii
from pymatgen.core import Element
from torch import Tensor, nn


def descriptors(elements: Sequence[str]) -> Tensor:
    """Return (K, 28) row, group, covalent radius, electronegativity (and whether it is known) of elements."""
    rows = []
    for symbol in elements:
        element = Element(symbol)
        negativity = element.data.get("X")  # some noble gases have none, of which the attribute would warn
        group = [float(element.group == g) for g in range(1, 19)]
        row = [float(element.row == r) for r in range(1, 8)]
        radius = (float(covalent_radii[atomic_numbers[symbol]]) - 1.5) / 0.4
        rows.append([*group, *row, radius, (negativity - 1.8) / 0.6 if negativity else 0.0, float(bool(negativity))])
    return torch.tensor(rows)


class ElementEmbedding(nn.Module):
    """Vectors of elements: a learnt one each, and a linear map of what the periodic table says.

    Args:
        elements: symbols.
        width: of a vector.
    """

    def __init__(self, elements: Sequence[str], width: int):
        super().__init__()
        self.register_buffer("table", descriptors(elements), persistent=False)
        self.own = nn.Parameter(0.3 * torch.randn(len(elements), width))
        self.shared = nn.Linear(self.table.shape[1], width)

    table: Tensor

    def forward(self) -> Tensor:
        """Return all of them, (K, width)."""
        vectors: Tensor = self.own + self.shared(self.table)
        return vectors
