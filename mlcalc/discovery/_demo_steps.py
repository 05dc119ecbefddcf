"""The steps of the main job, each an ordinary workflow with its result put into plain numbers."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase.io.jsonio
import numpy as np
from ase import Atoms
from ase.units import GPa
from numpy.typing import NDArray

from mlcalc.crystals import closest_neighbors, find_space_group
from mlcalc.crystals.symmetry import conventional_cell
from mlcalc.discovery import figures
from mlcalc.discovery.funnel import FunnelResult
from mlcalc.discovery.identity import weights_sha256
from mlcalc.files import write_atomic
from mlcalc.records import jsonable
from mlcalc.workflows import MDResult, PhononResult, md, phonons, relax

if TYPE_CHECKING:
    from mlcalc.discovery._demo_settings import DemoSettings

LABELLED = 5
TIMESTEP_FS = 1.0
TRAJECTORY_INTERVAL = 10
ENSEMBLE = "nvt-bussi"

# Lattice constant of diamond in PBE as the mlearn data have it, Å (Zuo et al., J. Phys. Chem. A 124, 731 (2020)).
DIAMOND_PBE_ANG = 5.469


@dataclass(frozen=True)
class Best:
    """The lowest crystal, idealised and relaxed tightly with its symmetry kept."""

    conventional: Atoms
    record: dict[str, Any]

    @classmethod
    def of(cls, atoms: Atoms, calculator: Any, path: Path) -> Best:
        """Refine, or read what an earlier run refined: later steps go on only from exactly the same numbers."""
        if path.exists():
            stored = ase.io.jsonio.decode(path.read_text(encoding="utf-8"))
            return cls(stored["atoms"], stored["record"])
        best = refine(atoms, calculator)
        write_atomic(path, ase.io.jsonio.encode({"atoms": best.conventional, "record": best.record}))
        return best


def remove_earlier(folder: Path) -> None:
    """Remove what a finished run left in ``folder``, and nothing else."""
    for name in ("search", "phonons", "md_ase", "md_lammps"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("report.json", "report.html", "model.pt", "refined.json"):
        (folder / name).unlink(missing_ok=True)


def refine(atoms: Atoms, calculator: Any) -> Best:
    """Idealise to the symmetry found, relax tightly, find the symmetry again with a small tolerance."""
    start = conventional_cell(atoms, symprec=0.05)
    result = relax(start, calculator, fmax=1e-4, cell="full", stress_tolerance_gpa=0.005, symmetry=True, max_steps=300)
    final = result.atoms.copy()
    group = find_space_group(final, symprec=1e-3)
    a, b, c, alpha, beta, gamma = final.cell.cellpar()
    return Best(
        final,
        {
            "space_group": group.number if group else None,
            "space_group_symbol": group.symbol if group else None,
            "formula": final.get_chemical_formula(),
            "n_atoms_conventional": len(final),
            "cell": {"a": a, "b": b, "c": c, "alpha": alpha, "beta": beta, "gamma": gamma},
            "energy_ev_per_atom": result.energy_ev / len(final),
            "volume_ang3_per_atom": final.get_volume() / len(final),
            "shortest_distance_ang": float(closest_neighbors([final], 1)[0]),
            "max_force_ev_per_ang": result.max_force_ev_per_ang,
            "max_stress_gpa": result.max_stress_residual_gpa,
            "converged": result.converged,
        },
    )


def phonons_of(
    conventional: Atoms, calculator: Any, folder: Path, progress: Callable[[int, int], None]
) -> tuple[PhononResult, dict[str, Any]]:
    """Phonons; warnings end up in the record, where the report shows them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = phonons(conventional, calculator, min_length=10.0, out=folder, progress=progress)
    return result, {
        "supercell": np.diag(result.supercell_matrix).tolist(),
        "displacements": result.displacements,
        "dynamically_stable": result.dynamically_stable,
        "imaginary_modes": len(result.imaginary),
        "min_frequency_thz": result.min_frequency_thz,
        "max_frequency_thz": result.max_frequency_thz,
        "gamma_acoustic_thz": result.gamma_acoustic_thz,
        "converged": result.converged,
        "warnings": sorted({str(w.message) for w in caught if w.category.__module__.startswith("mlcalc")}),
        "bands": result.bands.to_dict(),
        "dos": result.dos.to_dict(),
    }


def supercell_for_md(conventional: Atoms, shortest: float = 9.0, atoms_wanted: int = 64) -> Atoms:
    """Repeat until every height is at least ``shortest`` Å and there are at least ``atoms_wanted`` atoms."""
    repeats = np.array([1, 1, 1])
    while True:
        cell = conventional.cell.array * repeats[:, None]
        heights = abs(np.linalg.det(cell)) / np.linalg.norm(
            np.cross(np.roll(cell, -1, axis=0), np.roll(cell, -2, axis=0)), axis=1
        )
        if heights.min() >= shortest and len(conventional) * repeats.prod() >= atoms_wanted:
            return conventional.repeat(repeats.tolist())
        repeats[int(heights.argmin())] += 1


