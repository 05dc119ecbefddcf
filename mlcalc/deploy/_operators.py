"""Registering the operators that a program calls, before it is loaded."""

from __future__ import annotations

from typing import Any

from mlcalc.ops import fused


def register(document: dict[str, Any]) -> bool:
    """Register the operators of a model file, if it has any; return whether it can run: compiled programs want C++."""
    if not document.get("operators"):
        return True
    return fused() or document.get("program") != "aotinductor"
