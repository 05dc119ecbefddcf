"""What people write on the command line about the crystals they want."""

from __future__ import annotations

from typing import Any, Optional

import typer


def span(text: Optional[str], kind: type, name: str) -> Optional[tuple[Any, Any]]:
    """Read ``LOW-HIGH``, ``LOW:HIGH`` (also of negative numbers) or one number."""
    if text is None:
        return None
    parts = text.split(":") if ":" in text or text.startswith("-") else text.split("-")
    try:
        low, high = (kind(parts[0]), kind(parts[-1]))
    except ValueError:
        raise typer.BadParameter(f"{text!r}: give LOW-HIGH, e.g. 1-8", param_hint=name) from None
    if len(parts) > 2:
        raise typer.BadParameter(f"{text!r}: give LOW-HIGH, e.g. 1-8", param_hint=name)
    return low, high


def symbols(text: Optional[str]) -> tuple[str, ...]:
    """Read ``Li,Mn,O``."""
    return tuple(e.strip() for e in text.split(",")) if text else ()


def numbers(text: Optional[str], name: str) -> tuple[int, ...]:
    """Read ``227,194``."""
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise typer.BadParameter(f"{text!r}: give numbers, e.g. 227,194", param_hint=name) from None


def aims(texts: Optional[list[str]]) -> dict[str, tuple[float, float]]:
    """Read ``NAME=LOW:HIGH``, several of them."""
    found: dict[str, tuple[float, float]] = {}
    for text in texts or []:
        label, equals, ends = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"{text!r}: give NAME=LOW:HIGH, e.g. dir_gap=1:3", param_hint="--target")
        found[label] = span(ends, float, "--target") or (0.0, 0.0)
    return found
