"""Relax many structures: together where the calculator can, one by one where it cannot."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, Protocol, cast, overload

from ase import Atoms

from mlcalc.errors import MlcalcError, WorkflowError
from mlcalc.records import describe_calculator
from mlcalc.workflows._batched_optimizers import OPTIMIZERS
from mlcalc.workflows._relax_parts import Criteria, RelaxResult
from mlcalc.workflows._structures import as_atoms
from mlcalc.workflows._warnings import ConvergenceWarning, WorkflowWarning

P = ParamSpec("P")


class TakesLists(Protocol[P]):
    """A function that relaxes one structure, or each of a list."""

    @overload
    def __call__(
        self, atoms: list[Any] | tuple[Any, ...], calculator: Any, *args: P.args, **kwargs: P.kwargs
    ) -> list[RelaxResult]: ...

    @overload
    def __call__(self, atoms: Any, calculator: Any, *args: P.args, **kwargs: P.kwargs) -> RelaxResult: ...


def takes_lists(single: Callable[Concatenate[Any, Any, P], RelaxResult]) -> TakesLists[P]:
    """Return a function that gives lists and tuples to ``relax_many`` and all else to ``single``."""

    @wraps(single)
    def either(atoms: Any, calculator: Any, *args: P.args, **kwargs: P.kwargs) -> Any:
        if not isinstance(atoms, list | tuple):
            return single(atoms, calculator, *args, **kwargs)
        options: dict[str, Any] = {**kwargs}
        if options.pop("trajectory", None) is not None or options.pop("log", None) is not None:
            raise WorkflowError("trajectory and log are files of one structure: relax them one by one, or use progress")
        return relax_many(atoms, calculator, **options)

    return cast(TakesLists[P], either)


def relax_many(
    structures: Sequence[Any],
    calculator: Any,
    *,
    fmax: float = 0.01,
    cell: bool | str | Sequence[bool] = False,
    pressure_gpa: float = 0.0,
    stress_tolerance_gpa: float = 0.05,
    symmetry: bool = False,
    symprec: float = 1e-2,
    optimizer: str = "BFGS",
    max_steps: int = 500,
    progress: Callable[[int, int, float], None] | None = None,
    finished: Callable[[int, RelaxResult], None] | None = None,
) -> list[RelaxResult]:
    """Relax structures of any size and kind; each result is that of ``relax`` for the structure alone.

    With a ``BatchedCalculator``, or an ``MLCalculator`` without ``grade_stop`` and ``deviation_stop``, and BFGS, FIRE
    or LBFGS, structures are evaluated together: ASE's optimisers and its ``FrechetCellFilter``, each structure with
    steps, time steps and history of its own. Who is done leaves, and the next of the list joins. Any other ASE
    calculator or optimiser works through the list one by one.

    A structure that fails (NaN, an unknown element, atoms on top of each other, …) has a result with ``error`` and
    leaves the others alone.

    Args:
        structures: ASE Atoms or pymatgen Structures; not modified. Constraints are kept.
        calculator: a ``BatchedCalculator`` or any ASE calculator.
        fmax: largest allowed force, eV/Å.
        cell: as for ``relax``, the same for all.
        pressure_gpa: external pressure, GPa; needs a free cell.
        stress_tolerance_gpa: largest allowed deviation of the stress from −pressure, GPa.
        symmetry: keep the space groups found at the start.
        symprec: tolerance of the symmetry search, Å.
        optimizer: as for ``relax``.
        max_steps: steps of one structure after which to give it up.
        progress: called with (number of the structure, step, largest force in eV/Å) after each step.
        finished: called with (number of the structure, result) as soon as there is one.

    Returns:
        One result for each structure, in the order given.

    Raises:
        WorkflowError: options that do not fit each other or the calculator.

    Warns:
        ConvergenceWarning: structures that are not converged (numbers given).
        WorkflowWarning: structures that failed, or whose space group changed although it was to be kept.
    """
    options: dict[str, Any] = {
        "fmax": fmax,
        "cell": cell,
        "pressure_gpa": pressure_gpa,
        "stress_tolerance_gpa": stress_tolerance_gpa,
        "symmetry": symmetry,
        "symprec": symprec,
        "optimizer": optimizer,
        "max_steps": max_steps,
    }
    asked = Criteria.read(describe_calculator(calculator), **options)
    batched = _batched(calculator, optimizer, asked)
    results: dict[int, RelaxResult] = {}

    def finish(number: int, result: RelaxResult) -> None:
        results[number] = result
        if finished is not None:
            finished(number, result)

    if batched is None:
        _one_by_one(structures, calculator, options, asked, progress, finish)
    else:
        from mlcalc.workflows._batched_relaxation import Flight

        Flight(batched, asked, OPTIMIZERS[optimizer](), progress, finish).run(structures)
    ordered = [results[number] for number in range(len(structures))]
    _warn(ordered, asked)
    return ordered


def _batched(calculator: Any, optimizer: str, asked: Criteria) -> Any:
    """Return a ``BatchedCalculator`` that does what is asked, None if structures go one by one.

    Raises:
        WorkflowError: a ``BatchedCalculator`` with an optimiser of which there is no batched form, or an unknown one.
    """
    from mlcalc.calculators import BatchedCalculator, MLCalculator
    from mlcalc.workflows.relaxation import optimizer_named

    optimizer_named(optimizer, asked)
    if isinstance(calculator, BatchedCalculator):
        if optimizer not in OPTIMIZERS:
            raise WorkflowError(
                f"optimizer {optimizer!r} has no batched form: choose {', '.join(OPTIMIZERS)}, or give an "
                "MLCalculator, which goes one by one"
            )
        return calculator
    if type(calculator) is not MLCalculator or optimizer not in OPTIMIZERS:
        return None
    if calculator.grade_stop is not None or calculator.deviation_stop is not None:
        return None
    return BatchedCalculator.of(calculator)


def _one_by_one(
    structures: Sequence[Any],
    calculator: Any,
    options: dict[str, Any],
    asked: Criteria,
    progress: Callable[[int, int, float], None] | None,
    finish: Callable[[int, RelaxResult], None],
) -> None:
    from mlcalc.workflows.relaxation import relax

    for number, structure in enumerate(structures):
        tell = None if progress is None else partial(progress, number)
        try:
            with warnings.catch_warnings():
                # Told for all of them together at the end.
                warnings.simplefilter("ignore", WorkflowWarning)
                result = relax(structure, calculator, progress=tell, **options)
        except Exception as error:  # calculators have errors of their own
            result = asked.failure(error, given(structure))
        finish(number, result)


def given(structure: Any) -> Atoms:
    """Return a structure as Atoms for the record of its failure; no atoms if it is none."""
    try:
        return as_atoms(structure)
    except MlcalcError:
        return structure.copy() if isinstance(structure, Atoms) else Atoms()


def _warn(results: Sequence[RelaxResult], asked: Criteria) -> None:
    def told(which: Callable[[RelaxResult], bool]) -> tuple[list[int], str]:
        numbers = [number for number, result in enumerate(results) if which(result)]
        text = ", ".join(f"{k} ({results[k].atoms.get_chemical_formula() or 'no atoms'})" for k in numbers[:5])
        return numbers, text + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")

    failed, text = told(lambda result: result.error is not None)
    if failed:
        warnings.warn(
            f"{len(failed)} of {len(results)} structures FAILED: {text}; the first: {results[failed[0]].error}",
            WorkflowWarning,
            stacklevel=3,
        )
    open_, text = told(lambda result: result.error is None and not result.converged)
    if open_:
        warnings.warn(
            f"{len(open_)} of {len(results)} structures NOT converged: {text}; raise max_steps or try another "
            "optimizer",
            ConvergenceWarning,
            stacklevel=3,
        )
    changed, text = told(asked.lost_symmetry)
    if changed:
        warnings.warn(
            f"{len(changed)} of {len(results)} structures have another space group than the one to keep: {text}; they "
            "gained symmetry, or symprec is too tight or too loose",
            WorkflowWarning,
            stacklevel=3,
        )
