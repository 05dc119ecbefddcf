"""Thermal conductivity of a crystal's lattice from three-phonon scattering, with phono3py and any ASE calculator."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from phonopy.structure.cells import PrimitiveMatrixAutoDefaultWarning

from mlcalc.errors import WorkflowError
from mlcalc.records import Record, describe_calculator, jsonable
from mlcalc.workflows._displacements import phonopy_cell, residual_force, supercell_repeats
from mlcalc.workflows._heat_solver import PARAMETERS, fit, load_phono3py, solve, thinned
from mlcalc.workflows._structures import as_atoms, require_periodic, space_group, without_constraints
from mlcalc.workflows._warnings import ConvergenceWarning, WorkflowWarning

METHODS = ("rta", "lbte")


@dataclass(frozen=True)
class HeatResult(Record):
    """Lattice thermal conductivity.

    Attributes:
        temperature_k: (T,) K.
        kappa_w_per_m_k: (T, 3, 3) tensors, W/(m K).
        mesh: q-points along each axis.
        coarse_mesh: the coarser mesh that it was compared with; None without ``check_mesh``.
        coarse_kappa_w_per_m_k: (T, 3, 3) on that mesh; None without.
        mesh_change: largest relative difference of the mean of the diagonal between both meshes; None without.
        min_frequency_thz: lowest on the mesh (negative: imaginary).
        dynamically_stable: no imaginary modes beyond the tolerance.
        residual_force_ev_per_ang: largest force in the structure as given.
        converged: that force, and the mesh, are within their tolerances, and all modes are real. None of it says that
            the supercell is large enough.
        drift_force_ev_per_ang: largest mean force over a displaced supercell, removed before fitting.
        spacegroup: of the structure as given.
        displacements: displaced supercells.
        files: names to paths, empty without ``out``.
        wall_time_s: seconds.
        settings: every option that made this result.
        phono3py: the Phono3py object, for anything else.
    """

    temperature_k: NDArray[np.float64]
    kappa_w_per_m_k: NDArray[np.float64]
    mesh: tuple[int, int, int]
    coarse_mesh: tuple[int, int, int] | None
    coarse_kappa_w_per_m_k: NDArray[np.float64] | None
    mesh_change: float | None
    min_frequency_thz: float
    dynamically_stable: bool
    residual_force_ev_per_ang: float
    converged: bool
    drift_force_ev_per_ang: float
    spacegroup: str | None
    displacements: int
    files: dict[str, Path]
    wall_time_s: float
    settings: dict[str, Any]
    phono3py: Any = field(repr=False, compare=False)

    unsaved: ClassVar[tuple[str, ...]] = ("phono3py",)


def heat_conduction(
    atoms: Any,
    calculator: Any,
    *,
    supercell: Sequence[int] | None = None,
    min_length: float = 10.0,
    displacement: float = 0.03,
    pair_cutoff: float | None = None,
    primitive_matrix: str | Sequence[Sequence[float]] = "auto",
    mesh: float | Sequence[int] = 50.0,
    check_mesh: bool = True,
    mesh_tolerance: float = 0.1,
    temperatures_k: Sequence[float] = (100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 700.0, 800.0, 900.0, 1000.0),
    method: str = "rta",
    isotope: bool = False,
    imaginary_tolerance_thz: float = 0.1,
    force_tolerance: float = 1e-3,
    symprec: float = 1e-4,
    out: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> HeatResult:
    """Displace atoms in pairs, fit second- and third-order force constants, solve the phonon Boltzmann equation.

    Togo, Chaput & Tanaka, Phys. Rev. B 91, 094306 (2015); tetrahedron method. With ``out``, forces are kept after every
    displacement, so that a killed run goes on.

    Args:
        atoms: relaxed structure, ASE Atoms or pymatgen Structure; not modified.
        calculator: an ASE calculator, in double precision.
        supercell: repetitions along each axis; None chooses the fewest that make every height of the supercell at
            least ``min_length``.
        min_length: Å.
        displacement: Å.
        pair_cutoff: pairs farther apart than this are not displaced, and their third-order constants are left at
            zero, Å; None takes all.
        primitive_matrix: phonopy's: ``"auto"``, ``"P"``, ``"F"``, …, or a matrix.
        mesh: q-points along each axis, or phonopy's length measure, Å.
        check_mesh: solve on a mesh of two thirds, too, and report the change.
        mesh_tolerance: largest relative change without a warning.
        temperatures_k: positive, K.
        method: ``"rta"`` (relaxation time approximation) or ``"lbte"`` (full linearised equation; more memory).
        isotope: scatter at isotopes of natural abundance, too.
        imaginary_tolerance_thz: modes below minus this are called imaginary.
        force_tolerance: largest force the given structure may have without a warning, eV/Å.
        symprec: tolerance of the symmetry search, Å.
        out: folder for forces and ``phono3py_params.yaml``.
        progress: called with (displacements done, displacements in all).

    Raises:
        WorkflowError: phono3py is not installed, not periodic, bad options, forces of another run in ``out``, or a
            supercell in which third-order constants vanish.
        NonFiniteError: the calculator returned NaN or infinity.

    Warns:
        WorkflowWarning: the structure is not relaxed, modes are imaginary, constraints are left out, or the calculator
            is in single precision.
        ConvergenceWarning: the mesh is too coarse.
    """
    start = time.perf_counter()
    kind = load_phono3py()
    cell = as_atoms(atoms)
    require_periodic(cell, "lattice thermal conductivity")
    cell = without_constraints(cell, "lattice thermal conductivity")
    temperatures = np.atleast_1d(np.asarray(temperatures_k, dtype=np.float64))
    _check(displacement, pair_cutoff, temperatures, method, mesh)
    repeats = supercell_repeats(cell, supercell, min_length)
    residual = residual_force(cell, calculator, force_tolerance, "third derivatives")
    with warnings.catch_warnings():
        # phonopy 4 warns that "auto" differs from its version 3, even where "auto" was asked for.
        warnings.simplefilter("ignore", PrimitiveMatrixAutoDefaultWarning)
        solver = kind(
            phonopy_cell(cell),
            supercell_matrix=np.diag(repeats),
            primitive_matrix=primitive_matrix,
            symprec=symprec,
        )
    coarser = thinned(solver, mesh) if check_mesh else None
    drift, count = fit(solver, cell, calculator, repeats, displacement, pair_cutoff, symprec, out, progress)

    coarse = coarse_mesh = change = None
    if coarser is not None:
        coarse, coarse_mesh = solve(solver, coarser, temperatures, method, isotope)
    kappa, fine_mesh = solve(solver, mesh, temperatures, method, isotope)
    if coarse is not None:
        ours, theirs = (np.trace(item, axis1=1, axis2=2) for item in (kappa, coarse))
        change = float(np.abs(theirs / ours - 1.0).max())
    lowest = float(np.min(solver.get_phonon_data()[0]))
    result = HeatResult(
        temperature_k=temperatures,
        kappa_w_per_m_k=kappa,
        mesh=fine_mesh,
        coarse_mesh=coarse_mesh,
        coarse_kappa_w_per_m_k=coarse,
        mesh_change=change,
        min_frequency_thz=lowest,
        dynamically_stable=lowest >= -imaginary_tolerance_thz,
        residual_force_ev_per_ang=residual,
        converged=residual <= force_tolerance
        and lowest >= -imaginary_tolerance_thz
        and change is not None
        and change <= mesh_tolerance,
        drift_force_ev_per_ang=drift,
        spacegroup=space_group(cell, symprec),
        displacements=count,
        files={} if out is None else {PARAMETERS: Path(out) / PARAMETERS},
        wall_time_s=time.perf_counter() - start,
        settings={
            "calculator": describe_calculator(calculator),
            "supercell": repeats,
            "displacement": displacement,
            "pair_cutoff": pair_cutoff,
            "primitive_matrix": jsonable(primitive_matrix),
            "mesh": jsonable(mesh),
            "check_mesh": check_mesh,
            "mesh_tolerance": mesh_tolerance,
            "temperatures_k": temperatures.tolist(),
            "method": method,
            "isotope": isotope,
            "imaginary_tolerance_thz": imaginary_tolerance_thz,
            "force_tolerance": force_tolerance,
            "symprec": symprec,
        },
        phono3py=solver,
    )
    if not result.dynamically_stable:
        warnings.warn(
            f"imaginary modes, down to {lowest:.3g} THz: the structure is dynamically unstable, not relaxed, or the "
            "supercell is too small. They are left out of the conductivity, which then means nothing",
            WorkflowWarning,
            stacklevel=2,
        )
    if change is not None and change > mesh_tolerance:
        warnings.warn(
            f"the conductivity is NOT converged with the mesh: {coarse_mesh} and {fine_mesh} differ by "
            f"{100 * change:.0f} % (wanted {100 * mesh_tolerance:g} %). Use a denser mesh",
            ConvergenceWarning,
            stacklevel=2,
        )
    return result


def _check(displacement: float, pair_cutoff: float | None, temperatures: Any, method: str, mesh: Any) -> None:
    if not displacement > 0:
        raise WorkflowError(f"displacement must be positive, got {displacement!r}")
    if pair_cutoff is not None and not pair_cutoff > 0:
        raise WorkflowError(f"pair_cutoff must be positive, got {pair_cutoff!r}")
    if not len(temperatures) or not (temperatures > 0).all():
        raise WorkflowError(f"temperatures_k must be positive, got {temperatures.tolist()}")
    if method not in METHODS:
        raise WorkflowError(f"unknown method {method!r}: choose from {', '.join(METHODS)}")
    if np.ndim(mesh) not in (0, 1) or np.size(mesh) not in (1, 3) or not (np.asarray(mesh) > 0).all():
        raise WorkflowError(f"mesh is a length in Å or three positive integers, got {mesh!r}")
