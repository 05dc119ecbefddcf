"""What ASE finds through the entry point ``ase.plugins``: ``ase info --plugins`` lists the calculator.

The plugin system of ASE is experimental (``ase._4``, since 3.27) and asks for ``__ase_plugins__`` of this module while
it is itself being imported, hence the attribute made on demand.
"""

from __future__ import annotations

from typing import Any

_plugins: set[Any] = set()


def __getattr__(name: str) -> Any:
    if name != "__ase_plugins__":
        raise AttributeError(f"module 'mlcalc.calculators.ase_plugin' has no attribute {name!r}")
    if not _plugins:
        from ase._4.plugins.plugin import CalculatorPlugin

        _plugins.add(CalculatorPlugin("mlcalc", implementation="mlcalc.calculators.ase.MLCalculator"))
    return _plugins
