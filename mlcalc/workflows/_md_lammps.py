"""The LAMMPS engine: the same call and record through ``pair_style mlcalc``.

A run is cut into segments of ``checkpoint_interval`` steps, each ending in a restart file that takes its name only
once it is whole. Thermostat chains and Bussi's random state travel in LAMMPS' restart files; the Langevin thermostat,
which keeps nothing there, is seeded anew at the start of every segment from the seed and the step, so that a continued
run draws the same numbers as an unbroken one.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import write_extxyz
from numpy.typing import NDArray

from mlcalc.errors import NonFiniteError, WorkflowError
from mlcalc.files import atomic_path, write_atomic
from mlcalc.lammps.box import LammpsBox, make_box
from mlcalc.lammps.data import atom_types, model_lines, setup_lines, write_data
from mlcalc.lammps.run import model_files, run_input
from mlcalc.workflows._md_record import COLUMNS, format_row
from mlcalc.workflows._md_settings import MDSettings, degrees_of_freedom

SUBFOLDER = "lammps"
_GPA_PER_BAR = 1e-4
_CELL = ("lx", "ly", "lz", "xy", "xz", "yz")
_THERMO = ("step", "ke", "pe", "press", "vol", *_CELL)
_ATOM_COLUMNS = "id xu yu zu vx vy vz fx fy fz"
_FINAL = "final.dump"
_SEEDS = 400_000_000  # LAMMPS takes seeds up to 900 000 000

Array = NDArray[np.float64]


def run_lammps(
    atoms: Atoms,
    potential: Any,
    settings: MDSettings,
    dtype: str | None,
    folder: Path,
    identity: dict[str, Any],
    progress: Callable[[int, int], None] | None,
) -> tuple[int, Atoms]:
    """Run up to ``settings.steps``; return the step begun at and the last state.

    Writes ``log.csv`` and ``trajectory.extxyz`` as the ASE engine does, and LAMMPS' own files under ``lammps/``.

    Args:
        atoms: with momenta.
        potential: name, file, ``Potential``, a list of these, or ``MLCalculator``.
        settings: checked options.
        dtype: of a model file written for this run; None for the one a calculator has.
        folder: of the run.
        identity: what a continuation must agree in.
        progress: called with (step, steps).

    Raises:
        WorkflowError: a calculator that LAMMPS cannot run.
        LammpsError: LAMMPS stopped.
        NonFiniteError: energies became NaN or infinite.
    """
    check_potential(potential)
    work = folder / SUBFOLDER
    work.mkdir(exist_ok=True)
    _refuse_second_process(work)
    begin = _last_restart(work)
    box, types = make_box(atoms), atom_types(atoms)
    if begin == 0:
        write_atomic(work / "identity.json", json.dumps(identity))
    if begin < settings.steps or begin == 0:
        sources = list(potential.potentials) if hasattr(potential, "get_potential_energy") else potential
        model = model_files(sources, work, dtype, sorted(set(atoms.get_chemical_symbols())))
        if begin == 0:
            write_data(atoms, work / "structure.data", "metal", types, box, velocities=True)
            start = setup_lines(box, work / "structure.data", "metal")
            if settings.ensemble == "npt-mtk" and settings.npt_cell == "full":
                start.append("change_box all triclinic")
        else:
            start = ["newton on", f'read_restart "restart.{begin}"']
        for path in (*work.glob("thermo-*"), *work.glob("frames-*")):
            if int(path.name.split("-")[1]) >= begin:
                path.unlink()
        lines = [*start, *model_lines(model, types), *_integrate_lines(settings, begin)]
        with _watch(work / _piece("thermo", begin), settings.steps, progress):
            run_input("\n".join(lines) + "\n", work, settings.ranks)
    thermo = _read_thermo(work)
    _write_log(thermo, atoms, settings, folder)
    _write_trajectory(thermo, atoms, box, settings, folder)
    step, table = next(_dump_frames(work / _FINAL, len(atoms)))
    last = _frame(step, table, thermo[step], atoms, box, settings)
    last.calc = None
    return begin, last


def check_potential(potential: Any) -> None:
    """Raise WorkflowError for a calculator that ``pair_style mlcalc`` alone cannot stand for."""
    if not hasattr(potential, "get_potential_energy"):
        return
    if not getattr(potential, "potentials", ()):
        raise WorkflowError(
            f"engine='lammps' runs potentials, not the calculator {type(potential).__name__}: give a name, a file, "
            "a Potential, or an MLCalculator"
        )
    dispersion = getattr(potential, "parameters", {}).get("dispersion")
    if dispersion is not None:
        raise WorkflowError(
            f"engine='lammps' runs potentials, without the dispersion ({dispersion}) of this calculator: use "
            "engine='ase', or an input of your own with pair_style hybrid/overlay mlcalc dispersion/d3"
        )


def read_identity(folder: Path) -> tuple[int, dict[str, Any]] | None:
    """Return (step, identity) of the run in ``folder``, or None."""
    path = folder / SUBFOLDER / "identity.json"
    if not path.exists():
        return None
    return _last_restart(folder / SUBFOLDER), json.loads(path.read_text(encoding="utf-8"))


def _integrate_lines(settings: MDSettings, begin: int) -> list[str]:
    """Fixes, output and the segments from ``begin`` to the last step. Units metal: ps, bar."""
    tau, barostat = settings.tau_fs / 1000.0, settings.barostat_tau_fs / 1000.0
    t = f"{settings.temperature_k:.17g}"
    reseed = ""
    if settings.ensemble == "npt-mtk":
        p = f"{settings.pressure_gpa / _GPA_PER_BAR:.17g}"
        cell = f"iso {p} {p} {barostat:.17g}"
        if settings.npt_cell == "full":
            cell = f"tri {p} {p} {barostat:.17g} flip no"
        fixes = [f"fix move all npt temp {t} {t} {tau:.17g} {cell} fixedpoint 0 0 0"]
    else:
        fixes = ["fix move all nve"]
        seed = 1 + settings.seed * 7_368_787 % _SEEDS
        if settings.ensemble == "nvt-bussi":
            fixes.append(f"fix bath all temp/csvr {t} {t} {tau:.17g} {seed}")
        elif settings.ensemble == "nvt-langevin":
            command = f"fix bath all langevin {t} {t} {tau:.17g} %s zero yes"
            fixes.append(command % (seed + 1009 * begin % _SEEDS))
            reseed = command % f"$({seed}+(1009*step)%{_SEEDS})"
    last = settings.steps

    def segment_end(previous: str) -> str:
        commands = [
            "write_restart restart.tmp",
            "shell mv restart.tmp restart.$(step)",
            f"shell rm -f restart.{previous}",
        ]
        return " ".join(f'"{command}"' for command in [*commands, *([reseed] if reseed else [])])

    interval = settings.checkpoint_interval
    aligned = min(-(-begin // interval) * interval, last)
    whole = (last - aligned) // interval * interval
    runs = []
    done = begin
    if aligned > begin:
        runs.append(f"run {aligned - begin} every {aligned - begin} {segment_end(str(done))}")
        done = aligned
    if whole > 0:
        runs.append(f"run {whole} every {interval} {segment_end(f'$(step-{interval})')}")
        done += whole
    if last > done or last == begin:
        # Not a whole segment: extended later, it starts from here.
        rest = last - done
        runs.append(f"run {rest} every {max(rest, 1)} {segment_end(str(done))}" if rest else "run 0")
    return [
        f"timestep {settings.timestep_fs / 1000.0:.17g}",
        *fixes,
        f"thermo_style custom {' '.join(_THERMO)}",
        "thermo_modify format float %.17g flush yes",
        f"thermo {settings.log_interval}",
        f"dump frames all custom {settings.trajectory_interval} {_piece('frames', begin)} {_ATOM_COLUMNS}",
        "dump_modify frames sort id format float %.17g first yes",
        f"log {_piece('thermo', begin)}",
        *runs,
        f"write_dump all custom {_FINAL} {_ATOM_COLUMNS} modify sort id format float %.17g",
    ]


def _piece(kind: str, begin: int) -> str:
    return f"{kind}-{begin:012d}"


def _last_restart(work: Path) -> int:
    steps = [int(path.suffix[1:]) for path in work.glob("restart.*") if path.suffix[1:].isdigit()]
    return max(steps, default=0)


def _refuse_second_process(work: Path) -> None:
    """Two LAMMPS in one folder would write over each other: another run's, or one that outlived its Python.

    The latter only where there is no ``prctl`` (``lammps/_tied.py``). Both are seen through /proc.
    """
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            running = os.readlink(entry / "cwd") == str(work.resolve()) and b"in.lammps" in (
                entry / "cmdline"
            ).read_bytes().split(b"\0")
        except OSError:
            continue
        if running:
            raise WorkflowError(
                f"LAMMPS (process {entry.name}) of an earlier call still runs in {work}: let it finish, or end it"
            )


@contextmanager
def _watch(path: Path, steps: int, progress: Callable[[int, int], None] | None) -> Iterator[None]:
    """Report the last step in LAMMPS' log while the block runs."""
    if progress is None:
        yield
        return
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.5):
            rows = _thermo_rows(path)
            if rows:
                progress(int(rows[-1][0]), steps)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    progress(steps, steps)


