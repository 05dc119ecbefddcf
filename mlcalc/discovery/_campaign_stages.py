"""The stages that need a calculator, each an ordinary workflow on a shard of candidates."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ase.io.jsonio
import numpy as np
from ase import Atoms
from ase.units import GPa

from mlcalc.crystals import closest_neighbors
from mlcalc.crystals.symmetry import find_space_group, primitive_cell
from mlcalc.discovery._campaign_lattice import free_energy, mesh_phonons
from mlcalc.discovery._single_points import single_points
from mlcalc.discovery._work import record_of, relax_together
from mlcalc.discovery.records import DiskFullError, enough_room
from mlcalc.workflows import RelaxResult, WorkflowWarning, gamma_phonons, md, relax
from mlcalc.workflows._displacements import supercell_repeats

Items = Sequence[tuple[int, Atoms, dict[str, Any]]]
Report = Callable[[dict[str, Any]], None]
Stage = Callable[[Items, dict[str, Any], Any, Report], None]

# Vibrations want forces this small, eV/Å.
_TIGHT = 1e-3


def _relax(stage: str, items: Items, settings: dict[str, Any], calculator: Any, report: Report, symmetry: bool) -> None:
    indices = [index for index, _, _ in items]
    last = time.perf_counter()

    def finished(number: int, result: RelaxResult) -> None:
        # What is relaxed together shares its time: that since the one before was done, so that sums are right.
        nonlocal last
        now = time.perf_counter()
        seconds, last = now - last, now
        judged = record_of(result, settings, calculator)
        ended = {} if judged["stage"] == "relaxation" else {"beyond": True}
        numbers = {"wall_time_s": seconds, "n_atoms": len(result.atoms)}
        if symmetry and result.error is None:
            # It only prepares the next leg: how far it came is enough.
            plain = result.atoms.copy()
            plain.info = {}
            judged = {"status": "ok", "steps": result.steps, "atoms": ase.io.jsonio.encode(plain)}
        report({**judged, **ended, **numbers, "stage": stage, "index": indices[number]})

    relax_together([atoms for _, atoms, _ in items], calculator, settings, finished, symmetry=symmetry)


def relax_symmetric(items: Items, settings: dict[str, Any], calculator: Any, report: Report) -> None:
    """Relax with the symmetry that a candidate came with."""
    _relax("relaxation with symmetry", items, settings, calculator, report, True)


def relax_released(items: Items, settings: dict[str, Any], calculator: Any, report: Report) -> None:
    """Displace atoms a little, so that no symmetry holds them on a saddle, and relax without it."""
    shaken = []
    for index, atoms, told in items:
        rng = np.random.default_rng([settings["seed"], index])
        moved = atoms.copy()
        moved.positions += rng.normal(scale=settings["rattle_ang"], size=moved.positions.shape)
        shaken.append((index, moved, told))
    _relax("relaxation", shaken, settings, calculator, report, False)


def relax_references(items: Items, settings: dict[str, Any], calculator: Any, report: Report) -> None:
    """Relax reference phases; what earlier stages say of each is the key of its structure, which the record repeats."""

    def finished(number: int, result: RelaxResult) -> None:
        index, _, told = items[number]
        # An error may be one of this machine: it is not kept for other campaigns.
        ended = {"error": True} if result.error is not None else {}
        report({**record_of(result, settings, calculator), **told, **ended, "stage": "references", "index": index})

    relax_together([atoms for _, atoms, _ in items], calculator, settings, finished)


def evaluate(items: Items, settings: dict[str, Any], calculator: Any, report: Report) -> None:
    """Energies and enthalpies of candidates as they are; records come in shards, whoever works."""
    size = int(settings["shard"])
    for start in range(0, len(items), size):
        some = items[start : start + size]
        clock = time.perf_counter()
        points = single_points([atoms for _, atoms, _ in some], calculator)
        seconds = (time.perf_counter() - clock) / len(some)
        for (index, atoms, _), point in zip(some, points, strict=True):
            record: dict[str, Any] = {"stage": "single points", "index": index, "wall_time_s": seconds}
            if point.problem is None:
                work = settings["pressure_gpa"] * GPa * float(atoms.cell.volume)
                record |= {"status": "ok", "energy_ev": point.energy_ev, "enthalpy_ev": point.energy_ev + work}
            else:
                reason = point.problem.split(":")[0]
                record |= {"status": "failed", "reason": reason, "message": point.problem[:500]}
            report(record)


def one_by_one(stage: str, work: Callable[[int, Atoms, dict[str, Any], Any], dict[str, Any]]) -> Stage:
    """Make a stage of what is done with one structure; an error is a record too, unless it would meet all others."""

    def run(items: Items, settings: dict[str, Any], calculator: Any, report: Report) -> None:
        for index, atoms, _ in items:
            start = time.perf_counter()
            record: dict[str, Any] = {"stage": stage, "index": index}
            try:
                with warnings.catch_warnings(), enough_room(Path(settings["folder"])):
                    warnings.simplefilter("ignore", WorkflowWarning)  # what they warn of is in the record
                    record |= work(index, atoms, settings, calculator)
            except DiskFullError:
                raise
            except Exception as error:  # one bad structure must not end a campaign; it is counted
                record |= {"status": "failed", "reason": type(error).__name__, "message": str(error)[:500]}
            report({**record, "wall_time_s": time.perf_counter() - start})

    return run


def _vibrate(index: int, atoms: Atoms, settings: dict[str, Any], calculator: Any) -> dict[str, Any]:
    """Phonons at Γ of the primitive cell; an imaginary mode is followed once, and what it leads to relaxed again."""

    def settle(structure: Atoms, symmetry: bool) -> RelaxResult:
        return relax(
            structure,
            calculator,
            fmax=_TIGHT,
            cell="full",
            pressure_gpa=settings["pressure_gpa"],
            stress_tolerance_gpa=settings["stress_tolerance_gpa"],
            max_steps=settings["max_steps"],
            symmetry=symmetry,
        )

    tolerance = settings["imaginary_tolerance_thz"]
    best = settle(_primitive(atoms, settings["symprec"]), True)
    modes = gamma_phonons(best.atoms, calculator, imaginary_tolerance_thz=tolerance)
    first, followed, lowered = modes.min_frequency_thz, False, 0.0
    if modes.imaginary and modes.worst_displacements is not None:
        followed = True
        moved = best.atoms.copy()
        moved.positions += settings["mode_amplitude_ang"] * modes.worst_displacements
        down = settle(moved, False)
        lowered = (down.enthalpy_ev - best.enthalpy_ev) / len(moved)
        best = down
        modes = gamma_phonons(best.atoms, calculator, imaginary_tolerance_thz=tolerance)
    judged = record_of(best, settings, calculator)
    if judged["status"] == "ok" and modes.imaginary:
        judged |= {
            "status": "failed",
            "reason": "imaginary modes",
            "message": f"{modes.imaginary} after following one, lowest {modes.min_frequency_thz:.2f} THz",
        }
    return {
        **{key: value for key, value in judged.items() if key != "stage"},
        "followed": followed,
        "lowered_ev_per_atom": lowered,
        "first_min_frequency_thz": first,
        "min_frequency_thz": modes.min_frequency_thz,
        "frequencies_thz": modes.frequencies_thz.tolist(),
        "imaginary_modes": modes.imaginary,
    }


def _primitive(atoms: Atoms, symprec: float) -> Atoms:
    return atoms if find_space_group(atoms, symprec) is None else primitive_cell(atoms, symprec)


def _move(index: int, atoms: Atoms, settings: dict[str, Any], calculator: Any) -> dict[str, Any]:
    """Short dynamics at constant temperature: does the crystal hold?"""
    cell = atoms.repeat(supercell_repeats(atoms, None, settings["md_length_ang"]))
    folder = Path(settings["folder"]) / "dynamics" / f"{index:05d}"
    result = md(
        cell,
        calculator,
        ensemble="nvt-langevin",
        temperature_k=settings["temperature_k"],
        timestep_fs=settings["timestep_fs"],
        steps=settings["md_steps"],
        seed=settings["seed"] + index,
        out=folder,
        engine=settings["md_engine"],
    )
    # Frames are unwrapped, and Langevin dynamics moves the centre of mass, which is no sign of melting.
    frames = np.array([frame.positions for frame in result.frames(start_fs=result.time_fs[-1] / 2)])
    moved = frames - cell.positions
    masses = cell.get_masses()
    moved -= np.einsum("n,fnk->fk", masses, moved)[:, None, :] / masses.sum()
    rms = float(np.sqrt((moved**2).sum(axis=2).mean()))
    relative = rms / float(closest_neighbors([cell], 1)[0])
    held = relative <= settings["largest_displacement"]
    values: dict[str, Any] = {
        "status": "ok" if held else "failed",
        "n_atoms": len(cell),
        "md_temperature_k": float(result.temperature_k[len(result.temperature_k) // 2 :].mean()),
        "rms_displacement_ang": rms,
        "relative_displacement": relative,
        "md_steps": result.steps,
    }
    if not held:
        values |= {"reason": "did not hold", "message": f"atoms moved {rms:.2f} Å, {relative:.2f} of a bond"}
    return values


STAGES: dict[str, Stage] = {
    "references": relax_references,
    "single points": evaluate,
    "relaxation with symmetry": relax_symmetric,
    "relaxation": relax_released,
    "phonons": one_by_one("phonons", _vibrate),
    "phonons on a mesh": one_by_one("phonons on a mesh", mesh_phonons),
    "dynamics": one_by_one("dynamics", _move),
    "free energy": one_by_one("free energy", free_energy),
}
#: Stages whose structures are worked on together where the calculator can.
TOGETHER = ("references", "single points", "relaxation with symmetry", "relaxation")
