"""Thermal expansion in the quasi-harmonic approximation: free energies at several volumes, with phonopy."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from phonopy.physical_units import get_physical_units
from phonopy.qha.core import QHA

from mlcalc.errors import WorkflowError
from mlcalc.records import Record
from mlcalc.workflows._displacements import supercell_repeats
from mlcalc.workflows._phonons_at_volumes import phonons_at_volumes
from mlcalc.workflows._structures import as_atoms, require_periodic, without_constraints
from mlcalc.workflows._warnings import WorkflowWarning
from mlcalc.workflows.equation_of_state import EOSResult, eos
from mlcalc.workflows.phonon import PhononResult

Array = NDArray[np.float64]
QHA_FORMS = ("vinet", "birch_murnaghan", "murnaghan")  # phonopy's


@dataclass(frozen=True)
class QHAResult(Record):
    """Quasi-harmonic thermodynamics at one pressure, per atom.

    Attributes:
        temperature_k: (T,) K, from 0.
        volume_ang3_per_atom: (T,) where the Gibbs energy is lowest, Å³/atom.
        gibbs_ev_per_atom: (T,) min over V of E + F_vib + PV, eV/atom.
        thermal_expansion_per_k: (T,) volumetric, (dV/dT)/V, 1/K; a third of it is the linear one of a cubic crystal.
        bulk_modulus_gpa: (T,) isothermal, GPa.
        heat_capacity_p_ev_per_k_per_atom: (T,) at constant pressure, eV/K/atom.
        gruneisen: (T,) thermodynamic Grüneisen parameter α B V/C_V; NaN at 0 K.
        helmholtz_ev_per_atom: (T, P) E + F_vib (+ PV) at the volumes used, eV/atom.
        used_volume_ang3_per_atom: (P,) volumes that entered, Å³/atom.
        excluded_volume_ang3_per_atom: volumes left out because of imaginary modes.
        trusted_below_k: up to here the minimum lies between the volumes used; None: nowhere.
        static: energy–volume curve without vibrations.
        phonons: (P) phonons at the volumes used.
        converged: every relaxation met its criteria, at rest at every volume.
        wall_time_s: seconds.
        settings: every option that made this result.
    """

    temperature_k: Array
    volume_ang3_per_atom: Array
    gibbs_ev_per_atom: Array
    thermal_expansion_per_k: Array
    bulk_modulus_gpa: Array
    heat_capacity_p_ev_per_k_per_atom: Array
    gruneisen: Array
    helmholtz_ev_per_atom: Array
    used_volume_ang3_per_atom: Array
    excluded_volume_ang3_per_atom: Array
    trusted_below_k: float | None
    static: EOSResult
    phonons: tuple[PhononResult, ...]
    converged: bool
    wall_time_s: float
    settings: dict[str, Any]

    unsaved: ClassVar[tuple[str, ...]] = ("phonons",)


def qha(
    atoms: Any,
    calculator: Any,
    *,
    strain: float = 0.05,
    points: int = 9,
    volume_scales: Sequence[float] | None = None,
    pressure_gpa: float = 0.0,
    form: str = "vinet",
    max_temperature_k: float = 1000.0,
    temperature_step_k: float = 10.0,
    relax_ions: bool | None = None,
    relax_shape: bool = False,
    fmax: float = 1e-4,
    stress_tolerance_gpa: float = 0.01,
    optimizer: str = "BFGS",
    max_steps: int = 500,
    supercell: Sequence[int] | None = None,
    min_length: float = 12.0,
    displacement: float = 0.01,
    mesh: float | Sequence[int] = 100.0,
    imaginary_tolerance_thz: float = 0.1,
    symprec: float = 1e-4,
    out: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> QHAResult:
    """Minimise E(V) + F_vib(V, T) + PV over the volume at each temperature.

    Energies come from ``eos`` with the same options, free energies from ``phonons`` in the same supercell at each
    volume, fits and derivatives from phonopy's QHA. With ``out`` every volume and every displacement is kept, so that a
    killed run goes on.

    Args:
        atoms: relaxed structure, ASE Atoms or pymatgen Structure; not modified.
        calculator: an ASE calculator, in double precision.
        strain: volumes from 1 − strain to 1 + strain times the given one.
        points: volumes, at least 5.
        volume_scales: factors of the volume instead of these two.
        pressure_gpa: GPa.
        form: of F(V): ``vinet``, ``birch_murnaghan`` or ``murnaghan``.
        max_temperature_k: last temperature, K.
        temperature_step_k: of the differences behind thermal expansion, K.
        relax_ions: at each volume; None does so if symmetry leaves internal coordinates free.
        relax_shape: relax the shape of the cell (and ions) at constant volume; without vibrations, as in the eos.
        fmax: of these relaxations, eV/Å.
        stress_tolerance_gpa: of the shape, GPa.
        optimizer: of these relaxations.
        max_steps: of each.
        supercell: as in ``phonons``; the same at all volumes.
        min_length: Å.
        displacement: Å.
        mesh: q-points, as in ``phonons``; a length becomes numbers of points at the smallest volume, the same at all.
        imaginary_tolerance_thz: modes below minus this are imaginary.
        symprec: tolerance of the symmetry search, Å.
        out: folder for files.
        progress: called with (volumes done, volumes in all).

    Raises:
        WorkflowError: not periodic, bad options, fewer than five volumes without imaginary modes, no minimum of the
            free energy, or files of another run in ``out``.
        NonFiniteError: the calculator returned NaN or infinity.

    Warns:
        WorkflowWarning: a volume with imaginary modes is left out, or the minimum leaves the volumes at some
            temperature; and what ``eos`` and ``phonons`` warn about.
    """
    start = time.perf_counter()
    cell = as_atoms(atoms)
    require_periodic(cell, "a quasi-harmonic calculation")
    cell = without_constraints(cell, "a quasi-harmonic calculation")
    if form not in QHA_FORMS:
        raise WorkflowError(f"unknown form {form!r} of the free energy: choose from {', '.join(QHA_FORMS)}")
    if not (max_temperature_k > 0 and 0 < temperature_step_k <= max_temperature_k):
        raise WorkflowError("max_temperature_k and temperature_step_k must be positive, the step not above the maximum")
    lattice = {
        "supercell": supercell_repeats(cell, supercell, min_length),
        "displacement": displacement,
        "mesh": mesh,
        "imaginary_tolerance_thz": imaginary_tolerance_thz,
        "symprec": symprec,
        # phonopy's differences and fits use up two points at the end.
        "temperatures": (0.0, max_temperature_k + 2.5 * temperature_step_k, temperature_step_k),
    }
    static = eos(
        cell,
        calculator,
        strain=strain,
        points=points,
        volume_scales=volume_scales,
        form=form,
        relax_ions=relax_ions,
        relax_shape=relax_shape,
        fmax=fmax,
        stress_tolerance_gpa=stress_tolerance_gpa,
        optimizer=optimizer,
        max_steps=max_steps,
        symprec=symprec,
        out=out,
    )
    vibrations = phonons_at_volumes(
        static.structures,
        calculator,
        static.settings["volume_scales"],
        folder=out,
        progress=progress,
        **lattice,
    )
    stable = np.array([item.dynamically_stable for item in vibrations])
    if stable.sum() < 5:
        raise WorkflowError(
            f"only {stable.sum()} of {len(stable)} volumes are without imaginary modes, five are needed: sample other "
            "volumes (smaller strain), a larger supercell, or another phase"
        )
    excluded = static.volume_ang3_per_atom[~stable]
    if len(excluded):
        warnings.warn(
            f"{len(excluded)} of {len(stable)} volumes have imaginary modes and are LEFT OUT: "
            f"{', '.join(f'{v:.3f}' for v in excluded)} Å³/atom",
            WorkflowWarning,
            stacklevel=2,
        )
    used = [item for item, good in zip(vibrations, stable, strict=True) if good]
    volumes, energies = static.volume_ang3_per_atom[stable], static.energy_ev_per_atom[stable]
    curves = _free_energy_fits(used, volumes, energies, pressure_gpa, form, max_temperature_k)
    inside = (curves["volume"] >= volumes.min()) & (curves["volume"] <= volumes.max())
    temperature = curves["temperature"]
    trusted = None if not inside[0] else float(temperature[inside.argmin() - 1 if not inside.all() else -1])
    if not inside.all():
        warnings.warn(
            f"the volume leaves those sampled, {volumes.min():.4f} to {volumes.max():.4f} Å³/atom, "
            + ("at all temperatures" if trusted is None else f"above {trusted:g} K")
            + ": what lies beyond is extrapolated. Relax first, or raise strain.",
            WorkflowWarning,
            stacklevel=2,
        )
    return QHAResult(
        temperature_k=temperature,
        volume_ang3_per_atom=curves["volume"],
        gibbs_ev_per_atom=curves["gibbs"],
        thermal_expansion_per_k=curves["expansion"],
        bulk_modulus_gpa=curves["bulk_modulus"],
        heat_capacity_p_ev_per_k_per_atom=curves["heat_capacity"],
        gruneisen=np.concatenate([[np.nan], curves["gruneisen"][1:]]),
        helmholtz_ev_per_atom=curves["helmholtz"],
        used_volume_ang3_per_atom=volumes,
        excluded_volume_ang3_per_atom=excluded,
        trusted_below_k=trusted,
        static=static,
        phonons=tuple(used),
        converged=static.converged and all(item.converged for item in used),
        wall_time_s=time.perf_counter() - start,
        settings={
            **static.settings,
            "pressure_gpa": pressure_gpa,
            "max_temperature_k": max_temperature_k,
            "temperature_step_k": temperature_step_k,
            **{key: value for key, value in lattice.items() if key != "temperatures"},
        },
    )


def _free_energy_fits(
    used: Sequence[PhononResult], volumes: Array, energies: Array, pressure_gpa: float, form: str, last: float
) -> dict[str, Array]:
    """Run phonopy's QHA per atom; (T,) arrays, extensive ones per atom in eV and Å³."""
    units = get_physical_units()
    to_kj = units.EvTokJmol
    thermal = [item.thermal for item in used]
    atoms = np.array([len(item.primitive) for item in used])
    temperature = thermal[0].temperature_k
    fit = QHA(
        volumes,
        energies,
        temperature,
        np.array([t.heat_capacity_ev_per_k for t in thermal]).T / atoms * to_kj * 1000,
        np.array([t.entropy_ev_per_k for t in thermal]).T / atoms * to_kj * 1000,
        np.array([t.free_energy_ev for t in thermal]).T / atoms * to_kj,
        pressure=pressure_gpa,
        eos=form,
        t_max=last,
    )
    try:
        fit.run()
    except (RuntimeError, ValueError, TypeError, AssertionError, IndexError) as error:
        raise WorkflowError(
            f"phonopy finds no minimum of the free energy: {error or type(error).__name__}. Sample volumes around it"
        ) from error
    length = len(fit.thermal_expansion)
    if not np.isfinite(fit.volume_temperature).all() or temperature[length - 1] < last - 1e-6:
        raise WorkflowError("the free energy has no minimum at some temperatures: sample volumes around it")
    return {
        "temperature": np.array(temperature[:length]),
        "volume": np.array(fit.volume_temperature),
        "gibbs": np.array(fit.gibbs_temperature),
        "expansion": np.array(fit.thermal_expansion),
        "bulk_modulus": np.array(fit.bulk_modulus_temperature),
        "heat_capacity": np.array(fit.heat_capacity_P_polyfit) / (to_kj * 1000),
        "gruneisen": np.array(fit.gruneisen_temperature),
        "helmholtz": np.array(fit.helmholtz_volume),
    }