def _thermo_rows(path: Path) -> list[list[float]]:
    """Rows of numbers in a LAMMPS log, whole lines only."""
    rows = []
    if path.exists():
        for line in path.read_text(errors="replace").splitlines(keepends=True):
            words = line.split()
            if len(words) == len(_THERMO) and line.endswith("\n") and words[0].isdigit():
                try:
                    rows.append([float(word) for word in words])
                except ValueError:
                    continue
    return rows


def _read_thermo(work: Path) -> dict[int, dict[str, float]]:
    """Rows by step; a later piece replaces what a killed one wrote after its last restart file."""
    found: dict[int, dict[str, float]] = {}
    for path in sorted(work.glob("thermo-*")):
        begin = int(path.name.split("-")[1])
        found = {step: row for step, row in found.items() if step <= begin}
        for row in _thermo_rows(path):
            found.setdefault(int(row[0]), dict(zip(_THERMO, row, strict=True)))
    return found


def _write_log(thermo: dict[int, dict[str, float]], atoms: Atoms, settings: MDSettings, folder: Path) -> None:
    dof = degrees_of_freedom(atoms)
    periodic = bool(atoms.pbc.all())
    lines = [",".join(COLUMNS) + "\n"]
    for step in sorted(thermo):
        row = thermo[step]
        if step % settings.log_interval or step > settings.steps:
            continue
        kinetic, potential = row["ke"], row["pe"]
        if not np.isfinite([kinetic, potential]).all():
            raise NonFiniteError(
                f"MD broke at step {step}: potential energy {potential} eV, kinetic energy {kinetic} eV. "
                "Try a smaller timestep, or relax the structure first."
            )
        lines.append(
            format_row(
                (
                    step,
                    step * settings.timestep_fs,
                    2.0 * kinetic / (dof * units.kB),
                    potential,
                    kinetic,
                    potential + kinetic,
                    row["press"] * _GPA_PER_BAR if periodic else float("nan"),
                    row["vol"] if periodic else float("nan"),
                )
            )
        )
    write_atomic(folder / "log.csv", "".join(lines))


