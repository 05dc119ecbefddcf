"""Relax atoms, and the cell with them, to a local minimum of the energy or enthalpy."""

from __future__ import annotations

import importlib
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ase.optimize
from ase.filters import FrechetCellFilter
from ase.optimize.optimize import Optimizer

from mlcalc.errors import WorkflowError
from mlcalc.records import describe_calculator
from mlcalc.workflows._relax_parts import Criteria, RelaxResult, finite_energy, symmetry_error
from mlcalc.workflows.relax_lists import takes_lists


@takes_lists
def relax(
    atoms: Any,
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
    trajectory: str | Path | None = None,
    log: str | Path | None = None,
    progress: Callable[..., None] | None = None,
) -> RelaxResult:
    """Relax a structure, or a list of them, with any ASE calculator and any of ASE's local optimisers.

    The cell follows ASE's ``FrechetCellFilter`` (log-deformation coordinates, consistent with the energy). A result is
    converged when the largest force is at most ``fmax`` *and*, with a free cell, the stress residual is at most
    ``stress_tolerance_gpa``.

    Args:
        atoms: ASE Atoms or pymatgen Structure; not modified. Constraints on it are kept. A list or tuple of them goes
            to ``relax_many``, which says what differs, and gives a list of results.
        calculator: an ASE calculator; for a list also a ``BatchedCalculator``.
        fmax: largest allowed force, eV/Å.
        cell: False (fixed), ``"full"`` or True (six components), ``"isotropic"`` (volume only), ``"shape"`` (constant
            volume), or six booleans in the order xx, yy, zz, yz, xz, xy.
        pressure_gpa: external pressure, GPa; needs a free cell.
        stress_tolerance_gpa: largest allowed deviation of the stress from −pressure, GPa.
        symmetry: keep the space group found at the start (``ase.constraints.FixSymmetry``).
        symprec: tolerance of the symmetry search, Å.
        optimizer: a name in ``ase.optimize`` or ``"module:Class"``.
        max_steps: steps after which to give up.
        trajectory: ASE ``.traj`` file to write each step to.
        log: text log of the optimiser.
        progress: called with (step, largest force in eV/Å) after each step; for a list with (number of the structure,
            step, largest force).

    Raises:
        WorkflowError: options that do not fit each other or the structure; no symmetry to keep, or a step too large to
            keep it.
        NonFiniteError: the calculator returned NaN or infinity.

    Warns:
        ConvergenceWarning: criteria not met within ``max_steps``.
        WorkflowWarning: the space group was to be kept and is another one afterwards.
    """
    if hasattr(calculator, "new_batch"):
        raise WorkflowError("a BatchedCalculator relaxes lists: give [atoms], or an MLCalculator for one structure")

    start = time.perf_counter()
    asked = Criteria.read(
        describe_calculator(calculator),
        fmax=fmax,
        cell=cell,
        pressure_gpa=pressure_gpa,
        stress_tolerance_gpa=stress_tolerance_gpa,
        symmetry=symmetry,
        symprec=symprec,
        optimizer=optimizer,
        max_steps=max_steps,
    )
    optimizer_class = optimizer_named(optimizer, asked)
    work, before = asked.begin(atoms)
    work.calc = calculator
    with _constraints_unseen():
        initial_energy = finite_energy(work, 0)
    target: Any = work
    if asked.mode is not None:
        # CellAwareBFGS insists on strain coordinates that are not scaled by the number of atoms.
        factor = 1.0 if optimizer_class.__name__ == "CellAwareBFGS" else None
        target = FrechetCellFilter(
            work,
            mask=asked.mask,
            exp_cell_factor=factor,
            hydrostatic_strain=asked.mode == "isotropic",
            constant_volume=asked.mode == "shape",
            scalar_pressure=asked.pressure,
        )

    def done(gradient: Any = None) -> bool:
        return asked.is_met(*asked.residuals(work))

    search = optimizer_class(
        target, logfile=None if log is None else str(log), trajectory=None if trajectory is None else str(trajectory)
    )
    # ASE's criterion mixes forces with a stress scaled by the number of atoms; ours reads the same for every size.
    vars(search)["gradient_converged"] = done

    def observe() -> None:
        finite_energy(work, search.nsteps)
        if progress is not None:
            progress(search.nsteps, asked.residuals(work)[0])

    search.attach(observe)
    try:
        with _constraints_unseen():
            search.run(fmax=0.1 * fmax, steps=max_steps)
    except RuntimeError as error:
        if "FixSymmetry" not in str(error):
            raise
        raise symmetry_error(error, search.nsteps) from error
    result = asked.result(work, before, initial_energy, int(search.nsteps), time.perf_counter() - start)
    asked.warn(result, stacklevel=2)
    return result


@contextmanager
def _constraints_unseen() -> Iterator[None]:
    """Say nothing of constraints that a calculator does not see: they are the optimiser's, not pymatgen's (CHGNet)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Only FixAtoms and FixCartesian is supported by Pymatgen")
        yield


def optimizer_named(name: str, asked: Criteria) -> type[Optimizer]:
    """Return a class of ``ase.optimize`` by its name, or any other by ``module:Class``.

    Raises:
        WorkflowError: there is none, or it does not do what is asked.
    """
    known = [item for item in ase.optimize.__all__ if item != "RestartError"] + ["QuasiNewton"]
    module, _, attribute = name.partition(":")
    if attribute:
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise WorkflowError(f"optimizer {name!r} cannot be imported: {error}") from error
    elif name in known:
        found = getattr(ase.optimize, name)
    else:
        raise WorkflowError(
            f"unknown optimizer {name!r}: choose from {', '.join(sorted(set(known)))}, or 'module:Class'"
        )
    if found.__name__ == "CellAwareBFGS" and asked.mode is None:
        raise WorkflowError("optimizer CellAwareBFGS relaxes cells: give cell='full', or choose another optimizer")
    return found
