"""Small plots as SVG elements that take their colours from the page they stand in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

Pixel = tuple[float, float]


def drawing(width: float, height: float, label: str, parts: Iterable[str]) -> Markup:
    """Return an ``svg`` element; ``label`` says what it shows to those who do not see it."""
    return Markup('<svg viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">{}</svg>').format(
        width, height, label, Markup("").join(parts)
    )


def text(at: Pixel, words: str, anchor: str = "start", turned: bool = False) -> Markup:
    """Return words at a place: ``start``, ``middle`` or ``end`` of them; ``turned`` by a quarter to the left."""
    turn = Markup(' transform="rotate(-90 {:.1f} {:.1f})"').format(*at) if turned else ""
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}"{}>{}</text>').format(*at, anchor, turn, words)


def line(points: Iterable[Pixel], style: str) -> Markup:
    """Return a line through points, of a class of the style sheet."""
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return Markup('<polyline class="{}" points="{}"/>').format(style, joined)


def minus(value: float) -> str:
    """Write a tick: as short as it is exact, with a real minus sign."""
    return f"{round(value, 10) + 0.0:g}".replace("-", "−")


@dataclass(frozen=True)
class Axes:
    """A rectangle of pixels with two linear axes.

    Attributes:
        x: lowest and highest value from left to right.
        y: from bottom to top.
        width: of the whole picture, pixels, and ``height``.
        margins: left, right, top, bottom.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    width: float = 640.0
    height: float = 380.0
    margins: tuple[float, float, float, float] = (64.0, 16.0, 34.0, 46.0)

    def at(self, x: float, y: float) -> Pixel:
        """Return the pixel of a point."""
        left, right, top, bottom = self.margins
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return left + across * (self.width - left - right), self.height - bottom - up * (self.height - top - bottom)

    def frame(self, x_label: str, y_label: str, x_ticks: Sequence[tuple[float, str]] | None = None) -> list[Markup]:
        """Return grid, ticks and labels; ``x_ticks`` are (value, words) instead of round numbers."""
        parts = []
        _, _, top, bottom = self.margins
        low = self.height - bottom
        for y in _round(self.y):
            parts += [line([self.at(self.x[0], y), self.at(self.x[1], y)], "grid")]
            parts += [text((self.margins[0] - 8, self.at(0, y)[1] + 4), minus(y), "end")]
        for x, words in x_ticks or [(x, minus(x)) for x in _round(self.x)]:
            parts.append(text((self.at(x, 0)[0], low + 18), words, "middle"))
        if self.y[0] < 0 < self.y[1]:
            parts.append(line([self.at(self.x[0], 0), self.at(self.x[1], 0)], "zero"))
        parts.append(text((self.at(sum(self.x) / 2, 0)[0], self.height - 6), x_label, "middle"))
        parts.append(text((16, (top + low) / 2), y_label, "middle", turned=True))
        return parts


def _round(span: tuple[float, float]) -> list[float]:
    ticks = np.asarray(MaxNLocator(6).tick_values(*span))
    slack = 1e-9 * (span[1] - span[0])
    return [float(tick) for tick in ticks if span[0] - slack <= tick <= span[1] + slack]
