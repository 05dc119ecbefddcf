"""Environments of the peers: made on first use from ``environments/NAME.txt``, kept under a folder."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "environments"
ONE_THREAD = dict.fromkeys(
    (
        *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"),
        *("TF_INTRA_OP_PARALLELISM_THREADS", "TF_INTER_OP_PARALLELISM_THREADS"),
        *("DP_INTRA_OP_PARALLELISM_THREADS", "DP_INTER_OP_PARALLELISM_THREADS"),
    ),
    "1",
)
_OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LAMMPS_PLUGIN_PATH", "LD_LIBRARY_PATH")


class Unavailable(Exception):
    """A peer cannot be measured here; the message says why."""


def process_environment(folder: Path | None) -> dict[str, str]:
    """Return the variables for programs of the environment in ``folder``; None is this one."""
    variables = {**os.environ, **ONE_THREAD, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "2"}
    if folder is not None:
        variables = {name: value for name, value in variables.items() if name not in _OURS}
        variables["PATH"] = f"{folder / 'bin'}:{variables['PATH']}"
    return variables


def run(command: list[str], folder: Path | None, cwd: Path | None = None, log: Path | None = None) -> str:
    """Run a program of an environment and return what it printed.

    Raises:
        Unavailable: it failed; with the last lines of its output, and ``log``, which holds all.
    """
    done = subprocess.run(
        command,
        cwd=cwd,
        env=process_environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if log:
        log.write_text(done.stdout, encoding="utf-8")
    if done.returncode:
        raise Unavailable(f"{Path(command[0]).name} {command[1]} failed: {reason(done.stdout)}")
    return done.stdout


def reason(output: str) -> str:
    """Return the lines of an output that say what went wrong, without addresses."""
    lines = [re.sub(r"\w+://\S+", "…", line.strip()) for line in output.splitlines() if line.strip()]
    wrong = [line for line in lines if re.search(r"error", line, re.IGNORECASE)]
    return " | ".join((wrong or lines)[-2:])[-400:] or "no output"


def make(name: str, folder: Path) -> Path:
    """Return the environment ``name`` under ``folder``, made first unless it is there with the same requirements.

    Raises:
        Unavailable: it cannot be made.
    """
    requirements = REQUIREMENTS / f"{name}.txt"
    text = requirements.read_bytes() + sys.version.encode()
    place = folder / f"{name}-{hashlib.sha256(text).hexdigest()[:10]}"
    if (place / "complete").is_file():
        return place
    print(f"making the environment {name} …", flush=True)
    shutil.rmtree(place, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    run([sys.executable, "-m", "venv", str(place)], None)
    pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "-r", str(requirements)], place, log=place / "pip.log")
    (place / "complete").touch()
    return place
