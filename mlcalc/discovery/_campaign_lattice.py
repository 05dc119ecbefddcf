"""The stages of a campaign that need a supercell's vibrations: phonons on a mesh, free energies."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import ase.io
import numpy as np
from ase import Atoms
from phonopy.harmonic.dynmat_to_fc import DynmatToForceConstants

from mlcalc.records import write_json
from mlcalc.workflows import PhononResult, phonons, plot_bands, plot_thermal, qha

# q-points: phonopy's length measure, Å. Dense enough to meet commensurate points of any supercell of a campaign.
_MESH = 60.0
# Steps of temperature in QHA, K: no coarser, for its differences.
_STEP = 25.0


def mesh_phonons(index: int, atoms: Atoms, settings: dict[str, Any], calculator: Any) -> dict[str, Any]:
    """Phonons in a supercell; imaginary modes are named with their q-points, and stop a crystal.

    The usual files of ``phonons`` are in ``phonons/NNNNN`` of the campaign, ``bands.png`` among them.
    """
    folder = Path(settings["folder"]) / "phonons" / f"{index:05d}"
    folder.mkdir(parents=True, exist_ok=True)
    ase.io.write(folder / "structure.extxyz", atoms, format="extxyz")
    found = phonons(
        atoms,
        calculator,
        min_length=settings["mesh_length_ang"],
        mesh=_MESH,
        imaginary_tolerance_thz=settings["imaginary_tolerance_thz"],
        out=folder,
    )
    name = atoms.get_chemical_formula(empirical=True)
    write_json(folder / "phonons.json", found.to_dict())
    plot_bands(found, folder / "bands.png", name)
    plot_thermal(found, folder / "thermal.png", name)
    exact = _worst_commensurate(found, settings["imaginary_tolerance_thz"])
    worst = exact or next(((mode.qpoint, mode.frequency_thz) for mode in found.imaginary), None)
    record: dict[str, Any] = {
        "status": "ok",
        "min_frequency_thz": found.min_frequency_thz,
        "imaginary_modes": len(found.imaginary),
        "imaginary_qpoint": None if worst is None else [round(float(q), 6) for q in worst[0]],
        "supercell": [int(n) for n in np.diag(found.supercell_matrix)],
        "n_atoms": len(found.primitive),
        "displacements": found.displacements,
    }
    if worst is not None:
        how = "the supercell holds this wave" if exact else "interpolated, so that a larger supercell decides"
        record |= {
            "status": "failed",
            "reason": "imaginary modes on the mesh",
            "message": f"{worst[1]:.2f} THz at q = {record['imaginary_qpoint']}: {how}",
        }
    return record


def _worst_commensurate(found: PhononResult, tolerance: float) -> tuple[Any, float] | None:
    """Return q and frequency of the worst imaginary mode whose wave the supercell holds: exact, not interpolated."""
    phonon = found.phonopy
    points = DynmatToForceConstants(phonon.primitive, phonon.supercell).commensurate_points
    frequencies = np.asarray(cast(Any, phonon.run_qpoints(points)).frequencies).min(axis=1)
    lowest = int(frequencies.argmin())
    return (points[lowest], float(frequencies[lowest])) if frequencies[lowest] < -tolerance else None


def free_energy(index: int, atoms: Atoms, settings: dict[str, Any], calculator: Any) -> dict[str, Any]:
    """Quasi-harmonic Gibbs energy at a temperature and the campaign's pressure; where it cannot be had, why."""
    temperature = settings["free_energy_k"]
    step = temperature / np.ceil(temperature / _STEP)
    found = qha(
        atoms,
        calculator,
        pressure_gpa=settings["pressure_gpa"],
        max_temperature_k=temperature,
        temperature_step_k=step,
        min_length=settings["mesh_length_ang"],
        mesh=_MESH,
        imaginary_tolerance_thz=settings["imaginary_tolerance_thz"],
        out=Path(settings["folder"]) / "free-energy" / f"{index:05d}",
    )
    values = np.interp(temperature, found.temperature_k, found.gibbs_ev_per_atom)
    volume = np.interp(temperature, found.temperature_k, found.volume_ang3_per_atom)
    record = {"n_atoms": len(atoms), "volume_ang3_per_atom": float(volume)}
    if found.trusted_below_k is None or found.trusted_below_k < temperature * (1 - 1e-9):
        message = f"trusted below {found.trusted_below_k or 0:g} K: the volume leaves those sampled"
        return {**record, "status": "failed", "reason": "volume beyond those sampled", "message": message}
    return {**record, "status": "ok", "free_energy_ev_per_atom": float(values)}
