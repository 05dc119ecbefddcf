"""Harmonic phonons by finite displacements, with phonopy and any ASE calculator."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from phonopy import Phonopy
from phonopy.file_IO import write_FORCE_SETS
from phonopy.structure.cells import PrimitiveMatrixAutoDefaultWarning

from mlcalc.errors import WorkflowError
from mlcalc.records import Record, describe_calculator, jsonable, structure_hash
from mlcalc.workflows._displacements import displacement_forces, phonopy_cell, residual_force, supercell_repeats
from mlcalc.workflows._phonon_analysis import (
    Bands,
    ImaginaryMode,
    PhononDOS,
    ThermalProperties,
    analyse_phonons,
)
from mlcalc.workflows._structures import as_atoms, require_periodic, space_group, without_constraints
from mlcalc.workflows._warnings import WorkflowWarning


@dataclass(frozen=True)
class PhononResult(Record):
    """What a phonon calculation found.

    Attributes:
        primitive: primitive cell; q-points and per-cell numbers refer to it.
        supercell_matrix: (3, 3) integers.
        bands: along seekpath's path, with labels.
        dos: density of states.
        thermal: free energy, entropy, heat capacity against temperature.
        imaginary: unstable modes with their q-points, worst first.
        dynamically_stable: no imaginary modes beyond the tolerance.
        min_frequency_thz: lowest on mesh and path (negative: imaginary).
        max_frequency_thz: highest on the mesh.
        gamma_acoustic_thz: largest |frequency| of the acoustic modes at Γ; zero by translational invariance.
        residual_force_ev_per_ang: largest force in the structure as given.
        converged: that force is within the tolerance.
        drift_force_ev_per_ang: largest mean force over a displaced supercell, removed before fitting.
        sum_rule_violation_ev_per_ang2: largest |Σ_j Φ_ij| before symmetrisation.
        spacegroup: of the structure as given.
        displacements: displaced supercells.
        files: names to paths, empty without ``out``.
        wall_time_s: seconds.
        settings: every option that made this result.
        phonopy: the Phonopy object, for anything else.
    """

    primitive: Atoms
    supercell_matrix: NDArray[np.int64]
    bands: Bands
    dos: PhononDOS
    thermal: ThermalProperties
    imaginary: tuple[ImaginaryMode, ...]
    dynamically_stable: bool
    min_frequency_thz: float
    max_frequency_thz: float
    gamma_acoustic_thz: float
    residual_force_ev_per_ang: float
    converged: bool
    drift_force_ev_per_ang: float
    sum_rule_violation_ev_per_ang2: float
    spacegroup: str | None
    displacements: int
    files: dict[str, Path]
    wall_time_s: float
    settings: dict[str, Any]
    phonopy: Phonopy = field(repr=False, compare=False)

    unsaved: ClassVar[tuple[str, ...]] = ("phonopy",)


def phonons(
    atoms: Any,
    calculator: Any,
    *,
    supercell: Sequence[int] | None = None,
    min_length: float = 12.0,
    displacement: float = 0.01,
    primitive_matrix: str | Sequence[Sequence[float]] = "auto",
    mesh: float | Sequence[int] = 100.0,
    gamma_centered: bool = True,
    temperatures: tuple[float, float, float] = (0.0, 1000.0, 10.0),
    imaginary_tolerance_thz: float = 0.1,
    force_tolerance: float = 1e-3,
    path_points: int = 101,
    symprec: float = 1e-4,
    out: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PhononResult:
    """Displace, compute forces, fit and symmetrise force constants, analyse.

    With ``out``, forces are kept after every displacement, so that a killed run goes on; ``phonopy_disp.yaml``,
    ``FORCE_SETS`` and ``phonopy_params.yaml`` are what phonopy's own commands go on from.

    Args:
        atoms: relaxed structure, ASE Atoms or pymatgen Structure; not modified.
        calculator: an ASE calculator, in double precision.
        supercell: repetitions along each axis; None chooses the fewest that make every height of the supercell at
            least ``min_length``.
        min_length: Å.
        displacement: Å.
        primitive_matrix: phonopy's: ``"auto"``, ``"P"``, ``"F"``, …, or a matrix.
        mesh: q-points along each axis, or phonopy's length measure, Å.
        gamma_centered: put Γ on the mesh.
        temperatures: (first, last, step), K.
        imaginary_tolerance_thz: modes below minus this are called imaginary.
        force_tolerance: largest force the given structure may have without a warning, eV/Å.
        path_points: q-points of the longest segment of the path.
        symprec: tolerance of the symmetry search, Å.
        out: folder for files.
        progress: called with (displacements done, displacements in all).

    Raises:
        WorkflowError: not periodic, bad options, or forces of another run in ``out``.
        NonFiniteError: the calculator returned NaN or infinity.

    Warns:
        WorkflowWarning: the structure is not relaxed, modes are imaginary, constraints are left out, or the calculator
            is in single precision.
    """
    start = time.perf_counter()
    cell = as_atoms(atoms)
    require_periodic(cell, "a phonon calculation")
    cell = without_constraints(cell, "a phonon calculation")
    if not displacement > 0:
        raise WorkflowError(f"displacement must be positive, got {displacement!r}")
    repeats = supercell_repeats(cell, supercell, min_length)
    residual = residual_force(cell, calculator, force_tolerance, "phonons")
    with warnings.catch_warnings():
        # phonopy 4 warns that "auto" differs from its version 3, even where "auto" was asked for.
        warnings.simplefilter("ignore", PrimitiveMatrixAutoDefaultWarning)
        phonon = Phonopy(
            phonopy_cell(cell),
            supercell_matrix=np.diag(repeats),
            primitive_matrix=cast(Any, primitive_matrix),
            symprec=symprec,
        )
    phonon.generate_displacements(distance=displacement)
    folder = None if out is None else Path(out)
    identity = {
        "structure": structure_hash(cell),
        "calculator": describe_calculator(calculator),
        "supercell": repeats,
        "displacement": displacement,
        "symprec": symprec,
    }
    forces = displacement_forces(phonon.supercells_with_displacements or [], calculator, folder, identity, progress)
    drift = forces.mean(axis=1, keepdims=True)
    phonon.forces = forces - drift
    phonon.produce_force_constants(calculate_full_force_constants=False, show_drift=False)
    violation = float(np.abs(np.asarray(phonon.force_constants).sum(axis=1)).max())
    phonon.symmetrize_force_constants(show_drift=False)

    options: dict[str, Any] = {
        "mesh": mesh,
        "gamma_centered": gamma_centered,
        "temperatures": temperatures,
        "imaginary_tolerance_thz": imaginary_tolerance_thz,
        "path_points": path_points,
    }
    analysis = analyse_phonons(phonon, **options)
    if analysis.imaginary:
        worst = analysis.imaginary[0]
        warnings.warn(
            f"{len(analysis.imaginary)} imaginary modes (below -{imaginary_tolerance_thz:g} THz), worst "
            f"{worst.frequency_thz:.3g} THz at q = {np.round(worst.qpoint, 4).tolist()}: the structure is dynamically "
            "unstable, not relaxed, or the supercell is too small",
            WorkflowWarning,
            stacklevel=2,
        )
    return PhononResult(
        **{item.name: getattr(analysis, item.name) for item in fields(analysis)},
        supercell_matrix=np.diag(repeats),
        dynamically_stable=not analysis.imaginary,
        residual_force_ev_per_ang=residual,
        converged=residual <= force_tolerance,
        drift_force_ev_per_ang=float(np.linalg.norm(drift, axis=2).max()),
        sum_rule_violation_ev_per_ang2=violation,
        spacegroup=space_group(cell, symprec),
        displacements=len(forces),
        files={} if folder is None else _write_phonopy_files(phonon, folder),
        wall_time_s=time.perf_counter() - start,
        settings={
            "calculator": describe_calculator(calculator),
            "supercell": repeats,
            "displacement": displacement,
            "primitive_matrix": jsonable(primitive_matrix),
            "force_tolerance": force_tolerance,
            "symprec": symprec,
            **options,
        },
        phonopy=phonon,
    )


def _write_phonopy_files(phonon: Phonopy, folder: Path) -> dict[str, Path]:
    files = {name: folder / name for name in ("phonopy_disp.yaml", "FORCE_SETS", "phonopy_params.yaml")}
    phonon.save(files["phonopy_disp.yaml"], settings={"force_sets": False, "force_constants": False})
    write_FORCE_SETS(cast(Any, phonon.dataset), files["FORCE_SETS"])
    phonon.save(files["phonopy_params.yaml"], settings={"force_constants": False})
    return files
