"""Warnings of workflows, with a name."""

from __future__ import annotations

import warnings
from typing import Any


class WorkflowWarning(UserWarning):
    """A workflow finished, but its result should not be trusted as it stands."""


class ConvergenceWarning(WorkflowWarning):
    """A search stopped before it met its criterion."""


def warn_of_single_precision(calculator: Any, what: str, stacklevel: int) -> None:
    """Warn, at ``stacklevel`` from the caller, if a calculator says that it computes in float32."""
    told = getattr(calculator, "parameters", None) or {}
    if "float32" in str(told.get("dtype", getattr(calculator, "dtype", ""))):
        warnings.warn(
            f"{what} need a float64 calculator: this one is float32", WorkflowWarning, stacklevel=stacklevel + 1
        )
