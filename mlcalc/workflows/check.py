"""Conformance of an ASE calculator: are its numbers those of one smooth energy, whatever way they are asked for?"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ase import Atoms

from mlcalc.environment import versions
from mlcalc.errors import MlcalcError, WorkflowError
from mlcalc.records import describe_calculator, jsonable
from mlcalc.workflows import _check_derivatives as derivatives
from mlcalc.workflows import _check_dynamics, _check_extent, _check_lammps, _check_smoothness, _check_state
from mlcalc.workflows import _check_sums as sums
from mlcalc.workflows import _check_symmetry as symmetry
from mlcalc.workflows._check_context import Context, Deviation, NotApplicableError, largest
from mlcalc.workflows._check_structures import Structures, default_structures, derive
from mlcalc.workflows._structures import as_atoms

STATUSES = ("pass", "fail", "reported", "not applicable")


@dataclass(frozen=True)
class CheckItem:
    """What one check found.

    Attributes:
        name: of the check.
        measures: what it measures.
        value: the figure nearest to, or farthest beyond, its tolerance, in ``unit``; None if there is none.
        unit: of ``value`` and ``tolerance``.
        tolerance: allowed value; it grows with the noise of the calculator.
        status: one of ``STATUSES``.
        explanation: where that figure was found, or why there is none.
        where_to_look: what is likely wrong, and where, if the check fails.
        deviations: all figures of the check.
        wall_time_s: seconds.
    """

    name: str
    measures: str
    value: float | None
    unit: str
    tolerance: float | None
    status: str
    explanation: str
    where_to_look: str
    deviations: tuple[Deviation, ...]
    wall_time_s: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        values = {field.name: jsonable(getattr(self, field.name)) for field in fields(self)}
        values["deviations"] = [
            {key: jsonable(getattr(item, key)) for key in ("what", "value", "unit", "tolerance")}
            for item in self.deviations
        ]
        return values


@dataclass(frozen=True)
class CheckReport:
    """What all checks of a calculator found.

    Attributes:
        checks: one item a check.
        structures: what it was tested on, by name.
        curves: force errors against the step, NVE runs, scans; for pictures.
        evaluations: structures evaluated.
        wall_time_s: seconds.
        settings: calculator, elements, options, versions.
    """

    checks: tuple[CheckItem, ...]
    structures: dict[str, Atoms]
    curves: dict[str, Any]
    evaluations: int
    wall_time_s: float
    settings: dict[str, Any]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that failed."""
        return tuple(item.name for item in self.checks if item.status == "fail")

    def __getitem__(self, name: str) -> CheckItem:
        """Return the item of a check by name.

        Raises:
            KeyError: no such check.
        """
        for item in self.checks:
            if item.name == name:
                return item
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        values = {field.name: jsonable(getattr(self, field.name)) for field in fields(self)}
        return {"passed": self.passed, "failed": list(self.failed), **values}


@dataclass(frozen=True)
class _Check:
    name: str
    measures: str
    where_to_look: str
    function: Callable[[Context], list[Deviation]]
    judged: bool = True


