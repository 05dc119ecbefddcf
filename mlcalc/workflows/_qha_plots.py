"""Pictures of quasi-harmonic results."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlcalc.figures import new_figure, save_figure
from mlcalc.workflows.mode_gruneisen import GruneisenResult
from mlcalc.workflows.quasi_harmonic import QHAResult


def plot_qha(result: QHAResult, path: str | Path, title: str = "") -> Path:
    """Draw F(V) with its minima, volume, thermal expansion and bulk modulus; grey where extrapolated."""
    figure = new_figure(9, 7)
    ((free, volume), (expansion, modulus)) = figure.subplots(2, 2)
    t, v = result.temperature_k, result.volume_ang3_per_atom
    span, lowest_label = float(np.ptp(result.helmholtz_ev_per_atom)), np.inf
    for index in np.unique(np.linspace(0, len(t) - 1, 8).astype(int)):
        line = free.plot(result.used_volume_ang3_per_atom, result.helmholtz_ev_per_atom[index], "o-", markersize=3)[0]
        height = result.helmholtz_ev_per_atom[index, -1]
        if lowest_label - height > 0.04 * span:
            free.text(result.used_volume_ang3_per_atom[-1], height, f" {t[index]:.0f} K", fontsize=7, va="center")
            lowest_label = height
        line.set_linewidth(0.8)
    free.plot(v, result.gibbs_ev_per_atom, "k-")
    free.set_xlabel("volume (Å³/atom)")
    free.set_ylabel("E + F_vib + PV (eV/atom)")
    for axes, values, label in (
        (volume, v, "volume (Å³/atom)"),
        (expansion, 1e6 * result.thermal_expansion_per_k, "volumetric expansion (10⁻⁶/K)"),
        (modulus, result.bulk_modulus_gpa, "bulk modulus (GPa)"),
    ):
        axes.plot(t, values, "C0")
        axes.set_xlabel("temperature (K)")
        axes.set_ylabel(label)
        trusted = -1.0 if result.trusted_below_k is None else result.trusted_below_k
        if trusted < t[-1]:
            axes.axvspan(max(trusted, t[0]), t[-1], color="0.85", zorder=0)
    figure.suptitle(title)
    return save_figure(figure, path)


def plot_gruneisen(result: GruneisenResult, path: str | Path, title: str = "") -> Path:
    """Draw mode Grüneisen parameters against frequency, and their thermodynamic mean against temperature."""
    figure = new_figure(8, 4)
    left, right = figure.subplots(1, 2)
    for band in range(result.frequency_thz.shape[1]):
        left.plot(result.frequency_thz[:, band], result.gruneisen[:, band], ".", markersize=3)
    left.axhline(result.mean, color="0.5", linewidth=0.8, linestyle=":")
    left.set_xlabel("frequency (THz)")
    left.set_ylabel("mode Grüneisen parameter")
    right.plot(result.temperature_k, result.thermodynamic)
    right.set_xlabel("temperature (K)")
    right.set_ylabel("mean weighted with heat capacities")
    figure.suptitle(title)
    return save_figure(figure, path)
