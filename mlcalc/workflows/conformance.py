"""Conformance of an ASE calculator: are its numbers those of one smooth energy, whatever way they are asked for?"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from typing import Any

from mlcalc.environment import versions
from mlcalc.errors import MlcalcError, WorkflowError
from mlcalc.records import describe_calculator
from mlcalc.workflows._check_context import Context, Deviation, NotApplicableError, largest
from mlcalc.workflows._check_derivatives import measure_noise
from mlcalc.workflows._check_report import CheckItem, CheckReport
from mlcalc.workflows._check_structures import Structures, default_structures, derive
from mlcalc.workflows._check_table import CHECKS, NAMES, Check
from mlcalc.workflows._structures import as_atoms


def check(
    calculator: Any,
    atoms: Any = None,
    *,
    elements: Sequence[str] | None = None,
    only: Sequence[str] | None = None,
    rattle: float = 0.05,
    reach: float = 12.0,
    seed: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> CheckReport:
    """Test whether a calculator's numbers belong together.

    Energy, forces and stress are compared with each other, with themselves under changes that must not matter, and with
    what they were before changes that must matter. Nothing is said about how well they describe a material. Tolerances
    allow for the measured noise of the calculator, so that one in float32 passes if it is right otherwise.

    Args:
        calculator: any ASE calculator; for ``MLCalculator`` the elements and the cutoff are known.
        atoms: structure to test on, ASE Atoms or pymatgen Structure, rattled by ``rattle``; by default a crystal, a
            slab and a cluster are made of ``elements``. A structure that is not periodic stands alone, and checks of
            periodic structures do not apply.
        elements: chemical symbols, for the default structures.
        only: names of checks (``mlcalc.workflows.CHECK_NAMES``); all by default.
        rattle: standard deviation of random displacements, Å.
        reach: distance up to which jumps are searched, Å; at least 0.5 Å beyond a known cutoff.
        seed: of displacements, directions and velocities.
        progress: called with (checks done, checks in all, name of the next).

    Raises:
        WorkflowError: no structure and no elements, an unknown check, a structure the calculator refuses, or on
            which it gives no forces at all.
    """
    began = time.perf_counter()
    chosen = _choose(only)
    cutoff, known = _declared(calculator)
    if atoms is None:
        symbols = tuple(elements or known)
        if not symbols:
            raise WorkflowError("nothing to test on: give elements (--elements Cu) or a structure (--structure FILE)")
        structures = default_structures(symbols, rattle, seed)
    else:
        structures = derive(as_atoms(atoms), rattle, seed)
    context = _context(calculator, structures, cutoff, reach, seed)
    items = []
    for number, test in enumerate(chosen):

        def tick(number: int = number, name: str = test.name) -> None:
            if progress is not None:
                progress(number, len(chosen), name)

        context.tick = tick
        tick()
        items.append(_perform(test, context))
    if progress is not None:
        progress(len(chosen), len(chosen), "")
    return CheckReport(
        checks=tuple(items),
        structures=context.structures(),
        curves=context.curves,
        evaluations=context.evaluations,
        wall_time_s=time.perf_counter() - began,
        settings={
            "calculator": describe_calculator(calculator),
            "elements": sorted(set(context.cluster.get_chemical_symbols())),
            "only": None if only is None else list(only),
            "rattle": rattle,
            "reach": context.reach,
            "seed": seed,
            "versions": versions(),
        },
    )


def _choose(only: Sequence[str] | None) -> list[Check]:
    if only is None:
        return list(CHECKS)
    unknown = [name for name in only if name not in NAMES]
    if unknown:
        raise WorkflowError(f"unknown check {', '.join(unknown)}: choose from {', '.join(NAMES)}")
    return [item for item in CHECKS if item.name in only]


def _declared(calculator: Any) -> tuple[float | None, tuple[str, ...]]:
    """Return cutoff and elements (one set of a family) where the calculator is ours."""
    from mlcalc.calculators.ase import MLCalculator

    if not isinstance(calculator, MLCalculator):
        return None, ()
    info = calculator.info
    return info.cutoff, tuple(info.element_sets[0] if info.element_sets else info.elements[:2])


def _context(calculator: Any, structures: Structures, cutoff: float | None, reach: float, seed: int) -> Context:
    """Measure the noise on each structure, which also shows whether the calculator takes them."""
    try:
        pristine = copy.deepcopy(calculator)
    except Exception:  # locks, handles, processes: each fails in its own way
        pristine = None
    context = Context(
        calculator=calculator,
        pristine=pristine,
        crystal=structures.crystal,
        small=structures.small,
        slab=structures.slab,
        cluster=structures.cluster,
        spacing=structures.spacing,
        cutoff=cutoff,
        reach=reach if cutoff is None else max(reach, cutoff + 0.5),
        seed=seed,
    )
    forces = 0.0
    for name, atoms in context.structures().items():
        try:
            forces = max(forces, largest(context.numbers(atoms).forces))
            context.noise[name] = measure_noise(context, atoms)
        except MlcalcError as error:
            raise WorkflowError(f"the calculator refuses the {name} {atoms.get_chemical_formula()}: {error}") from error
        except Exception as error:
            raise WorkflowError(
                f"the calculator fails for the {name} {atoms.get_chemical_formula()}: {type(error).__name__}: {error}. "
                "Give elements it knows, or a structure of your own"
            ) from error
    if forces == 0.0:
        raise WorkflowError(
            "the calculator gives no forces on any test structure, so that nothing can be tested: are the atoms beyond "
            "its cutoff? Give a structure of your own"
        )
    return context


def _perform(test: Check, context: Context) -> CheckItem:
    """Run a check; an exception of the calculator is a finding too."""
    began = time.perf_counter()
    deviations: list[Deviation] = []
    try:
        deviations = test.function(context)
    except NotApplicableError as reason:
        status, explanation = "not applicable", str(reason)
    except Exception as error:  # calculators raise what they like; the report says which check and what
        status, explanation = "fail", f"{type(error).__name__}: {' '.join(str(error).split())}"
    else:
        worst = max(deviations, key=lambda item: item.ratio)
        beyond = worst.ratio > 1
        status = ("fail" if beyond else "pass") if test.judged else "reported"
        if test.name == "noise" and not beyond:
            status = "reported"
        explanation = worst.what
    figure = max(deviations, key=lambda item: item.ratio) if deviations else None
    return CheckItem(
        name=test.name,
        measures=test.measures,
        value=figure.value if figure else None,
        unit=figure.unit if figure else "",
        tolerance=figure.tolerance if figure else None,
        status=status,
        explanation=explanation,
        where_to_look=test.where_to_look,
        deviations=tuple(deviations),
        wall_time_s=time.perf_counter() - began,
    )
