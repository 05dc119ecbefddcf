"""Matplotlib figures without its global state."""

from __future__ import annotations

from typing import Any


def new_figure(width: float, height: float) -> Any:
    """Return a Figure of its own, in inches: no pyplot, no backend chosen, nothing to close; loaded on first use."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
