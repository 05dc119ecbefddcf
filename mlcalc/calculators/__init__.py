"""Calculators: potentials in the environments people already use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlcalc.calculators.ase import MLCalculator
    from mlcalc.calculators.batched import BatchedCalculator, BatchedResult
    from mlcalc.calculators.dispersion import Dispersion
    from mlcalc.calculators.remote import RemoteCalculator

__all__ = ["BatchedCalculator", "BatchedResult", "Dispersion", "MLCalculator", "RemoteCalculator"]

_MODULES = {
    "BatchedCalculator": "batched",
    "BatchedResult": "batched",
    "Dispersion": "dispersion",
    "MLCalculator": "ase",
    "RemoteCalculator": "remote",
}


def __getattr__(name: str) -> Any:
    # Lazy, so that ASE can list its plugins without loading torch.
    if name in _MODULES:
        return getattr(importlib.import_module(f"mlcalc.calculators.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'mlcalc.calculators' has no attribute {name!r}")
