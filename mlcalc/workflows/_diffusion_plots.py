"""Pictures of diffusion: mean squared displacements with error bands, and the Arrhenius line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mlcalc.figures import new_figure, save_figure
from mlcalc.workflows._diffusion_estimate import CM2_PER_S
from mlcalc.workflows._diffusion_trajectory import TrajectoryDiffusion
from mlcalc.workflows.diffusion import DiffusionResult


def plot_diffusion(runs: Mapping[str, TrajectoryDiffusion], path: str | Path, title: str = "") -> Path:
    """Draw mean squared displacements with a band of one standard error, and the fitted lines in their windows.

    Lines of elements that are not diffusive are dotted. One panel an element, one curve a trajectory, by its name.
    """
    elements = list(next(iter(runs.values())).elements)
    figure = new_figure(5.5 * len(elements), 4)
    for axis, name in zip(np.ravel(figure.subplots(1, len(elements), squeeze=False)), elements, strict=True):
        for label, run in runs.items():
            item = run.elements[name]
            time_ps, axes = item.time_fs / 1000.0, len(run.settings["axes"])
            (curve,) = axis.plot(time_ps, item.msd_ang2, linewidth=1.1, label=label)
            low, high = item.msd_ang2 - item.msd_error_ang2, item.msd_ang2 + item.msd_error_ang2
            axis.fill_between(time_ps, low, high, color=curve.get_color(), alpha=0.25, linewidth=0)
            inside = (item.time_fs >= item.fit_start_fs - 1e-9) & (item.time_fs <= item.fit_stop_fs + 1e-9)
            slope = 2 * axes * item.diffusion_cm2_per_s / CM2_PER_S
            middle = slope * (item.time_fs - item.time_fs[inside].mean()) + item.msd_ang2[inside].mean()
            axis.plot(time_ps[inside], middle[inside], "k--" if item.diffusive else "k:", linewidth=1.0)
        axis.set_xlabel("lag (ps)")
        axis.set_ylabel("MSD (Å²)")
        axis.set_title(name, fontsize="medium")
        axis.legend(fontsize="small")
    figure.suptitle(title)
    return save_figure(figure, path)


def plot_arrhenius(result: DiffusionResult, path: str | Path, title: str = "") -> Path:
    """Draw D with error bars against 1000/T, the lines, and bounds as arrows."""
    figure = new_figure(6, 4)
    axis = figure.subplots()
    for name in result.runs[0].elements:
        points = [(1000.0 / run.temperature_k, run.elements[name]) for run in result.runs if run.temperature_k]
        good = [(x, item) for x, item in points if item.diffusive]
        line = result.arrhenius.get(name)
        label = name
        if line is not None:
            label += f": {line.activation_energy_ev:.3f} ± {line.activation_energy_error_ev:.3f} eV"
        drawn = axis.errorbar(
            [x for x, _ in good],
            [item.diffusion_cm2_per_s for _, item in good],
            [item.error_cm2_per_s for _, item in good],
            fmt="o",
            capsize=3,
            label=label,
        )
        color = drawn.lines[0].get_color()
        if line is not None:
            x = np.linspace(min(x for x, _ in good), max(x for x, _ in good), 50)
            axis.plot(x, [line.diffusion_cm2_per_s(1000.0 / item) for item in x], color=color, linewidth=1.0)
        for x_bound, item in points:
            if item.bound_cm2_per_s:
                axis.plot(x_bound, item.bound_cm2_per_s, "v" if item.bound == "upper" else "^", color=color, mfc="none")
    axis.set_yscale("log")
    axis.set_xlabel("1000 / T (1/K)")
    axis.set_ylabel("D (cm²/s)")
    axis.legend(fontsize="small")
    figure.suptitle(title)
    return save_figure(figure, path)
