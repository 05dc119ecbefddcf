"""Picture of an energy–volume curve."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlcalc.figures import new_figure, save_figure
from mlcalc.workflows.equation_of_state import EOSResult


def plot_eos(result: EOSResult, path: str | Path, title: str = "") -> Path:
    """Draw energies and the chosen form above, what each form misses below."""
    figure = new_figure(6, 5.5)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    v, e, fit = result.volume_ang3_per_atom, result.energy_ev_per_atom, result.fit
    everything = [*v, fit.volume_ang3_per_atom]
    line = np.linspace(min(everything), max(everything), 200)
    above.plot(line, 1000 * (fit.energy(line) - fit.energy_ev_per_atom), "C0", label=fit.form.replace("_", "–"))
    above.plot(v, 1000 * (e - fit.energy_ev_per_atom), "ko", markersize=4)
    above.axvline(fit.volume_ang3_per_atom, color="0.6", linewidth=0.8, linestyle=":")
    above.set_ylabel("E − E0 (meV/atom)")
    above.legend(
        title=f"V0 {fit.volume_ang3_per_atom:.4f} Å³/atom\nB0 {fit.bulk_modulus_gpa:.2f} GPa\n"
        f"B0' {fit.bulk_modulus_derivative:.3f}"
    )
    for name, other in result.fits.items():
        below.plot(v, 1000 * (e - other.energy(v)), "o-", markersize=3, linewidth=0.8, label=name.replace("_", "–"))
    below.axhline(0.0, color="0.6", linewidth=0.6)
    below.set_xlabel("volume (Å³/atom)")
    below.set_ylabel("residual (meV/atom)")
    below.legend(fontsize=6, ncols=2)
    figure.suptitle(title)
    return save_figure(figure, path)