def compare_single_points(
    supercell: Atoms, calculator: Any, potential: Any, folder: Path, settings: DemoSettings
) -> dict[str, Any]:
    """One displaced and sheared supercell, the same model, in ASE and in LAMMPS."""
    from mlcalc.lammps import model_file, run_static

    atoms = supercell.copy()
    rng = np.random.default_rng(settings.seed)
    strain = np.eye(3) + np.triu(rng.uniform(-0.02, 0.02, (3, 3)))
    atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
    model = model_file(potential, folder)
    atoms.calc = calculator
    energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    rows = []
    for ranks in sorted({1, settings.ranks}):
        other = run_static(atoms, model, ranks=ranks, in_process=False)
        assert other.stress is not None  # the cell is periodic
        rows.append(
            {
                "ranks": ranks,
                "energy_ev": other.energy,
                "energy_difference_ev_per_atom": abs(other.energy - energy) / len(atoms),
                "force_difference_ev_per_ang": float(np.abs(other.forces - forces).max()),
                "stress_difference_gpa": float(np.abs(other.stress - stress).max() / GPa),
            }
        )
    return {
        "n_atoms": len(atoms),
        "structure": "supercell, strained by up to 2 % with shear, atoms displaced by 0.05 Å",
        "dtype": "float64",
        "ase_energy_ev": energy,
        "largest_force_ev_per_ang": float(np.abs(forces).max()),
        "largest_stress_gpa": float(np.abs(stress).max() / GPa),
        "rows": rows,
        # The borders that the parity tests set in double precision.
        "agrees": all(
            row["energy_difference_ev_per_atom"] < 1e-9 and row["force_difference_ev_per_ang"] < 1e-8 for row in rows
        ),
    }


def dynamics(
    supercell: Atoms,
    calculator: Any,
    engine: str,
    folder: Path,
    settings: DemoSettings,
    progress: Callable[[int, int], None],
) -> MDResult:
    """NVT (Bussi) with the same call in either engine."""
    return md(
        supercell,
        calculator,
        ensemble=ENSEMBLE,
        temperature_k=settings.temperature_k,
        timestep_fs=TIMESTEP_FS,
        steps=settings.md_steps,
        seed=settings.seed,
        out=folder,
        engine=engine,
        ranks=settings.ranks if engine == "lammps" else 1,
        trajectory_interval=TRAJECTORY_INTERVAL,
        progress=progress,
    )


def summarise_md(
    runs: dict[str, MDResult], n_atoms: int, settings: DemoSettings
) -> tuple[dict[str, Any], dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]]:
    """Return the record of the dynamics and (r, g) of each engine."""
    warm = settings.md_warmup_steps * TIMESTEP_FS
    curves, rows = {}, []
    for engine, run in runs.items():
        rdf = run.rdf(start_fs=warm, r_max=8.0, bins=160)
        curves[engine] = (rdf.r_ang, rdf.g)
        counted = run.time_fs >= warm
        kelvin = run.temperature_k[counted]
        rows.append(
            {
                "engine": engine,
                "ranks": settings.ranks if engine == "lammps" else 1,
                "steps": run.steps,
                "frames": rdf.frames,
                "temperature_k": float(kelvin.mean()),
                "temperature_spread_k": float(kelvin.std()),
                "pressure_gpa": float(run.pressure_gpa[counted].mean()),
                "first_peak_ang": float(rdf.r_ang[int(rdf.g.argmax())]),
                "coordination": float(np.interp(_first_minimum(rdf.r_ang, rdf.g), rdf.r_ang, rdf.coordination)),
                "wall_time_s": run.wall_time_s,
                "ms_per_atom_and_step": 1e3 * run.wall_time_s / (len(run.atoms) * max(run.steps - run.resumed_from, 1)),
                "rdf": rdf.to_dict(),
            }
        )
    record: dict[str, Any] = {
        "n_atoms": n_atoms,
        "ensemble": ENSEMBLE,
        "timestep_fs": TIMESTEP_FS,
        "temperature_k": settings.temperature_k,
        "warmup_ps": warm / 1000.0,
        # The standard deviation of the temperature that the canonical ensemble itself has.
        "canonical_spread_k": settings.temperature_k * float(np.sqrt(2.0 / (3 * n_atoms - 3))),
        "runs": rows,
        "largest_rdf_difference": None,
    }
    if len(curves) == 2:
        (_, one), (_, two) = curves.values()
        record["largest_rdf_difference"] = float(np.abs(one - two).max())
        record["largest_rdf"] = float(max(one.max(), two.max()))
    return record, curves


