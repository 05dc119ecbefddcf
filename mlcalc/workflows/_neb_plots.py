"""Picture of a minimum energy path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlcalc.figures import new_figure, save_figure

if TYPE_CHECKING:
    from mlcalc.workflows.nudged_elastic_band import NEBResult


def plot_path(result: NEBResult, path: str | Path, title: str = "") -> Path:
    """Draw energies along a path, the curve through them, and the barriers both ways."""
    figure = new_figure(6, 4)
    axis = figure.subplots()
    energies = result.energy_ev - result.energy_ev[0]
    axis.plot(result.fit_distance_ang, result.fit_energy_ev, color="tab:blue", linewidth=1.2)
    axis.plot(result.distance_ang, energies, "o", color="tab:blue", markersize=5)
    top = result.saddle_index
    axis.plot(result.distance_ang[top], energies[top], "o", color="tab:red", markersize=7)
    axis.axhline(0.0, color="0.8", linewidth=0.6, zorder=0)
    axis.set_xlabel("path (Å)")
    axis.set_ylabel("energy (eV)")
    text = f"{result.barrier_forward_ev:.3f} eV forward, {result.barrier_backward_ev:.3f} eV backward"
    axis.set_title(text if result.converged else f"NOT CONVERGED: {text}", fontsize="medium")
    figure.suptitle(title)
    return save_figure(figure, path)
