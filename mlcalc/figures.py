"""Matplotlib figures without its global state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlcalc.files import atomic_path


def new_figure(width: float, height: float) -> Any:
    """Return a Figure of its own, in inches: no pyplot, no backend chosen, nothing to close; loaded on first use."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: str | Path) -> Path:
    """Write a figure atomically, in the format that the name ends in, else PNG, and return the path."""
    path = Path(path)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix.removeprefix(".") or "png", dpi=150)
    return path
