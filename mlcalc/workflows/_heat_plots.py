"""Picture of lattice thermal conductivity."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlcalc.figures import new_figure, save_figure

if TYPE_CHECKING:
    from mlcalc.workflows.heat_conduction import HeatResult


def plot_heat(result: HeatResult, path: str | Path, title: str = "") -> Path:
    """Draw the diagonal of the conductivity against temperature, and its mean on the coarser mesh."""
    figure = new_figure(6, 4)
    axis = figure.subplots()
    for k, name in enumerate("xyz"):
        axis.plot(result.temperature_k, result.kappa_w_per_m_k[:, k, k], "o-", markersize=4, label=f"κ {name}{name}")
    if result.coarse_kappa_w_per_m_k is not None:
        mean = np.trace(result.coarse_kappa_w_per_m_k, axis1=1, axis2=2) / 3.0
        axis.plot(result.temperature_k, mean, "k:", label=f"mean, mesh {' '.join(map(str, result.coarse_mesh or ()))}")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("T (K)")
    axis.set_ylabel("κ (W/(m K))")
    axis.set_title(
        f"mesh {' '.join(map(str, result.mesh))}" + ("" if result.converged else ": NOT CONVERGED"), fontsize="medium"
    )
    axis.legend(fontsize="small")
    figure.suptitle(title)
    return save_figure(figure, path)
