"""Equations of state E(V): four forms fitted to energies, and distances between two of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.eos import birchmurnaghan, murnaghan, pouriertarantola, vinet
from ase.units import GPa
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import curve_fit

from mlcalc.errors import WorkflowError
from mlcalc.records import Record

Array = NDArray[np.float64]

# Each E(V, E0, B0, B0', V0), all third order.
FORMS: dict[str, Callable[..., Any]] = {
    "birch_murnaghan": birchmurnaghan,
    "vinet": vinet,
    "murnaghan": murnaghan,
    "poirier_tarantola": pouriertarantola,
}


@dataclass(frozen=True)
class EOSFit(Record):
    """An equation of state, per atom.

    Attributes:
        form: a name in ``FORMS``.
        volume_ang3_per_atom: V0, where the energy is lowest, Å³/atom.
        energy_ev_per_atom: E0 = E(V0), eV/atom.
        bulk_modulus_gpa: B0 = V d²E/dV² at V0, GPa.
        bulk_modulus_derivative: B0' = dB/dP at V0.
        rms_residual_mev_per_atom: root mean square of the energies that the form misses, meV/atom.
    """

    form: str
    volume_ang3_per_atom: float
    energy_ev_per_atom: float
    bulk_modulus_gpa: float
    bulk_modulus_derivative: float
    rms_residual_mev_per_atom: float = 0.0

    def energy(self, volumes: ArrayLike) -> Array:
        """Return energies (eV/atom) at volumes (Å³/atom)."""
        return np.asarray(
            FORMS[self.form](
                np.asarray(volumes, dtype=np.float64),
                self.energy_ev_per_atom,
                self.bulk_modulus_gpa * GPa,
                self.bulk_modulus_derivative,
                self.volume_ang3_per_atom,
            )
        )


def fit_eos(volumes: Sequence[float] | Array, energies: Sequence[float] | Array, form: str) -> EOSFit:
    """Fit one form by least squares.

    Args:
        volumes: (P,) Å³/atom, at least five.
        energies: (P,) eV/atom.
        form: a name in ``FORMS``.

    Raises:
        WorkflowError: unknown form, too few points, energies without a minimum, or a fit that does not converge.
    """
    if form not in FORMS:
        raise WorkflowError(f"unknown equation of state {form!r}: choose from {', '.join(FORMS)}")
    v, e = np.asarray(volumes, dtype=np.float64), np.asarray(energies, dtype=np.float64)
    if v.shape != e.shape or v.ndim != 1 or len(np.unique(v)) < 5:
        raise WorkflowError("an equation of state has four parameters: give energies at five volumes or more")
    start = _birch_murnaghan_by_polynomial(v, e)
    # Numbers of order one, so that one tolerance serves all four.
    scale = start[1] * start[3]

    def scaled(x: Array, e0: float, b0: float, b1: float, v0: float) -> Array:
        return np.asarray(FORMS[form](x, e0, b0, b1, v0))

    try:
        best, _ = curve_fit(scaled, v / start[3], (e - start[0]) / scale, p0=[0.0, 1.0, start[2], 1.0], maxfev=10000)
    except RuntimeError as error:
        raise WorkflowError(
            f"the {form} form does not fit the energies: {error}. Plot them; choose more, or closer volumes"
        ) from error
    fit = EOSFit(
        form=form,
        volume_ang3_per_atom=float(best[3] * start[3]),
        energy_ev_per_atom=float(best[0] * scale + start[0]),
        bulk_modulus_gpa=float(best[1] * start[1] / GPa),
        bulk_modulus_derivative=float(best[2]),
    )
    rms = 1000.0 * float(np.sqrt(np.mean((fit.energy(v) - e) ** 2)))
    return EOSFit(**{**fit.to_dict(), "rms_residual_mev_per_atom": rms})


def _birch_murnaghan_by_polynomial(v: Array, e: Array) -> tuple[float, float, float, float]:
    """Return (E0, B0, B0', V0) of the third-order Birch–Murnaghan form, which is a cubic in V^(-2/3)."""
    unit = float(np.mean(v))
    polynomial = np.poly1d(np.polyfit((v / unit) ** (-2 / 3), e, 3))
    first, second, third = polynomial.deriv(1), polynomial.deriv(2), polynomial.deriv(3)
    minima = [x.real for x in first.roots if abs(x.imag) < 1e-12 and x.real > 0 and second(x.real) > 0]
    if not minima:
        raise WorkflowError(
            f"the energies between {v.min():.4g} and {v.max():.4g} Å³/atom point to no minimum: relax the structure "
            "first, or sample a wider range of volumes"
        )
    x = minima[0]
    v0 = x ** (-3 / 2)
    # Chain rule with x = V^(-2/3); the first derivative vanishes.
    x1, x2 = -2 / 3 * v0 ** (-5 / 3), 10 / 9 * v0 ** (-8 / 3)
    curvature = second(x) * x1**2
    slope = third(x) * x1**3 + 3 * second(x) * x1 * x2
    return float(polynomial(x)), float(v0 * curvature / unit), float(-1 - v0 * slope / curvature), float(v0 * unit)


def delta_gauge(fit_a: EOSFit, fit_b: EOSFit) -> float:
    """Return Δ, meV/atom: the root mean square energy between two curves laid on each other at their minima.

    Δ = sqrt(∫ (E_a − E_b)² dV / ΔV) over ±6 % of the mean V0 (Lejaeghere et al., Crit. Rev. Solid State Mater. Sci. 39,
    1 (2014), eq. 3; Science 351, aad3000 (2016)). Stiff crystals have a larger Δ; ``epsilon_gauge`` does not care.
    """
    volumes, weights = _interval(fit_a, fit_b)
    return 1000.0 * float(np.sqrt(weights @ (_from_minimum(fit_a, volumes) - _from_minimum(fit_b, volumes)) ** 2))


def epsilon_gauge(fit_a: EOSFit, fit_b: EOSFit) -> float:
    """Return ε, without unit: Δ over the spread of the energies, so that soft and stiff crystals compare.

    ε = sqrt(⟨(E_a − E_b)²⟩ / sqrt(⟨(E_a − ⟨E_a⟩)²⟩⟨(E_b − ⟨E_b⟩)²⟩)), averages over ±6 % of the mean V0 (Bosoni et al.,
    Nat. Rev. Phys. 6, 45 (2024)).
    """
    volumes, weights = _interval(fit_a, fit_b)
    a, b = _from_minimum(fit_a, volumes), _from_minimum(fit_b, volumes)
    spread = np.sqrt((weights @ (a - weights @ a) ** 2) * (weights @ (b - weights @ b) ** 2))
    return float(np.sqrt(weights @ (a - b) ** 2 / spread))


def _interval(fit_a: EOSFit, fit_b: EOSFit) -> tuple[Array, Array]:
    """Volumes (Å³/atom) and weights of an average over ±6 % of the mean V0: Gauss–Legendre, exact to rounding."""
    nodes, weights = np.polynomial.legendre.leggauss(32)
    mean = 0.5 * (fit_a.volume_ang3_per_atom + fit_b.volume_ang3_per_atom)
    return mean * (1 + 0.06 * nodes), 0.5 * weights


def _from_minimum(fit: EOSFit, volumes: Array) -> Array:
    return fit.energy(volumes) - fit.energy_ev_per_atom
