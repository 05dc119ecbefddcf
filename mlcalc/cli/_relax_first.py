"""``--relax`` of the commands that go on from a structure: once, and the same structure again after a kill."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any


def relaxed_first(given: Any, calculator: Any, folder: Path) -> Any:
    """Return ``given`` with positions and cell relaxed tightly, its symmetry kept.

    The result is kept in ``folder``: relaxed again, its last digits could differ, and what is done would not fit it.

    Raises:
        WorkflowError: the folder holds the relaxation of another structure or calculator.

    Warns:
        ConvergenceWarning: it did not converge, now or when it was done.
    """
    from mlcalc.records import describe_calculator, structure_hash
    from mlcalc.workflows import ConvergenceWarning, relax
    from mlcalc.workflows._steps import FinishedSteps
    from mlcalc.workflows._structures import moved_like

    options: dict[str, Any] = {"cell": "full", "symmetry": True, "fmax": 1e-4, "stress_tolerance_gpa": 1e-2}
    identity = {"structure": structure_hash(given), "calculator": describe_calculator(calculator), **options}
    name = "relaxed.json"
    steps = FinishedSteps(folder, name, identity)
    if not steps.records:
        result = relax(given, calculator, **options)
        steps.add({"atoms": result.atoms, "converged": result.converged})
    elif not steps.records[0]["converged"]:
        warnings.warn(
            f"the relaxation kept in {folder / name} did NOT converge: delete that file to relax again",
            ConvergenceWarning,
            stacklevel=2,
        )
    return moved_like(given, steps.records[0]["atoms"])
