"""Weighted Arrhenius line through diffusion coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.units import kB

from mlcalc.errors import WorkflowError
from mlcalc.records import Record


@dataclass(frozen=True)
class Arrhenius(Record):
    """D = D₀ exp(−E_a / k_B T).

    Attributes:
        activation_energy_ev: E_a, eV.
        activation_energy_error_ev: standard error, eV.
        prefactor_cm2_per_s: D₀, cm²/s.
        log_prefactor_error: standard error of ln D₀.
        reduced_chi_squared: scatter about the line in units of the error bars; near 1 where both are right, None for
            two temperatures.
        temperatures_k: that the line goes through.
        excluded_k: left out, for they are not diffusive.
    """

    activation_energy_ev: float
    activation_energy_error_ev: float
    prefactor_cm2_per_s: float
    log_prefactor_error: float
    reduced_chi_squared: float | None
    temperatures_k: tuple[float, ...]
    excluded_k: tuple[float, ...] = ()

    def diffusion_cm2_per_s(self, temperature_k: float) -> float:
        """Return D at a temperature, cm²/s; trust it between the temperatures of the fit."""
        return float(self.prefactor_cm2_per_s * np.exp(-self.activation_energy_ev / (kB * temperature_k)))


def fit_arrhenius(
    temperatures_k: Sequence[float],
    diffusion_cm2_per_s: Sequence[float],
    error_cm2_per_s: Sequence[float],
    excluded_k: Sequence[float] = (),
) -> Arrhenius:
    """Fit ln D against 1/k_B T by least squares with weights (D/σ)².

    Errors follow from the error bars; where the scatter about the line is larger than these (reduced χ² > 1), they grow
    with its square root.

    Args:
        temperatures_k: at least two different ones, K.
        diffusion_cm2_per_s: D at each.
        error_cm2_per_s: standard errors.
        excluded_k: temperatures to name as left out.

    Raises:
        WorkflowError: too few temperatures, or a D or error that is not positive.
    """
    t, d, sigma = (
        np.asarray(item, dtype=np.float64) for item in (temperatures_k, diffusion_cm2_per_s, error_cm2_per_s)
    )
    if len(np.unique(t)) < 2 or not len(t) == len(d) == len(sigma):
        raise WorkflowError("an Arrhenius line needs D and its error at two temperatures or more")
    if not (np.concatenate([t, d, sigma]) > 0).all():
        raise WorkflowError("an Arrhenius line needs positive temperatures, D and errors")
    design = np.stack([np.ones_like(t), -1.0 / (kB * t)], axis=1)
    weights = (d / sigma)[:, None]
    covariance = np.linalg.inv((design * weights).T @ (design * weights))
    solution = covariance @ ((design * weights).T @ (np.log(d) * weights[:, 0]))
    freedom = len(t) - 2
    chi = float((((np.log(d) - design @ solution) * weights[:, 0]) ** 2).sum() / freedom) if freedom else None
    grown = np.sqrt(covariance.diagonal() * max(chi or 1.0, 1.0))
    return Arrhenius(
        activation_energy_ev=float(solution[1]),
        activation_energy_error_ev=float(grown[1]),
        prefactor_cm2_per_s=float(np.exp(solution[0])),
        log_prefactor_error=float(grown[0]),
        reduced_chi_squared=chi,
        temperatures_k=tuple(float(item) for item in t),
        excluded_k=tuple(float(item) for item in excluded_k),
    )
