"""Matplotlib figures without its global state."""

from __future__ import annotations

import io
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


def palette_png(figure: Any) -> bytes:
    """Return a figure as PNG of 256 colours: a fraction of the bytes; gradients become steps."""
    from PIL import Image

    whole, small = io.BytesIO(), io.BytesIO()
    figure.savefig(whole, format="png", dpi=150)
    Image.open(whole).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE).save(small, format="png", optimize=True)
    return small.getvalue()
