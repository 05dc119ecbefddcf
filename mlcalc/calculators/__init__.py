"""Calculators: potentials in the environments people already use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlcalc.calculators.ase import MLCalculator

__all__ = ["MLCalculator"]


def __getattr__(name: str) -> Any:
    # Lazy, so that ASE can list its plugins without loading torch.
    if name == "MLCalculator":
        from mlcalc.calculators.ase import MLCalculator

        return MLCalculator
    raise AttributeError(f"module 'mlcalc.calculators' has no attribute {name!r}")
