"""Run a command and write the most memory it held, in KiB, to FOLDER/RANK.

``python _peak_memory.py FOLDER COMMAND…``, where mpirun starts ranks. The standard library only: it stays beside every
rank.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> int:
    folder, *command = sys.argv[1:]
    rank = os.environ.get("PMI_RANK", "0")
    child = os.fork()
    if child == 0:
        os.execv(command[0], command)  # with the open files by which ranks find each other
    _, status, usage = os.wait4(child, 0)
    (Path(folder) / rank).write_text(str(usage.ru_maxrss), encoding="utf-8")
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    raise SystemExit(main())
