"""Pictures of phonon results, drawn on Figure objects so that no global matplotlib state changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mlcalc.figures import new_figure, save_figure

EV_TO_J_PER_MOL = 96485.33212


def plot_bands(result: Any, path: str | Path, title: str = "") -> Path:
    """Draw bands and density of states of a ``PhononResult`` or ``PhononAnalysis`` side by side."""
    figure = new_figure(8, 4.5)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[4, 1])
    bands = result.bands
    ticks: list[float] = []
    names: list[str] = []
    for (start, stop), distances, frequencies in zip(
        bands.labels, bands.distances_inv_ang, bands.frequencies_thz, strict=True
    ):
        left.plot(distances, frequencies, color="C0", linewidth=1.0)
        if names and np.isclose(ticks[-1], distances[0]):
            if names[-1] != start:
                names[-1] = f"{names[-1]}|{start}"
        else:
            ticks.append(float(distances[0]))
            names.append(start)
        ticks.append(float(distances[-1]))
        names.append(stop)
    left.set_xticks(ticks, names)
    left.set_xlim(ticks[0], ticks[-1])
    for tick in ticks:
        left.axvline(tick, color="0.8", linewidth=0.6, zorder=0)
    right.plot(result.dos.states_per_thz, result.dos.frequency_thz, color="C0", linewidth=1.0)
    right.fill_betweenx(result.dos.frequency_thz, result.dos.states_per_thz, color="C0", alpha=0.2)
    right.set_xlim(left=0)
    right.set_xlabel("DOS (1/THz)")
    for axes in (left, right):
        axes.axhline(0.0, color="0.5", linewidth=0.6)
        if result.imaginary:
            axes.axhspan(min(result.min_frequency_thz * 1.1, -0.1), 0.0, color="C3", alpha=0.1)
    left.set_ylabel("frequency (THz), imaginary below 0")
    figure.suptitle(title)
    return save_figure(figure, path)


def plot_thermal(result: Any, path: str | Path, title: str = "") -> Path:
    """Draw free energy (kJ/mol), entropy and heat capacity (J/K/mol) per primitive cell against temperature."""
    figure = new_figure(6, 4.5)
    left = figure.subplots()
    right = left.twinx()
    thermal = result.thermal
    lines = [
        *left.plot(thermal.temperature_k, thermal.free_energy_ev * EV_TO_J_PER_MOL / 1000, "C0", label="F"),
        *right.plot(thermal.temperature_k, thermal.entropy_ev_per_k * EV_TO_J_PER_MOL, "C1", label="S"),
        *right.plot(thermal.temperature_k, thermal.heat_capacity_ev_per_k * EV_TO_J_PER_MOL, "C2", label="Cv"),
    ]
    left.set_xlabel("temperature (K)")
    left.set_ylabel("free energy (kJ/mol)")
    right.set_ylabel("entropy, heat capacity (J/K/mol)")
    left.legend(lines, [str(line.get_label()) for line in lines])
    figure.suptitle(title)
    return save_figure(figure, path)
