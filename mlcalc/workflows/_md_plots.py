"""Pictures of molecular dynamics results, drawn on Figure objects so that no global matplotlib state changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mlcalc.figures import new_figure, save_figure
from mlcalc.workflows.msd import MSD
from mlcalc.workflows.rdf import RDF


def plot_log(result: Any, path: str | Path, title: str = "") -> Path:
    """Draw temperature, energies and (where defined) pressure and volume of an ``MDResult`` against time."""
    time_ps = result.time_fs / 1000.0
    atoms = len(result.atoms)
    panels = [("temperature (K)", [("", result.temperature_k)])]
    change = [("potential", result.potential_ev), ("total", result.total_ev)]
    panels.append(("ΔE (meV/atom)", [(name, 1000.0 * (values - values[0]) / atoms) for name, values in change]))
    if np.isfinite(result.pressure_gpa).any():
        panels.append(("pressure (GPa)", [("", result.pressure_gpa)]))
    if np.isfinite(result.volume_ang3).any() and np.ptp(result.volume_ang3) > 0:
        panels.append(("volume (Å³)", [("", result.volume_ang3)]))
    figure = new_figure(7, 1.9 * len(panels))
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (label, curves) in zip(axes, panels, strict=True):
        for name, values in curves:
            axis.plot(time_ps, values, linewidth=0.9, label=name or None)
        axis.set_ylabel(label)
        if len(curves) > 1:
            axis.legend()
    axes[-1].set_xlabel("time (ps)")
    figure.suptitle(title)
    return save_figure(figure, path)


def plot_rdf(curves: dict[str, RDF], path: str | Path, title: str = "") -> Path:
    """Draw one or several radial distribution functions over each other, by name."""
    figure = new_figure(6, 4)
    axis = figure.subplots()
    for name, rdf in curves.items():
        axis.plot(rdf.r_ang, rdf.g, linewidth=1.1, label=name)
    axis.axhline(1.0, color="0.7", linewidth=0.6)
    axis.set_xlabel("r (Å)")
    axis.set_ylabel("g(r)")
    if len(curves) > 1:
        axis.legend()
    figure.suptitle(title)
    return save_figure(figure, path)


def plot_msd(msd: MSD, path: str | Path, title: str = "") -> Path:
    """Draw the mean squared displacement of each element against the lag."""
    figure = new_figure(6, 4)
    axis = figure.subplots()
    for name, values in msd.by_element.items():
        axis.plot(msd.time_fs / 1000.0, values, linewidth=1.1, label=name)
    axis.set_xlabel("lag (ps)")
    axis.set_ylabel("MSD (Å²)")
    axis.legend()
    figure.suptitle(title)
    return save_figure(figure, path)
