"""Holding out formulas: no composition is on both sides of a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ase.formula import Formula

from mlcalc.errors import GeneratorError


def split_by_formula(
    compositions: Sequence[Mapping[str, int]], fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """Return indices for training and validation; all crystals of a reduced formula are on the same side.

    Args:
        compositions: atoms of each element, for every crystal.
        fraction: of the reduced formulas, to be held out.
        seed: of the choice.

    Raises:
        GeneratorError: too few formulas.
    """
    formulas = [Formula.from_dict(dict(c)).reduce()[0].format("hill") for c in compositions]
    different = sorted(set(formulas))
    held = round(fraction * len(different))
    if not 0 < held < len(different):
        raise GeneratorError(f"{len(different)} formulas are too few to hold out {fraction:g} of them for validation")
    chosen = {different[k] for k in np.random.default_rng([seed, 7]).permutation(len(different))[:held]}
    training = [k for k, f in enumerate(formulas) if f not in chosen]
    return training, [k for k, f in enumerate(formulas) if f in chosen]
