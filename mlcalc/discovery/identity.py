"""What a calculator's energies are: the weights behind them, and the scale they are on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlcalc.records import Record, describe_calculator

# Parameters of calculators that change no energy beyond rounding, or only name what the weights are.
_SAME_ENERGY = {"device", "skin", "potential"}


@dataclass(frozen=True)
class EnergyScale(Record):
    """What energies mean; numbers of two scales are never compared.

    Attributes:
        meaning: functional, code, corrections, as the potential declares them.
        source: whose numbers these are: weights and settings of a potential, or a database.
        pressure_gpa: energies are enthalpies at this pressure, GPa.
    """

    meaning: str
    source: str
    pressure_gpa: float = 0.0

    def __str__(self) -> str:
        pressure = f", enthalpies at {self.pressure_gpa:g} GPa" if self.pressure_gpa else ""
        return f"{self.meaning}, from {self.source}{pressure}"

    def at(self, pressure_gpa: float) -> EnergyScale:
        """Return the scale of enthalpies at a pressure, GPa."""
        return replace(self, pressure_gpa=float(pressure_gpa))


def weights_sha256(potentials: Sequence[Any]) -> str:
    """Return a digest of names and values of all parameters and buffers of one potential, or of a committee."""
    digest = hashlib.sha256()
    for potential in potentials:
        for name, tensor in sorted(potential.state_dict().items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).tobytes())
    return digest.hexdigest()


def known_weights(calculator: Any) -> str | None:
    """Return the digest of a calculator's weights; None where only the calculator itself knows what it computes."""
    potentials = getattr(calculator, "potentials", None)
    return weights_sha256(potentials) if potentials else None


def energy_scale(calculator: Any, pressure_gpa: float = 0.0) -> EnergyScale:
    """Return the scale of a calculator's energies, or of its enthalpies at a pressure in GPa."""
    info = getattr(calculator, "info", None)
    meaning = getattr(info, "energy_scale", None) or "unknown"
    weights = known_weights(calculator)
    if weights is None:
        source = describe_calculator(calculator)
    else:
        told = getattr(calculator, "parameters", None) or {}
        # One potential means the same in every calculator and on every device.
        kept = ", ".join(f"{key}={told[key]!r}" for key in sorted(told) if key not in _SAME_ENERGY)
        source = f"weights {weights[:16]} ({kept})"
    return EnergyScale(str(meaning), source, float(pressure_gpa))
