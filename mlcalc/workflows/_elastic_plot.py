"""Picture of a stiffness tensor."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlcalc.figures import new_figure, save_figure
from mlcalc.workflows._elastic_moduli import directional_young
from mlcalc.workflows._elastic_tensors import NAMES
from mlcalc.workflows.elasticity import ElasticResult


def plot_elastic(result: ElasticResult, path: str | Path, title: str = "") -> Path:
    """Draw the stiffness tensor (clamped ions in brackets where they differ) and Young's modulus in three planes."""
    figure = new_figure(10, 4.8)
    left = figure.add_subplot(1, 2, 1)
    tensor, clamped = result.stiffness_gpa, result.clamped_stiffness_gpa
    largest = float(np.abs(tensor).max())
    left.imshow(tensor, cmap="RdBu", vmin=-largest, vmax=largest)
    for (i, j), value in np.ndenumerate(tensor):
        if abs(value) > 0.005 * largest or i == j:
            text = f"{value:.1f}"
            if abs(clamped[i, j] - value) > 0.005 * largest:
                text += f"\n({clamped[i, j]:.1f})"
            left.text(j, i, text, ha="center", va="center", fontsize=8, color="w" if value > 0.6 * largest else "k")
    left.set_xticks(range(6), NAMES)
    left.set_yticks(range(6), NAMES)
    left.set_title("C (GPa), clamped ions in brackets" if not np.allclose(tensor, clamped, atol=0.1) else "C (GPa)")
    right = figure.add_subplot(1, 2, 2, projection="polar" if result.stable else None)
    if result.stable:
        angle = np.linspace(0.0, 2.0 * np.pi, 361)
        for first, second in (("x", "y"), ("x", "z"), ("y", "z")):
            directions = np.zeros((len(angle), 3))
            directions[:, "xyz".index(first)], directions[:, "xyz".index(second)] = np.cos(angle), np.sin(angle)
            right.plot(angle, directional_young(tensor, directions), label=f"{first} to {second}")
        right.set_rlim(bottom=0.0)
        right.set_title("Young's modulus (GPa)")
        right.legend(loc="lower left", bbox_to_anchor=(-0.15, -0.1))
    else:
        right.axis("off")
        right.text(0.5, 0.5, f"unstable:\n{result.modes[0].describe()}", ha="center", color="C3")
    figure.suptitle(title)
    return save_figure(figure, path)