def _write_trajectory(
    thermo: dict[int, dict[str, float]], atoms: Atoms, box: LammpsBox, settings: MDSettings, folder: Path
) -> None:
    """Turn LAMMPS' dumps into ``trajectory.extxyz``."""
    pieces = sorted((folder / SUBFOLDER).glob("frames-*"))
    with atomic_path(folder / "trajectory.extxyz") as temporary, temporary.open("w", encoding="utf-8") as file:
        for index, piece in enumerate(pieces):
            following = int(pieces[index + 1].name.split("-")[1]) if index + 1 < len(pieces) else settings.steps + 1
            begin = int(piece.name.split("-")[1])
            for step, table in _dump_frames(piece, len(atoms)):
                # The frame at a continuation's first step is already there; later ones belong to the next piece.
                if step > following or (step == begin and index > 0) or step % settings.trajectory_interval:
                    continue
                text = StringIO()
                write_extxyz(text, [_frame(step, table, thermo[step], atoms, box, settings)])
                file.write(text.getvalue())


def _frame(step: int, table: Array, row: dict[str, float], atoms: Atoms, box: LammpsBox, settings: MDSettings) -> Atoms:
    cell = atoms.cell.array
    if settings.ensemble == "npt-mtk":
        lx, ly, lz, xy, xz, yz = (row[name] for name in _CELL)
        cell = box.cell_to_ase(np.array([[lx, 0.0, 0.0], [xy, ly, 0.0], [xz, yz, lz]]))
    frame = Atoms(atoms.numbers, positions=box.vectors_to_ase(table[:, 0:3]), cell=cell, pbc=atoms.pbc)
    frame.set_masses(atoms.get_masses())
    frame.set_velocities(box.vectors_to_ase(table[:, 3:6]) / (1000.0 * units.fs))
    frame.info.update(step=step, time_fs=step * settings.timestep_fs)
    frame.calc = SinglePointCalculator(frame, energy=row["pe"], forces=box.vectors_to_ase(table[:, 6:9]))
    return frame


def _dump_frames(path: Path, count: int) -> Iterator[tuple[int, Array]]:
    """Yield (step, (N, 9) numbers sorted by atom) of the whole frames in a dump; half a frame at the end is left."""
    with open(path, encoding="utf-8") as file:
        while True:
            head = [file.readline() for _ in range(9)]
            body = [file.readline() for _ in range(count)]
            if not body[-1].endswith("\n"):
                return
            yield int(head[1]), np.array([[float(word) for word in line.split()[1:]] for line in body])
