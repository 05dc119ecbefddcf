"""Started as ``python _tied.py PARENT COMMAND…``: become COMMAND, and end (SIGKILL) when process PARENT does.

LAMMPS would otherwise go on alone, for days perhaps, when the Python that started it is killed. A program of its own
rather than a hook between fork and exec, where nothing may run that another thread could hold a lock on. Only the
standard library: it runs without site-packages.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h; it survives exec


def tied(command: list[str]) -> list[str]:
    """Return the command that runs ``command`` and ends with this process; ``command`` itself where Linux is not.

    Linux watches the thread that starts it, so that thread has to wait for it.
    """
    if not sys.platform.startswith("linux") or not sys.executable:
        return command
    return [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(os.getpid()), *command]


def _become(parent: int, command: list[str]) -> None:
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended before the line above
            sys.exit(f"the process that started {command[0]} has ended")
    os.execv(command[0], command)


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
