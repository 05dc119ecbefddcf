"""Pictures of a training run: parity plots and the learning curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase.units import GPa
from matplotlib.axes import Axes
from numpy.typing import NDArray

from mlcalc.figures import new_figure, save_figure
from mlcalc.training.extrapolation import calibration, grades_and_errors
from mlcalc.training.metrics import Predictions

_COLOURS = {"training": "#9aa5b1", "validation": "#0b6e99", "test": "#b3541e"}


def _parity(axes: Axes, pairs: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]], title: str) -> None:
    values = np.concatenate([np.concatenate(p) for p in pairs.values()] or [np.zeros(1)])
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    margin = 0.04 * (high - low or 1.0)
    axes.plot([low - margin, high + margin], [low - margin, high + margin], color="#333333", lw=0.8, zorder=3)
    for name, (label, value) in pairs.items():
        if len(label):
            rmse = np.sqrt(np.mean((label - value) ** 2))
            text = f"{name}: RMSE {rmse:.3g}"
            axes.plot(label, value, ".", ms=3, alpha=0.6, color=_COLOURS.get(name, "#b35900"), label=text, mew=0)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("reference")
    axes.set_ylabel("potential")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7, frameon=False)
    axes.set_aspect("equal", adjustable="datalim")


def parity_plot(predictions: dict[str, Predictions], path: str | Path) -> None:
    """Plot energy per atom, force components and stress components against their labels, one colour per data set."""
    figure = new_figure(11, 3.9)
    energy, force, stress = figure.subplots(1, 3)
    pairs: tuple[dict[str, Any], ...] = ({}, {}, {})
    for name, p in predictions.items():
        sizes = np.array([len(d.atoms) for d in p.data])
        pairs[0][name] = (np.array([d.energy for d in p.data]) / sizes, p.energies / sizes)
        pairs[1][name] = (
            np.concatenate([d.forces.ravel() for d in p.data]),
            np.concatenate([f.ravel() for f in p.forces]),
        )
        both = [
            (d.stress / GPa, s / GPa)
            for d, s in zip(p.data, p.stresses, strict=True)
            if d.stress is not None and s is not None
        ]
        pairs[2][name] = (
            np.concatenate([a.ravel() for a, _ in both]) if both else np.zeros(0),
            np.concatenate([b.ravel() for _, b in both]) if both else np.zeros(0),
        )
    _parity(energy, pairs[0], "energy (eV/atom)")
    _parity(force, pairs[1], "force component (eV/Å)")
    _parity(stress, pairs[2], "stress component (GPa)")
    save_figure(figure, path)


def learning_curve(history: list[dict[str, Any]], path: str | Path) -> None:
    """Plot RMSEs of validation and training against the epoch, from the rows of the log."""
    figure = new_figure(7, 3.4)
    left, right = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    for axes, key, label in (
        (left, "energy_rmse_mev_per_atom", "energy RMSE (meV/atom)"),
        (right, "forces_rmse_ev_per_ang", "force RMSE (eV/Å)"),
    ):
        axes.semilogy(
            epochs, [row[f"train_{key}"] for row in history], color=_COLOURS["training"], label="training, live"
        )
        axes.semilogy(epochs, [row[key] for row in history], color=_COLOURS["validation"], label="validation, averaged")
        axes.set_xlabel("epoch")
        axes.set_title(label, fontsize=10)
    left.legend(fontsize=7, frameon=False)
    save_figure(figure, path)


def grade_plot(predictions: Predictions, path: str | Path) -> None:
    """Plot force errors of atoms against their extrapolation grades, with the RMS in bins of equally many atoms."""
    found = calibration(predictions)
    assert found is not None
    grades, squares = grades_and_errors(predictions)
    figure = new_figure(5, 3.6)
    axes = figure.subplots()
    errors = np.sqrt(squares)
    axes.loglog(grades, np.maximum(errors, 1e-6), ".", ms=3, mew=0, alpha=0.4, color=_COLOURS["training"])
    axes.loglog(
        found["grade"], found["forces_rmse_ev_per_ang"], "o-", color=_COLOURS["validation"], label="RMS in bins"
    )
    axes.axvline(1.0, color="#333333", lw=0.8, ls="--", label="farthest in training")
    rank = found["rank_correlation"]
    axes.set_title("" if rank is None else f"rank correlation {rank:.2f}", fontsize=10)
    axes.set_xlabel("extrapolation grade")
    axes.set_ylabel("force error (eV/Å)")
    axes.legend(fontsize=7, frameon=False)
    save_figure(figure, path)
