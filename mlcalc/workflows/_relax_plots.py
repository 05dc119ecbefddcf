"""Picture of relaxations, drawn on a Figure object so that no global matplotlib state changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mlcalc.figures import new_figure, save_figure


def plot_convergence(forces: Mapping[str, Sequence[float]], fmax: float, path: str | Path) -> Path:
    """Draw the largest force (eV/Å) against the step for each named relaxation, and the criterion."""
    figure = new_figure(6, 4)
    axis = figure.subplots()
    for name, values in forces.items():
        axis.plot(range(len(values)), [max(value, 1e-8) for value in values], linewidth=1.0, label=name)
    axis.axhline(fmax, color="0.5", linewidth=0.8, linestyle="--")
    axis.set_yscale("log")
    axis.set_xlabel("step")
    axis.set_ylabel("largest force (eV/Å)")
    if 1 < len(forces) <= 12:
        axis.legend(fontsize="small")
    return save_figure(figure, path)