def _first_minimum(r: NDArray[np.float64], g: NDArray[np.float64]) -> float:
    """Distance where g(r) is lowest between its highest peak and 1.6 times that distance."""
    peak = int(g.argmax())
    window = (r > r[peak]) & (r < 1.6 * r[peak])
    return float(r[window][int(g[window].argmin())])


def verdict(funnel: FunnelResult, best: dict[str, Any], phonon: dict[str, Any]) -> dict[str, Any]:
    """Say what was found, and what that is worth; nothing here decides anything upstream."""
    top = funnel.ranked[0]
    elements = set(top.best.atoms.symbols)
    primitive_atoms = {227: 2}
    diamond = (
        elements <= {"C", "Si", "Ge", "Sn"}
        and len(elements) == 1
        and best["space_group"] == 227
        and best["n_atoms_conventional"] == 4 * primitive_atoms[227]
    )
    return {
        "is_diamond": diamond,
        "found_times": len(top.members),
        "gap_to_second_ev_per_atom": funnel.ranked[1].above_best_ev_per_atom if len(funnel.ranked) > 1 else None,
        "dynamically_stable": phonon["dynamically_stable"],
        "lattice_constant_ang": best["cell"]["a"],
        "pbe_lattice_constant_ang": DIAMOND_PBE_ANG if diamond and elements == {"Si"} else None,
    }


def trusted_neighbors(potential: Any) -> tuple[float, ...]:
    """Return how close neighbours come in the potential's training data, Å, as far as it says."""
    if potential is None:
        return ()
    info = potential.info
    known = info.provenance.get("closest_neighbors_ang") or ([info.min_distance] if info.min_distance else [])
    return tuple(float(d) for d in known)


def describe_potential(potential: Any) -> dict[str, Any] | None:
    """Name, origin and a hash of the weights; None where an ASE calculator stood in."""
    if potential is None:
        return None
    info = potential.info
    return {
        "name": info.name,
        "elements": list(info.elements),
        "cutoff_ang": info.cutoff,
        "layers": info.layers,
        "energy_scale": info.energy_scale,
        "training_data": info.training_data,
        "licence": info.licence,
        "parameters": sum(p.numel() for p in potential.parameters()),
        "weights_sha256": weights_sha256([potential]),
    }


def outside_plot(funnel: FunnelResult) -> int:
    """Count relaxed candidates too high in energy for the energy-volume plot."""
    lowest = min(r.energy_ev_per_atom for r in funnel.relaxed)
    return sum(r.energy_ev_per_atom - lowest > figures.ENERGY_SHOWN for r in funnel.relaxed)


def pictures(
    funnel: FunnelResult,
    phonon: PhononResult,
    runs: dict[str, MDResult],
    rdf_curves: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
    settings: DemoSettings,
) -> dict[str, str]:
    """Draw every figure of the report."""
    place = {r.index: k for k, r in enumerate(funnel.relaxed)}
    labels = {place[r.best.index]: r.best.space_group_symbol or "?" for r in funnel.ranked[:LABELLED]}
    names = {
        engine: "ASE" if engine == "ase" else f"LAMMPS, {settings.ranks} ranks"  # one legend for both figures
        for engine in runs
    }
    drawn = {
        "energy_volume": figures.energy_volume(
            [x.volume_ang3_per_atom for x in funnel.relaxed],
            [x.energy_ev_per_atom for x in funnel.relaxed],
            [x.space_group for x in funnel.relaxed],
            labels,
        ),
        "bands": figures.bands(
            list(zip(phonon.bands.distances_inv_ang, phonon.bands.frequencies_thz, strict=True)),
            _ticks(phonon),
            (phonon.dos.frequency_thz, phonon.dos.states_per_thz),
        ),
    }
    if runs:
        drawn["rdf"] = figures.rdf_overlay({names[engine]: curve for engine, curve in rdf_curves.items()})
        drawn["temperature"] = figures.temperatures(
            {names[engine]: (run.time_fs, run.temperature_k) for engine, run in runs.items()}, settings.temperature_k
        )
    return drawn


def _ticks(phonon: PhononResult) -> list[tuple[float, str]]:
    """Special points; where the path jumps, both labels share a place."""
    ticks: list[tuple[float, str]] = []
    for (start, end), distance in zip(phonon.bands.labels, phonon.bands.distances_inv_ang, strict=True):
        if ticks and abs(ticks[-1][0] - distance[0]) < 1e-9:
            if ticks[-1][1] != start:
                ticks[-1] = (ticks[-1][0], f"{ticks[-1][1]}|{start}")
        else:
            ticks.append((float(distance[0]), start))
        ticks.append((float(distance[-1]), end))
    return ticks


def to_json(record: dict[str, Any]) -> str:
    """Return the record as JSON text without NaN."""
    return json.dumps(jsonable(record), indent=1, allow_nan=False) + "\n"
