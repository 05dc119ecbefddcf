"""Mode Grüneisen parameters: how frequencies follow the volume, with phonopy."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
from ase import units
from numpy.typing import NDArray
from phonopy import PhonopyGruneisen

from mlcalc.errors import WorkflowError
from mlcalc.records import Record, describe_calculator
from mlcalc.workflows._displacements import supercell_repeats
from mlcalc.workflows._phonons_at_volumes import phonons_at_volumes
from mlcalc.workflows._scaled_cells import scaled_cells
from mlcalc.workflows._structures import as_atoms, require_periodic, without_constraints
from mlcalc.workflows._warnings import WorkflowWarning
from mlcalc.workflows.phonon import PhononResult

Array = NDArray[np.float64]
VOLUMES = "gruneisen_volumes.json"


@dataclass(frozen=True)
class GruneisenResult(Record):
    """Mode Grüneisen parameters γ = −d ln ω / d ln V on a mesh, and what follows from them at this volume.

    Attributes:
        qpoints: (Q, 3) irreducible, in reciprocal vectors of the primitive cell.
        weights: (Q,) how many points of the mesh each stands for.
        frequency_thz: (Q, 3n); imaginary frequencies are negative.
        gruneisen: (Q, 3n); NaN for modes below the tolerance: acoustic ones at Γ, imaginary ones.
        mean: over the mesh.
        temperature_k: (T,) K, above 0.
        thermodynamic: (T,) mean weighted with the heat capacity of each mode.
        heat_capacity_v_ev_per_k_per_atom: (T,) of the modes counted, eV/K/atom.
        thermal_expansion_per_k: (T,) volumetric, γ C_V/(V B), 1/K.
        bulk_modulus_gpa: without vibrations, from the energies at the three volumes, GPa.
        volume_ang3_per_atom: the middle volume, Å³/atom.
        dynamically_stable: no imaginary modes at any of the three volumes.
        phonons: at the small, the given and the large volume.
        converged: every relaxation met its criteria, at rest at every volume.
        wall_time_s: seconds.
        settings: every option that made this result.
    """

    qpoints: Array
    weights: NDArray[np.int64]
    frequency_thz: Array
    gruneisen: Array
    mean: float
    temperature_k: Array
    thermodynamic: Array
    heat_capacity_v_ev_per_k_per_atom: Array
    thermal_expansion_per_k: Array
    bulk_modulus_gpa: float
    volume_ang3_per_atom: float
    dynamically_stable: bool
    phonons: tuple[PhononResult, ...]
    converged: bool
    wall_time_s: float
    settings: dict[str, Any]

    unsaved: ClassVar[tuple[str, ...]] = ("phonons",)


def gruneisen(
    atoms: Any,
    calculator: Any,
    *,
    volume_step: float = 0.01,
    mesh: Sequence[int] = (20, 20, 20),
    temperatures: tuple[float, float, float] = (10.0, 1000.0, 10.0),
    relax_ions: bool | None = None,
    relax_shape: bool = False,
    fmax: float = 1e-4,
    stress_tolerance_gpa: float = 0.01,
    optimizer: str = "BFGS",
    max_steps: int = 500,
    supercell: Sequence[int] | None = None,
    min_length: float = 12.0,
    displacement: float = 0.01,
    imaginary_tolerance_thz: float = 0.1,
    symprec: float = 1e-4,
    out: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> GruneisenResult:
    """Compute phonons at (1 − step), 1 and (1 + step) times the volume and take central differences.

    Args:
        atoms: relaxed structure, ASE Atoms or pymatgen Structure; not modified.
        calculator: an ASE calculator, in double precision.
        volume_step: fraction of the volume.
        mesh: q-points along each axis, Γ included.
        temperatures: (first, last, step), K, above 0.
        relax_ions: at each volume; None does so if symmetry leaves internal coordinates free.
        relax_shape: relax the shape of the cell (and ions) at constant volume.
        fmax: of these relaxations, eV/Å.
        stress_tolerance_gpa: of the shape, GPa.
        optimizer: of these relaxations.
        max_steps: of each.
        supercell: as in ``phonons``; the same at all volumes.
        min_length: Å.
        displacement: Å.
        imaginary_tolerance_thz: modes below plus this are left out, below minus this imaginary.
        symprec: tolerance of the symmetry search, Å.
        out: folder for files; a killed run goes on.
        progress: called with (volumes done, volumes in all).

    Raises:
        WorkflowError: not periodic, bad options, or files of another run in ``out``.
        NonFiniteError: the calculator returned NaN or infinity.

    Warns:
        WorkflowWarning: imaginary modes, which are left out; and what ``phonons`` warns about.
        ConvergenceWarning: a relaxation did not converge.
    """
    start = time.perf_counter()
    cell = as_atoms(atoms)
    require_periodic(cell, "a Grüneisen parameter")
    cell = without_constraints(cell, "a Grüneisen parameter")
    if not 0 < volume_step < 0.2:
        raise WorkflowError(f"volume_step is a fraction of the volume between 0 and 0.2, got {volume_step!r}")
    if not (0 < temperatures[0] <= temperatures[1] and temperatures[2] > 0):
        raise WorkflowError(f"temperatures are (first, last, step) above 0 K, got {temperatures}")
    grid = [int(n) for n in mesh]
    if len(grid) != 3 or min(grid) < 1:
        raise WorkflowError(f"mesh is three positive integers, got {list(mesh)}")
    scales = [1 - volume_step, 1.0, 1 + volume_step]
    cells = scaled_cells(
        cell,
        calculator,
        scales,
        relax_ions=relax_ions,
        relax_shape=relax_shape,
        fmax=fmax,
        stress_tolerance_gpa=stress_tolerance_gpa,
        optimizer=optimizer,
        max_steps=max_steps,
        symprec=symprec,
        folder=out,
        file=VOLUMES,
    )
    lattice: dict[str, Any] = {
        "supercell": supercell_repeats(cell, supercell, min_length),
        "displacement": displacement,
        "imaginary_tolerance_thz": imaginary_tolerance_thz,
        "symprec": symprec,
    }
    vibrations = phonons_at_volumes(
        cells.structures, calculator, scales, folder=out, progress=progress, mesh=grid, **lattice
    )
    stable = all(item.dynamically_stable for item in vibrations)
    if not stable:
        warnings.warn(
            "imaginary modes: they have no Grüneisen parameter and are LEFT OUT of all means, which then mean little",
            WorkflowWarning,
            stacklevel=2,
        )
    small, middle, large = vibrations
    # phonopy's own order: the volume that grows comes first.
    finder = PhonopyGruneisen(middle.phonopy, large.phonopy, small.phonopy)
    finder.set_mesh(grid, is_gamma_center=True)
    found = cast(Any, finder.get_mesh())
    qpoints, weights, frequency = np.array(found[0]), np.array(found[1]), np.array(found[2])
    counted = frequency > imaginary_tolerance_thz
    modes = np.where(counted, np.array(found[4]), np.nan)
    shares = np.where(counted, weights[:, None], 0.0)
    mean = float(np.nansum(shares * modes) / shares.sum())

    temperature = np.arange(temperatures[0], temperatures[1] + 0.5 * temperatures[2], temperatures[2])
    x = np.where(counted, frequency, 1.0) * 1e12 * units._hplanck / units._k / temperature[:, None, None]
    half = np.clip(0.5 * x, None, 300.0)  # beyond, a mode is frozen
    capacity = shares * (half / np.sinh(half)) ** 2  # k_B
    total = capacity.sum(axis=(1, 2))
    thermodynamic = np.nansum(capacity * modes, axis=(1, 2)) / total
    per_atom = total * units.kB / weights.sum() / len(middle.primitive)

    v = np.array([item.get_volume() for item in cells.structures]) / len(cell)
    e = cells.energy_ev / len(cell)
    bulk = float(v[1] * 2 * np.polyfit(v - v[1], e, 2)[0])
    return GruneisenResult(
        qpoints=qpoints,
        weights=weights,
        frequency_thz=frequency,
        gruneisen=modes,
        mean=mean,
        temperature_k=temperature,
        thermodynamic=thermodynamic,
        heat_capacity_v_ev_per_k_per_atom=per_atom,
        thermal_expansion_per_k=thermodynamic * per_atom / (v[1] * bulk),
        bulk_modulus_gpa=bulk / units.GPa,
        volume_ang3_per_atom=float(v[1]),
        dynamically_stable=stable,
        phonons=tuple(vibrations),
        converged=all(cells.converged) and all(item.converged for item in vibrations),
        wall_time_s=time.perf_counter() - start,
        settings={
            "calculator": describe_calculator(calculator),
            "volume_step": volume_step,
            "mesh": grid,
            **cells.options,
            **lattice,
        },
    )
