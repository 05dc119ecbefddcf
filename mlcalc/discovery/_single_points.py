"""Energies of structures as they are, together where the calculator can."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

from ase import Atoms


@dataclass(frozen=True)
class SinglePoint:
    """Total energy, eV, or NaN and what went wrong."""

    energy_ev: float
    problem: str | None = None


def single_points(structures: Sequence[Atoms], calculator: Any) -> list[SinglePoint]:
    """Return the energy of each structure; a structure that the calculator fails on has none, and says why."""
    from mlcalc.calculators import BatchedCalculator, MLCalculator

    if isinstance(calculator, MLCalculator):
        calculator = BatchedCalculator.of(calculator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(calculator, BatchedCalculator):
            found = calculator.compute(structures, forces=False, strict=False)
            return [_checked(result.energy_ev, result.error) for result in found]
        return [_energy(atoms, calculator) for atoms in structures]


def _energy(atoms: Atoms, calculator: Any) -> SinglePoint:
    atoms = atoms.copy()
    atoms.calc = calculator
    try:
        return _checked(float(atoms.get_potential_energy()), None)
    except Exception as error:  # of any calculator: an element it does not know, say
        return SinglePoint(nan, f"{type(error).__name__}: {error}")


def _checked(energy_ev: float, problem: str | None) -> SinglePoint:
    return SinglePoint(energy_ev, problem if isfinite(energy_ev) else problem or "energy not finite")
