"""Picture of a check: error of finite differences against the step, and the energy in dynamics."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlcalc.figures import new_figure, save_figure

if TYPE_CHECKING:
    from mlcalc.workflows._check_report import CheckReport


def plot_check(report: CheckReport, path: str | Path) -> Path:
    """Draw |force − finite difference| (eV/Å) against the step, and the total energy (eV/atom) of the NVE runs."""
    figure = new_figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    forces = report.curves.get("forces", {"step_ang": [], "error_ev_per_ang": {}})
    for name, errors in forces["error_ev_per_ang"].items():
        left.loglog(forces["step_ang"], [max(value, 1e-14) for value in errors], marker=".", label=name)
    left.set_xlabel("step of the central difference (Å)")
    left.set_ylabel("largest error of a force (eV/Å)")
    for name, run in report.curves.get("nve", {}).items():
        right.plot(run["time_ps"], [1000 * value for value in run["total_ev_per_atom"]], linewidth=1.0, label=name)
    right.set_xlabel("time (ps)")
    right.set_ylabel("total energy, from its start (meV/atom)")
    for axis in (left, right):
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize="small")
    return save_figure(figure, path)
