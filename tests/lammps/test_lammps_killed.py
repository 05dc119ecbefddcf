"""LAMMPS does not outlive the Python that started it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ase.build import bulk

from mlcalc.lammps.box import make_box
from mlcalc.lammps.data import atom_types, model_lines, setup_lines, write_data

# In a thread, as in a server or a notebook.
SCRIPT = """
import sys, threading
from pathlib import Path
from mlcalc.lammps.run import run_input
folder = Path(sys.argv[1])
text = (folder / "input").read_text()
thread = threading.Thread(target=run_input, args=(text, folder, int(sys.argv[2])))
thread.start()
thread.join()
"""


def running(folder: Path) -> list[str]:
    """Programs at work in a folder."""
    names = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve() == folder and "State:\tZ" not in (process / "status").read_text():
                names.append((process / "comm").read_text().strip())
        except OSError:  # another user's, or gone meanwhile
            continue
    return sorted(names)


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_python_takes_lammps_along(ranks: int, equivariant_file: Path, tmp_path: Path) -> None:
    atoms = bulk("Si", cubic=True)
    box = make_box(atoms)
    write_data(atoms, tmp_path / "structure.data", box=box)
    lines = [
        *setup_lines(box, tmp_path / "structure.data"),
        *model_lines(equivariant_file, atom_types(atoms)),
        "fix 1 all nve",
        "run 1",
        # Not a word from here on: a program that prints to a dead reader ends by itself.
        "thermo 100000000",
        f'print "started" file {tmp_path}/started screen no',
        "timer timeout 0:02:00 every 10",  # should the test fail
        "run 100000000",
    ]
    (tmp_path / "input").write_text("\n".join(lines) + "\n")
    python = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path), str(ranks)])
    try:
        assert wait_for((tmp_path / "started").is_file, 120)
        time.sleep(1)
        assert running(tmp_path).count("lmp") == ranks
    finally:
        python.kill()
        python.wait()
    assert wait_for(lambda: not running(tmp_path), 20), running(tmp_path)
