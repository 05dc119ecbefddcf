"""Calculators: potentials in the environments people already use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlcalc.calculators.ase import MLCalculator
    from mlcalc.calculators.dispersion import Dispersion
    from mlcalc.calculators.remote import RemoteCalculator

__all__ = ["Dispersion", "MLCalculator", "RemoteCalculator"]


def __getattr__(name: str) -> Any:
    # Lazy, so that ASE can list its plugins without loading torch.
    if name == "MLCalculator":
        from mlcalc.calculators.ase import MLCalculator

        return MLCalculator
    if name == "Dispersion":
        from mlcalc.calculators.dispersion import Dispersion

        return Dispersion
    if name == "RemoteCalculator":
        from mlcalc.calculators.remote import RemoteCalculator

        return RemoteCalculator
    raise AttributeError(f"module 'mlcalc.calculators' has no attribute {name!r}")
