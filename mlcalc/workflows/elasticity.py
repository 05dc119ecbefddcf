"""The stiffness tensor of a crystal from stresses of strained cells."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.units import GPa
from numpy.typing import NDArray

from mlcalc.errors import NonFiniteError, WorkflowError
from mlcalc.records import Record, describe_calculator, structure_hash
from mlcalc.workflows._elastic_moduli import ElasticModuli, StrainMode, elastic_moduli, strain_modes
from mlcalc.workflows._elastic_tensors import (
    NAMES,
    fit_slopes,
    fit_stiffness,
    invariant_basis,
    needed_strains,
    point_group,
    stress_vector,
    tensor_of,
    to_voigt,
)
from mlcalc.workflows._steps import FinishedSteps
from mlcalc.workflows._structures import as_atoms, moved_like, require_periodic, space_group, without_constraints
from mlcalc.workflows._warnings import WorkflowWarning, warn_of_single_precision
from mlcalc.workflows.relaxation import relax

Array = NDArray[np.float64]
STEPS = "elastic_steps.json"
# Beyond this part of the largest constant a tensor is not to be trusted.
SUSPICIOUS = 0.02


@dataclass(frozen=True)
class ElasticResult(Record):
    """Elastic constants. Voigt's order xx, yy, zz, yz, xz, xy, engineering shear, Cartesian axes of ``atoms``.

    Attributes:
        atoms: the reference, relaxed if that was asked for; the tensors are in its axes.
        stiffness_gpa: (6, 6) with ions relaxed in each strained cell: what an experiment measures.
        clamped_stiffness_gpa: (6, 6) with ions that only follow the strain.
        compliance_per_gpa: (6, 6) inverse of ``stiffness_gpa``.
        moduli: averages over orientations, of ``stiffness_gpa``.
        modes: six eigenmodes of ``stiffness_gpa``, softest first.
        stable: all of them are positive (Born).
        independent_constants: elastic constants that symmetry leaves.
        strains: names of the strains that were applied.
        fit_residual_gpa: largest stress that the fit over amplitudes misses, over the largest amplitude.
        symmetry_residual_gpa: largest difference between measured and symmetrised constants (Mandel's form).
        residual_stress_gpa: (6,) stress of the reference plus the pressure asked for.
        residual_force_ev_per_ang: largest force in the reference.
        converged: the reference is at rest and every ionic relaxation met its criterion.
        spacegroup: of the reference.
        wall_time_s: seconds.
        settings: every option that made this result.
    """

    atoms: Atoms
    stiffness_gpa: Array
    clamped_stiffness_gpa: Array
    compliance_per_gpa: Array
    moduli: ElasticModuli
    modes: tuple[StrainMode, ...]
    stable: bool
    independent_constants: int
    strains: tuple[str, ...]
    fit_residual_gpa: float
    symmetry_residual_gpa: float
    residual_stress_gpa: Array
    residual_force_ev_per_ang: float
    converged: bool
    spacegroup: str | None
    wall_time_s: float
    settings: dict[str, Any]


def elastic(
    atoms: Any,
    calculator: Any,
    *,
    amplitudes: Sequence[float] = (0.002, 0.004, 0.006),
    relax_first: bool = True,
    pressure_gpa: float = 0.0,
    fmax: float = 1e-5,
    stress_tolerance_gpa: float = 0.01,
    symmetry: bool = True,
    symprec: float = 1e-3,
    optimizer: str = "BFGS",
    max_steps: int = 500,
    out: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ElasticResult:
    """Strain the cell both ways along as few directions as symmetry allows; stresses give the stiffness tensor.

    Strains are symmetric tensors ε of Frobenius norm ``amplitudes``, the cell becomes cell·(1 + ε): no rotation. The
    odd part of the Cauchy stress is fitted with a line and, from two amplitudes on, a cubic term. The constants are
    then dσ/dε at the reference: elastic constants at zero stress; under pressure the stress–strain coefficients of
    Wallace (Thermodynamics of Crystals, 1972, ch. 2), which sound and stability obey. With ``out`` every strained cell
    is kept, so that a killed run goes on.

    Args:
        atoms: ASE Atoms or pymatgen Structure; not modified.
        calculator: an ASE calculator with stresses, in double precision.
        amplitudes: norms of the strains, at least one.
        relax_first: relax positions and cell to ``pressure_gpa`` first, symmetry kept.
        pressure_gpa: external pressure of the reference, GPa.
        fmax: of all relaxations, eV/Å. Errors of the constants are larger by about volume⁻¹/amplitude.
        stress_tolerance_gpa: of the reference, GPa.
        symmetry: use it; False strains in all six ways and only makes the tensor symmetric.
        symprec: tolerance of the symmetry search, Å.
        optimizer: of all relaxations, as in ``relax``.
        max_steps: of each.
        out: folder for finished steps.
        progress: called with (strained cells done, strained cells in all).

    Raises:
        WorkflowError: not periodic in three directions, no stresses, bad options, a reference that does not relax, or
            steps of another run in ``out``.
        NonFiniteError: the calculator returned NaN or infinity.

    Warns:
        WorkflowWarning: stress or forces are left in the reference, stresses do not fit a line or the symmetry, the
            crystal is unstable, or the calculator is in single precision.
        ConvergenceWarning: ions did not relax in a strained cell.
    """
    start = time.perf_counter()
    given = as_atoms(atoms)
    require_periodic(given, "an elastic tensor")
    given = without_constraints(given, "an elastic tensor")
    sizes = sorted(float(size) for size in amplitudes)
    if not sizes or len(set(sizes)) < len(sizes) or not (sizes[0] > 0 and sizes[-1] < 0.1):
        raise WorkflowError(f"amplitudes are different strains between 0 and 0.1, got {list(amplitudes)}")
    warn_of_single_precision(calculator, "elastic constants", stacklevel=2)
    search: dict[str, Any] = {"fmax": fmax, "optimizer": optimizer, "max_steps": max_steps}
    described = describe_calculator(calculator)
    options: dict[str, Any] = {
        "amplitudes": sizes,
        "relax_first": relax_first,
        "pressure_gpa": pressure_gpa,
        "stress_tolerance_gpa": stress_tolerance_gpa,
        "symmetry": symmetry,
        "symprec": symprec,
        **search,
    }
    steps = FinishedSteps(out, STEPS, {"structure": structure_hash(given), "calculator": described, **options})
    if not steps.records:
        steps.add(_reference(given, calculator, options, search))
    first = steps.records[0]
    reference = moved_like(given, first["atoms"])
    left = np.array(first["stress_gpa"]) + pressure_gpa * np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    at_rest = _check_rest(left, float(first["force_ev_per_ang"]), stress_tolerance_gpa, fmax)

    basis = invariant_basis(point_group(reference, symprec) if symmetry else [np.eye(3)])
    chosen = needed_strains(basis) if symmetry else tuple(range(6))
    plan = [(strain, size, sign) for strain in chosen for size in sizes for sign in (1, -1)]
    for index in range(len(steps.records) - 1, len(plan)):
        strain, size, sign = plan[index]
        steps.add(_strained(reference, calculator, sign * size * np.eye(6)[strain], search))
        if progress is not None:
            progress(index + 1, len(plan))

    shape = (len(chosen), len(sizes), 2, 6)
    tensors, fit_residual, symmetry_residual = {}, 0.0, 0.0
    for kind in ("clamped", "relaxed"):
        stresses = np.array([stress_vector(record[f"{kind}_gpa"]) for record in steps.records[1:]]).reshape(shape)
        slopes, missed = fit_slopes(np.array(sizes), 0.5 * (stresses[:, :, 0] - stresses[:, :, 1]))
        mandel, asymmetry = fit_stiffness(basis, chosen, slopes)
        tensors[kind] = to_voigt(mandel)
        fit_residual, symmetry_residual = max(fit_residual, missed), max(symmetry_residual, asymmetry)
    modes = strain_modes(tensors["relaxed"])
    result = ElasticResult(
        atoms=reference,
        stiffness_gpa=tensors["relaxed"],
        clamped_stiffness_gpa=tensors["clamped"],
        compliance_per_gpa=np.asarray(np.linalg.inv(tensors["relaxed"]), dtype=np.float64),
        moduli=elastic_moduli(tensors["relaxed"]),
        modes=modes,
        stable=modes[0].stiffness_gpa > 0,
        independent_constants=len(basis),
        strains=tuple(NAMES[index] for index in chosen),
        fit_residual_gpa=fit_residual,
        symmetry_residual_gpa=symmetry_residual,
        residual_stress_gpa=left,
        residual_force_ev_per_ang=float(first["force_ev_per_ang"]),
        converged=at_rest and all(record["converged"] for record in steps.records[1:]),
        spacegroup=space_group(reference, symprec),
        wall_time_s=time.perf_counter() - start,
        settings={"calculator": described, **options},
    )
    _warn(result)
    return result


def _reference(given: Atoms, calculator: Any, options: dict[str, Any], search: dict[str, Any]) -> dict[str, Any]:
    """Relax the reference if asked for, and measure what is left: atoms, stress_gpa, force_ev_per_ang."""
    atoms = given
    _stress(given, calculator, "the structure as given")  # before any long work
    if options["relax_first"]:
        known = options["symmetry"] and space_group(given, options["symprec"]) not in (None, "P1 (1)")
        result = relax(
            given,
            calculator,
            cell="full",
            pressure_gpa=options["pressure_gpa"],
            stress_tolerance_gpa=options["stress_tolerance_gpa"],
            symmetry=known,
            symprec=options["symprec"],
            **search,
        )
        if not result.converged:
            raise WorkflowError(
                f"the reference does not relax: after {result.steps} steps the largest force is "
                f"{result.max_force_ev_per_ang:.3g} eV/Å, the stress {result.max_stress_residual_gpa:.3g} GPa. "
                "Raise max_steps, take another optimizer, or loosen fmax and stress_tolerance_gpa"
            )
        atoms = result.atoms
    stress = _stress(atoms, calculator, "the reference")
    force = np.linalg.norm(_with(atoms, calculator).get_forces(), axis=1).max()
    return {"atoms": atoms, "stress_gpa": stress, "force_ev_per_ang": float(force)}


def _check_rest(left: Array, force: float, stress_tolerance: float, fmax: float) -> bool:
    stress = float(np.abs(left).max())
    if stress > stress_tolerance:
        warnings.warn(
            f"the reference is under a stress of up to {stress:.3g} GPa (tolerance {stress_tolerance:g}): the result "
            "is dσ/dε there, of which an anisotropic stress makes no symmetric tensor. Relax it first.",
            WorkflowWarning,
            stacklevel=3,
        )
    if force > fmax:
        warnings.warn(
            f"the reference is NOT relaxed: forces up to {force:.3g} eV/Å (tolerance {fmax:g}); the clamped-ion tensor "
            "depends on them. Relax it first.",
            WorkflowWarning,
            stacklevel=3,
        )
    return stress <= stress_tolerance and force <= fmax


def _strained(reference: Atoms, calculator: Any, strain: Array, search: dict[str, Any]) -> dict[str, Any]:
    """Stresses, GPa, of a strained cell with clamped and with relaxed ions; ``strain`` is a Mandel vector."""
    atoms = reference.copy()
    atoms.set_cell(reference.cell.array @ (np.eye(3) + tensor_of(strain)), scale_atoms=True)
    clamped = _stress(atoms, calculator, "a strained cell")
    relaxed = relax(atoms, calculator, **search)
    return {
        "clamped_gpa": clamped,
        "relaxed_gpa": _stress(relaxed.atoms, calculator, "a strained cell"),
        "converged": relaxed.converged,
    }


def _with(atoms: Atoms, calculator: Any) -> Atoms:
    copy = atoms.copy()
    copy.calc = calculator
    return copy


def _stress(atoms: Atoms, calculator: Any, what: str) -> Array:
    try:
        stress = np.asarray(_with(atoms, calculator).get_stress(), dtype=np.float64) / GPa
    except PropertyNotImplementedError as error:
        raise WorkflowError("elastic constants need a calculator with stresses: this one has none") from error
    if not np.isfinite(stress).all():
        raise NonFiniteError(f"the calculator returned a NaN or infinite stress for {what}")
    return stress


def _warn(result: ElasticResult) -> None:
    largest = float(np.abs(result.clamped_stiffness_gpa).max())
    for value, text in (
        (
            result.fit_residual_gpa,
            "stresses are no smooth function of the strain (another minimum, or noise?): by",
        ),
        (result.symmetry_residual_gpa, "stresses do not have the symmetry of a stiffness tensor of this crystal: by"),
    ):
        if value > SUSPICIOUS * largest:
            warnings.warn(f"{text} {value:.3g} GPa, with constants up to {largest:.3g}", WorkflowWarning, stacklevel=3)
    for mode in result.modes:
        if mode.stiffness_gpa <= 0:
            warnings.warn(
                f"the crystal is elastically UNSTABLE: stiffness {mode.stiffness_gpa:.3g} GPa against the strain "
                f"({mode.describe()}); averages of the moduli mean nothing",
                WorkflowWarning,
                stacklevel=3,
            )
