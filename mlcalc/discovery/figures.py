"""Figures of reports, as SVG text; Matplotlib's Figure objects only, no pyplot, no global state left behind."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlcalc.figures import new_figure

INK, SOFT, GRID = "#1b2430", "#5b6675", "#e4e8ee"
BLUE, ORANGE, RED = "#1f6feb", "#e8710a", "#c62828"

# Okabe and Ito's colours, which people with any kind of colour vision can tell apart.
SYSTEMS: dict[str, tuple[int, str]] = {
    "triclinic": (2, "#9aa4b1"),
    "monoclinic": (15, "#cc79a7"),
    "orthorhombic": (74, "#e69f00"),
    "tetragonal": (142, "#56b4e9"),
    "trigonal": (167, "#009e73"),
    "hexagonal": (194, "#0072b2"),
    "cubic": (230, "#d55e00"),
}

#: Upper end of the energy axis, eV per atom above the lowest.
ENERGY_SHOWN = 1.0

_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "axes.edgecolor": "#b6bec9",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "svg.hashsalt": "mlcalc",
}


def crystal_system(number: int | None) -> str:
    """Return the crystal system of a space group number; ``"unknown"`` for None."""
    if number is None:
        return "unknown"
    return next(name for name, (last, _) in SYSTEMS.items() if number <= last)


def mathtext(symbol: str) -> str:
    """Set a Hermann-Mauguin symbol for Matplotlib: overlined rotoinversions, screw axes as subscripts."""
    text = re.sub(r"-(\d)", r"\\bar{\1}", symbol)
    text = re.sub(r"_(\d)", r"_{\1}", text)
    return rf"$\mathregular{{{text}}}$"


def _figure(width: float = 5.6, height: float = 3.5) -> tuple[Figure, Axes]:
    figure = new_figure(width, height)
    axes = figure.subplots()
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.tick_params(length=0)
    return figure, axes


def _legend_above(figure: Figure, axes: Axes, columns: int) -> None:
    """Put the legend where no data can be."""
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=columns, handletextpad=0.3, columnspacing=1.2)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _label(axes: Axes, points: list[tuple[float, float, str]], gap: float = 0.062) -> None:
    """Write names beside points, each at least ``gap`` of the height above the last, with a line to its point."""
    to_fraction = axes.transData + axes.transAxes.inverted()
    placed = sorted((*to_fraction.transform((x, y)), x, y, text) for x, y, text in points)
    columns: dict[int, float] = {}
    for fx, fy, x, y, text in sorted(placed, key=lambda p: p[1]):
        column = 0 if fx < 0.5 else 1
        height = max(fy, columns.get(column, -1.0) + gap)
        columns[column] = height
        beyond = max(p[0] for p in placed if (p[0] >= 0.5) == bool(column)) + 0.05
        axes.annotate(
            text,
            (x, y),
            xytext=(beyond, height),
            textcoords="axes fraction",
            fontsize=9,
            va="center",
            arrowprops={"arrowstyle": "-", "color": "#9aa4b1", "lw": 0.6, "shrinkA": 1, "shrinkB": 4},
        )


def energy_volume(
    volumes: Sequence[float], energies: Sequence[float], groups: Sequence[int | None], labels: dict[int, str]
) -> str:
    """Plot energy above the lowest (eV per atom) over volume per atom (Å³) for relaxed candidates.

    Args:
        volumes: Å³ per atom.
        energies: eV per atom, absolute.
        groups: space group numbers; they give the colour, by crystal system.
        labels: point → Hermann-Mauguin symbol to write beside it.

    Points more than ``ENERGY_SHOWN`` above the lowest lie outside the plot.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _figure()
        v, e = np.asarray(volumes), np.asarray(energies)
        e = e - e.min() if len(e) else e
        systems = [crystal_system(g) for g in groups]
        for name, colour in [*((n, c) for n, (_, c) in SYSTEMS.items()), ("unknown", "#000000")]:
            mine = np.array([s == name for s in systems], bool)
            if mine.any():
                axes.scatter(
                    v[mine], e[mine], s=42, color=colour, alpha=0.85, linewidths=0.7, edgecolors="white", label=name
                )
        top = float(np.clip(e.max(), 0.1, ENERGY_SHOWN)) if len(e) else 1.0
        shown = e <= top
        axes.set_ylim(-0.06 * top, 1.06 * top)
        if shown.any():
            low, high = float(v[shown].min()), float(v[shown].max())
            axes.set_xlim(low - 0.08 * (high - low) - 0.5, high + 0.12 * (high - low) + 1.5)
        _label(axes, [(v[k], e[k], mathtext(text)) for k, text in labels.items() if shown[k]])
        axes.set_xlabel("volume per atom (Å³)")
        axes.set_ylabel("energy above the lowest (eV/atom)")
        _legend_above(figure, axes, columns=4)
        return _svg(figure)


