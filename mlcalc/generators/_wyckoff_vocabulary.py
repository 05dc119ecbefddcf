"""What the Wyckoff transformer can say: elements in order, Wyckoff positions of all groups as numbers."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from mlcalc.crystals._equivalents import electropositivity
from mlcalc.crystals._tables import tables
from mlcalc.crystals.description import crystal_system

#: Largest number of Wyckoff positions of a group (Pmmm).
LETTERS = 27
GROUPS = 230
SYSTEMS = ("triclinic", "monoclinic", "orthorhombic", "tetragonal", "hexagonal", "cubic")
#: Which of log volume per atom, log b/a, log c/a, alpha, beta, gamma are free, by system.
_SHAPES = {
    "triclinic": (1, 1, 1, 1, 1, 1),
    "monoclinic": (1, 1, 1, 0, 1, 0),
    "orthorhombic": (1, 1, 1, 0, 0, 0),
    "tetragonal": (1, 0, 1, 0, 0, 0),
    "hexagonal": (1, 0, 1, 0, 0, 0),
    "cubic": (1, 0, 0, 0, 0, 0),
}
SITE_FEATURES = 17
ELEMENT_FEATURES = 28


def in_order(elements: set[str]) -> tuple[str, ...]:
    """Return elements in the order in which a crystal names them: electropositive ones first."""
    return tuple(sorted(elements, key=electropositivity))


@lru_cache(maxsize=1)
def site_tables() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tables of all groups, indexed [group - 1, letter].

    Returns:
        features (230, 27, 17) float; multiplicity per primitive cell (230, 27) int, 0 where a group has no such
        letter; free axes (230, 27, 3) bool; lattice parameters (230, 6) bool.
    """
    features = np.zeros((GROUPS, LETTERS, SITE_FEATURES), dtype=np.float32)
    multiplicity = np.zeros((GROUPS, LETTERS), dtype=np.int64)
    free = np.zeros((GROUPS, LETTERS, 3), dtype=bool)
    shape = np.zeros((GROUPS, 6), dtype=bool)
    for g in range(GROUPS):
        table = tables(g + 1)
        shape[g] = _SHAPES[crystal_system(g + 1)]
        for k, letter in enumerate(table.letters):
            position = table.positions[letter]
            multiplicity[g, k] = position.multiplicity
            free[g, k, list(position.columns)] = True
            features[g, k] = [
                np.log(position.multiplicity) / 2,
                len(position.rotations) / len(table.rotations),
                len(position.columns) / 3,
                *position.rotations[0].ravel(),
                *np.cos(2 * np.pi * position.translations[0]),
                k / LETTERS,
                1.0,
            ]
    return torch.from_numpy(features), torch.from_numpy(multiplicity), torch.from_numpy(free), torch.from_numpy(shape)


def letter_names(number: int) -> tuple[str, ...]:
    """Return the letters of a group in the order of the tables."""
    return tables(number).letters


def element_features(elements: tuple[str, ...]) -> Tensor:
    """Return (elements, 28) column, row and electronegativity in the periodic table."""
    from pymatgen.core import Element

    rows = np.zeros((len(elements), ELEMENT_FEATURES), dtype=np.float32)
    for k, symbol in enumerate(elements):
        element = Element(symbol)
        rows[k, element.group - 1] = 1
        rows[k, 18 + min(element.row, 9) - 1] = 1
        rows[k, 27] = min(electropositivity(symbol)[0], 4.0) - 2
    return torch.from_numpy(rows)
