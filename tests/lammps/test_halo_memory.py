"""A halo that does not fit into memory is refused, with numbers that hold."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from ase.neighborlist import neighbor_list
from halo_cases import long, pair, plain, run_lines
from lammps_structures import ELEMENTS, rewrite

from mlcalc.deploy import export
from mlcalc.errors import LammpsError
from mlcalc.lammps._wheels import mpich_file
from mlcalc.lammps.box import make_box
from mlcalc.lammps.data import atom_types, setup_lines, write_data
from mlcalc.lammps.run import environment, run_static


def test_too_much_memory_is_refused_before_the_first_evaluation(files: dict[str, Path], tmp_path: Path) -> None:
    """All ranks end at once, with the number; a limit just above it lets the run go on."""
    output = run_lines(long(), pair(files["equivariant"], "halo"), tmp_path / "free", 2, "run 0")
    needed = float(re.search(r"([\d.e-]+) GiB on a node of [\d.e+]+ GiB free", output).group(1))
    assert 1e-4 < needed < 1.0
    run_lines(long(), pair(files["equivariant"], f"halo halo_memory {1.1 * needed:.6g}"), tmp_path / "more", 2, "run 0")
    expected = rf"{needed:g} GiB on a node of [\d.e-]+ GiB allowed by halo_memory: not enough. Use more nodes"
    with pytest.raises(LammpsError, match=expected) as caught:
        run_lines(
            long(), pair(files["equivariant"], f"halo halo_memory {0.9 * needed:.6g}"), tmp_path / "less", 2, "run 0"
        )
    assert "on proc" not in str(caught.value)
    with pytest.raises(LammpsError, match="halo_memory must be a positive number of GiB"):
        run_static(long(), files["plain-2"], options="halo_memory 0")


def test_measured_memory_grows_with_the_edges(files: dict[str, Path], tmp_path: Path) -> None:
    """Twice the atoms in the same halo take more by what atoms take: the estimate is linear in edges."""
    found = []
    for repeats in (10, 20, 40):
        output = run_lines(long(repeats), pair(files["equivariant"], "halo"), tmp_path / str(repeats), 2, "run 0")
        found.append(float(re.search(r"([\d.e-]+) GiB on a node", output).group(1)))
    assert found[2] - found[1] == pytest.approx(2 * (found[1] - found[0]), rel=0.1)


def needed(output: str) -> float:
    return float(re.search(r"([\d.e+-]+) GiB on a node", output).group(1))


def test_a_refusal_stands_and_a_changed_limit_counts(files: dict[str, Path], tmp_path: Path) -> None:
    """Also at the second try of a program that catches the error, and from a restart file."""
    small = pair(files["plain-2"], "halo halo_memory 1e-9")
    expected = "allowed by halo_memory: not enough"
    with pytest.raises(LammpsError, match=expected):
        run_lines(long(), pair(files["plain-2"], "halo"), tmp_path / "changed", 2, "run 0", small[0], "run 0")
    more = ["write_restart now", "clear", "read_restart now", small[1], "run 0"]
    with pytest.raises(LammpsError, match=expected):
        run_lines(long(), small, tmp_path / "restart", 2, *more)
    atoms = long()
    box = make_box(atoms)
    write_data(atoms, tmp_path / "structure.data", types=atom_types(atoms, ELEMENTS), box=box)
    setup = [*setup_lines(box, tmp_path / "structure.data", processors="1 1 *"), *small]
    script = tmp_path / "again.py"
    script.write_text(
        "from mlcalc.lammps.run import open_library\n"
        "lmp = open_library()\n"
        f"lmp.commands_list({setup!r})\n"
        "for _ in range(3):\n"
        "    try:\n"
        "        lmp.command('run 0')\n"
        "    except Exception as problem:\n"
        "        print(problem, flush=True)\n"
        "lmp.close()\n"
    )
    command = [mpich_file("mpirun"), "-n", "2", sys.executable, str(script)]
    result = subprocess.run(
        [*map(str, command)], env=environment(), capture_output=True, text=True, timeout=120, check=True
    )
    assert result.stdout.count(expected) == 2 * 3


def test_a_committee_takes_what_its_members_take(tmp_path: Path) -> None:
    """Members run one after the other: the heaviest on its own edges, and what is kept of each for each edge."""
    atoms = long(120)
    export(plain(2, channels=48), tmp_path / "heavy.pt")
    export(plain(2, cutoff=6.0, channels=1), tmp_path / "light.pt")
    # alone, but with the centres that the light one asks for, and some more
    rewrite(tmp_path / "heavy.pt", tmp_path / "larger.pt", lambda document: document["info"].__setitem__("layers", 3))
    outputs = {}
    for names in ("larger", "light", "heavy.pt light", "light.pt light"):
        lines = ["pair_style mlcalc halo", f"pair_coeff * * {names}.pt Si Mo"]
        outputs[names] = run_lines(atoms, lines, tmp_path, 2, "run 0")
    alone, light, both, twice = map(needed, outputs.values())
    edges = float(re.search(r"([\d.]+) times the edges", outputs["light"]).group(1)) * len(
        neighbor_list("i", atoms, 6.0)
    )
    # gradients and differences of two members and the mean, in double precision; edges of their own graphs at most
    least, most = (1.25 * edges * size / 2**30 for size in (2 * 48 + 24, 2 * 120 + 24))
    assert light + least < twice < light + most
    assert 0.95 * alone + least < both < alone + most
    assert most < 0.4 * alone
