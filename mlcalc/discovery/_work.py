"""What happens to one candidate, in a worker process or in this one."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import ase.io.jsonio
import numpy as np
from ase import Atoms

from mlcalc.crystals import closest_neighbors, closest_pair, find_space_group

if TYPE_CHECKING:
    from mlcalc.workflows import RelaxResult

_calculator: Any = None


def start_worker(factory: Callable[[], Any]) -> None:
    """Build the calculator once a process; one thread each, since workers share the cores."""
    global _calculator
    import torch

    torch.set_num_threads(1)
    _calculator = factory()


def work(index: int, atoms: Atoms, settings: dict[str, Any]) -> dict[str, Any]:
    """Relax one candidate with this process's calculator; whatever goes wrong becomes part of the record."""
    return relax_one(index, atoms, settings, _calculator)


def relax_together(
    structures: Sequence[Atoms],
    calculator: Any,
    settings: dict[str, Any],
    finished: Callable[[int, RelaxResult], None],
    *,
    symmetry: bool = False,
) -> None:
    """Relax structures and cells as settings say, in one go where the calculator can.

    Args:
        structures: periodic.
        calculator: an ASE calculator, or a ``BatchedCalculator``.
        settings: options of a funnel or of references by name.
        finished: gets the position and the result of each, also of those that failed.
        symmetry: keep the symmetry that each has at ``symprec``.
    """
    from mlcalc.workflows import WorkflowWarning, relax_many

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WorkflowWarning)  # what failed is in the results, with reasons
        relax_many(
            structures,
            calculator,
            **_criteria(settings),
            symmetry=symmetry,
            symprec=settings["symprec"],
            finished=finished,
        )


def check(atoms: Atoms, min_distance: float) -> str | None:
    """Say what is wrong with a structure, None if nothing is."""
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        return "positions or cell not finite"
    if atoms.cell.rank < 3 or not atoms.pbc.all():
        return "not periodic in three directions"
    pair = closest_pair(atoms, min_distance)
    return "atoms too close" if pair else None


def relax_one(index: int, atoms: Atoms, settings: dict[str, Any], calculator: Any) -> dict[str, Any]:
    """Return the record of one candidate: ``status`` ok or failed, ``stage`` where it ended, ``reason``."""
    from mlcalc.workflows import relax

    start = time.perf_counter()
    record: dict[str, Any] = {"index": index, "stage": "validity", "status": "failed"}
    problem = check(atoms, settings["min_distance"])
    if problem:
        return {**record, "reason": problem, "wall_time_s": time.perf_counter() - start}
    record["stage"] = "relaxation"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # non-convergence is recorded below, with its numbers
            result = relax(atoms, calculator, **_criteria(settings))
    except Exception as error:
        # One bad structure must not end a campaign; the error is named in the record and counted.
        reason = type(error).__name__
        return {**record, "reason": reason, "message": str(error)[:500], "wall_time_s": time.perf_counter() - start}
    return {**record_of(result, settings, calculator), "index": index, "wall_time_s": time.perf_counter() - start}


def _criteria(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a relaxation that a funnel and references share."""
    names = ("fmax", "pressure_gpa", "stress_tolerance_gpa", "max_steps")
    return {"cell": "full", **{name: settings[name] for name in names}}


def record_of(result: RelaxResult, settings: dict[str, Any], calculator: Any) -> dict[str, Any]:
    """Return the record of a relaxation, one of many, whatever became of it."""
    record: dict[str, Any] = {"stage": "relaxation", "status": "failed", "steps": result.steps}
    if result.error is not None:
        return {**record, "reason": result.error.split(":")[0], "message": result.error[:500]}
    if not result.converged:
        message = f"largest force {result.max_force_ev_per_ang:.3g} eV/Å after {result.steps} steps"
        return {**record, "reason": "not converged", "message": message}
    return judge(record, result, settings, calculator)


def judge(record: dict[str, Any], result: RelaxResult, settings: dict[str, Any], calculator: Any) -> dict[str, Any]:
    """Complete the record of a relaxation that went well: its numbers, and whether to trust them."""
    problem = check(result.atoms, settings["min_distance"])
    if problem:
        return {**record, "reason": f"{problem} after relaxation"}
    found = find_space_group(result.atoms, settings["symprec"])
    per_atom = result.energy_ev / len(result.atoms)
    relaxed = result.atoms.copy()
    relaxed.info = {}
    graded = "extrapolation_grades" in getattr(calculator, "implemented_properties", ())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it would warn of is decided here
        grade = float(calculator.get_property("extrapolation_grades", relaxed).max()) if graded else None
    record = {
        **record,
        "energy_ev": result.energy_ev,
        "enthalpy_ev": result.enthalpy_ev,
        "space_group": found.number if found else None,
        "space_group_symbol": found.symbol if found else None,
        "grade": grade,
        "atoms": ase.io.jsonio.encode(relaxed),
    }
    limit = settings["largest_grade"]
    if grade is not None and limit is not None and grade > limit:
        message = f"grade {grade:.2f} of an atom, above {limit:g}; {per_atom:.3f} eV/atom"
        return {**record, "stage": "trust", "reason": "beyond the training data", "message": message}
    trusted = np.array(settings["trusted_neighbors_ang"])
    missing = trusted - closest_neighbors([result.atoms], len(trusted))
    if (missing > 0).any():
        k = int(missing.argmax())
        return {
            **record,
            "stage": "trust",
            "reason": "more crowded than the training data",
            "message": f"neighbour {k + 1} of an atom {missing[k]:.3f} Å closer than ever in training; "
            f"{per_atom:.3f} eV/atom",
        }
    return {**record, "status": "ok"}