_CHECKS = (
    _Check(
        "noise",
        "scatter of energy and forces along a line of 0.001 Å",
        "random numbers, threads that race, or sums in half precision",
        derivatives.noise,
    ),
    _Check(
        "forces",
        "forces against central differences of the energy",
        "the derivative of the energy with positions; parts of the energy that forces leave out",
        derivatives.forces,
    ),
    _Check(
        "stress",
        "six components of stress against strained cells",
        "sign, order (xx yy zz yz xz xy), units (eV/Å³), factor 2 of shears, volume",
        derivatives.stress,
    ),
    _Check(
        "atomic energies",
        "sum of energies against energy",
        "per-atom energies leave out a part, such as reference energies",
        sums.atomic_energies,
    ),
    _Check(
        "atomic stresses",
        "sum of stresses against stress",
        "sign or volume of per-atom stresses",
        sums.atomic_stresses,
    ),
    _Check("net force", "sum of forces", "forces that are no derivative, or a field in space", sums.net_force),
    _Check("net torque", "sum of torques on a cluster", "an energy that depends on orientation", sums.net_torque),
    _Check("translation", "all atoms moved", "use of positions where differences belong", symmetry.translation),
    _Check(
        "rotation",
        "atoms and cell turned",
        "a network that is not invariant; frames of the cell that are not turned back",
        symmetry.rotation,
    ),
    _Check(
        "mirror",
        "atoms and cell inverted; some networks are not mirror-symmetric by design",
        "chiral features; left-handed cells",
        symmetry.mirror,
        judged=False,
    ),
    _Check("permutation", "atoms renumbered", "order of atoms, of elements, of types", symmetry.permutation),
    _Check("wrapping", "atoms moved by lattice vectors", "neighbours of atoms outside the cell", symmetry.wrapping),
    _Check(
        "equivalent cells",
        "other lattice vectors of the same lattice",
        "neighbour search in skewed or left-handed cells",
        symmetry.equivalent_cells,
    ),
    _Check("supercell", "crystal doubled", "an energy that is not extensive; neighbours", _check_extent.supercell),
    _Check(
        "images",
        "primitive cell against its 3×3×3 supercell",
        "neighbour search: images beyond the next cell, or the minimum image alone",
        _check_extent.images,
    ),
    _Check("copies", "two clusters far apart", "an energy that is not extensive; normalisation", _check_extent.copies),
    _Check(
        "isolated atoms",
        "one atom alone: finite energy, no force",
        "empty lists of neighbours",
        _check_extent.isolated_atoms,
    ),
    _Check(
        "far atoms",
        "two atoms far apart against each alone",
        "empty lists of neighbours; interactions without a cutoff",
        _check_extent.far_atoms,
    ),
    _Check(
        "smoothness",
        "jumps of energy and forces along scans",
        "cutoff functions: do value and slope go to zero?",
        _check_smoothness.smoothness,
    ),
    _Check(
        "dynamics",
        "NVE at 300 K: drift, and order of the energy's fluctuation in the time step",
        "forces that are no derivative, jumps, stale neighbour lists",
        _check_dynamics.dynamics,
    ),
    _Check(
        "state",
        "results after changes in place against a fresh calculator",
        "what check_state and caches compare; neighbour lists kept too long",
        _check_state.state,
    ),
    _Check(
        "requests",
        "order and repetition of requests",
        "results that one property leaves for another",
        _check_state.order_of_requests,
    ),
    _Check("atoms untouched", "atoms before and after", "wrapping or sorting in place", _check_state.untouched),
    _Check(
        "LAMMPS",
        "LAMMPS on one and two ranks against ASE",
        "mlcalc doctor; mlcalc lammps build --force",
        _check_lammps.lammps,
    ),
)
NAMES = tuple(item.name for item in _CHECKS)


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
        atoms: structure to test on, ASE Atoms or pymatgen Structure, rattled by ``rattle``; by default a crystal, a slab
            and a cluster are made of ``elements``. A structure that is not periodic stands alone, and checks of periodic
            structures do not apply.
        elements: chemical symbols, for the default structures.
        only: names of checks (``mlcalc.workflows.check.NAMES``); all by default.
        rattle: standard deviation of random displacements, Å.
        reach: distance up to which jumps are searched, Å; at least 0.5 Å beyond a known cutoff.
        seed: of displacements, directions and velocities.
        progress: called with (checks done, checks in all, name of the next).

    Raises:
        WorkflowError: no structure and no elements, an unknown check, a structure the calculator refuses, or on which it
            gives no forces at all.
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


def _choose(only: Sequence[str] | None) -> list[_Check]:
    if only is None:
        return list(_CHECKS)
    unknown = [name for name in only if name not in NAMES]
    if unknown:
        raise WorkflowError(f"unknown check {', '.join(unknown)}: choose from {', '.join(NAMES)}")
    return [item for item in _CHECKS if item.name in only]


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
            context.noise[name] = derivatives.measure_noise(context, atoms)
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


def _perform(test: _Check, context: Context) -> CheckItem:
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
