"""The other environment of the tests of remote calculators, and what they share."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.build import bulk

NEW = sys.version_info >= (3, 12)  # for which there is no such old numpy
OLD_ASE = "3.23.0" if NEW else "3.22.1"
PACKAGES = [f"ase=={OLD_ASE}", *(["numpy<2.2", "scipy<1.15"] if NEW else ["numpy<2", "scipy<1.14"])]
LJ = "ase.calculators.lj:LennardJones"
ARGON = {"sigma": 3.4, "epsilon": 0.0104, "rc": 8.0}
FACTORIES = str(Path(__file__).parent / "remote_factories.py")


def make_environment(folder: Path) -> str:
    """Return the interpreter of a new environment with an old ASE and numpy."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    other = str(folder / "bin" / "python")
    install = [other, "-m", "pip", "install", "-q", "--no-deps", "--only-binary", ":all:", *PACKAGES]
    subprocess.run(install, check=True, env=clean())
    return other


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def copper(first: float | None = None) -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    if first is not None:
        atoms.cell[0, 0] = first
    return atoms


def gone(pid: int | None, within: float = 5.0) -> bool:
    """Whether no process ``pid`` is left, not even a zombie."""
    assert pid is not None
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def later(action: Callable[[], Any], delay: float = 0.7) -> threading.Timer:
    timer = threading.Timer(delay, action)
    timer.start()
    return timer
