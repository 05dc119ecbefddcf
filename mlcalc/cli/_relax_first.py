"""``--relax`` of the commands that sample volumes: once, and the same structure again after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def relaxed_first(given: Any, calculator: Any, folder: Path) -> Any:
    """Return ``given`` with positions and cell relaxed tightly, its symmetry kept.

    The result is kept in ``folder``: relaxed again, its last digits could differ, and what is done would not fit it.

    Raises:
        WorkflowError: the folder holds the relaxation of another structure or calculator.
    """
    from ase import Atoms

    from mlcalc.records import describe_calculator, structure_hash
    from mlcalc.workflows import relax
    from mlcalc.workflows._steps import FinishedSteps

    options: dict[str, Any] = {"cell": "full", "symmetry": True, "fmax": 1e-4, "stress_tolerance_gpa": 1e-2}
    identity = {"structure": structure_hash(given), "calculator": describe_calculator(calculator), **options}
    steps = FinishedSteps(folder, "relaxed.json", identity)
    if not steps.records:
        steps.add({"atoms": relax(given, calculator, **options).atoms})
    atoms = Atoms(**steps.records[0]["atoms"])
    atoms.set_masses(given.get_masses())
    return atoms
