"""Trained neural potentials as ASE calculators and LAMMPS pair styles.

``from mlcalc import MLCalculator, load`` is all that most scripts need; ``check`` tests any ASE calculator. All are
imported on first use, so that ``import mlcalc`` does not load torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlcalc.calculators.ase import MLCalculator
    from mlcalc.workflows import check
    from mlcalc.zoo import load

    __version__: str

__all__ = ["MLCalculator", "__version__", "check", "load"]


def __getattr__(name: str) -> Any:
    if name == "MLCalculator":
        from mlcalc.calculators.ase import MLCalculator

        return MLCalculator
    if name == "load":
        from mlcalc.zoo import load

        return load
    if name == "check":
        from mlcalc.workflows import check

        return check
    if name == "__version__":
        from importlib.metadata import version

        return version("mlcalc")
    raise AttributeError(f"module 'mlcalc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