def bands(
    segments: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
    ticks: Sequence[tuple[float, str]],
    dos: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> str:
    """Plot phonon bands (THz) along a path, with the density of states beside them.

    Args:
        segments: (distances (Q,), frequencies (Q, B) in THz) for each unbroken piece of the path.
        ticks: (distance, label) of special points.
        dos: (frequencies, density), drawn on the right.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(5.6, 3.6), layout="constrained")
        if dos is None:
            axes = figure.subplots()
        else:
            axes, side = figure.subplots(1, 2, sharey=True, gridspec_kw={"width_ratios": (4, 1), "wspace": 0.03})
            side.fill_betweenx(dos[0], 0, dos[1], color=BLUE, alpha=0.15, linewidth=0)
            side.plot(dos[1], dos[0], color=BLUE, linewidth=1.2)
            side.set_xlim(left=0)
            side.set_xticks([])
            side.set_xlabel("DOS")
            side.tick_params(length=0)
        for distance, frequencies in segments:
            axes.plot(distance, frequencies, color=BLUE, linewidth=1.3)
            # What is imaginary is drawn below zero, in red, so that nobody misses it.
            axes.plot(distance, np.where(frequencies < -0.05, frequencies, np.nan), color=RED, linewidth=1.8)
        for position, _ in ticks:
            axes.axvline(position, color=GRID, linewidth=0.8, zorder=0)
        axes.axhline(0.0, color="#b6bec9", linewidth=0.8)
        axes.set_xticks([position for position, _ in ticks], [label for _, label in ticks])
        axes.set_xlim(ticks[0][0], ticks[-1][0])
        axes.set_ylabel("frequency (THz)")
        axes.tick_params(length=0)
        axes.grid(True, axis="y", color=GRID, linewidth=0.8)
        return _svg(figure)


def rdf_overlay(curves: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]) -> str:
    """Plot radial distribution functions of several engines over each other.

    Args:
        curves: engine → (distances (B,) in Å, g (B,)).
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _figure()
        looks: list[dict[str, Any]] = [
            {"color": BLUE, "linewidth": 2.6, "alpha": 0.55},
            {"color": ORANGE, "linewidth": 1.3, "linestyle": (0, (4, 2))},
        ]
        for (name, (r, g)), look in zip(curves.items(), looks, strict=False):
            axes.plot(r, g, label=name, **look)
        axes.axhline(1.0, color="#b6bec9", linewidth=0.8, zorder=0)
        axes.set_xlabel("distance (Å)")
        axes.set_ylabel("g(r)")
        axes.set_xlim(1.0, max(float(r[-1]) for r, _ in curves.values()))
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper right")
        return _svg(figure)


def temperatures(curves: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]], target: float) -> str:
    """Plot temperature (K) over time (fs → ps) of several engines."""
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(height=2.2)
        for (name, (time_fs, kelvin)), colour in zip(curves.items(), (BLUE, ORANGE), strict=False):
            axes.plot(time_fs / 1000.0, kelvin, color=colour, linewidth=1.1, label=name)
        axes.axhline(target, color=SOFT, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.set_xlabel("time (ps)")
        axes.set_ylabel("temperature (K)")
        axes.margins(x=0)
        _legend_above(figure, axes, columns=2)
        return _svg(figure)
