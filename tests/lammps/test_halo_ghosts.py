"""How far ghosts reach for a halo, and what becomes of it afterwards."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ase.build import bulk
from ase.neighborlist import neighbor_list
from halo_cases import CUTOFF, long, pair, run_lines
from lammps_structures import ELEMENTS

from mlcalc.lammps.box import make_box
from mlcalc.lammps.data import setup_lines, write_data
from mlcalc.lammps.run import run_input


@pytest.mark.parametrize("layers", [2, 3])
def test_the_halo_holds_what_is_within_reach_and_no_more(layers: int, files: dict[str, Path], tmp_path: Path) -> None:
    """Ghosts and edges counted by hand, breadth first."""
    atoms = long(10)
    output = run_lines(atoms, pair(files[f"plain-{layers}"]), tmp_path, 2, "run 0")
    line = next(line for line in output.splitlines() if line.startswith("mlcalc: halo"))
    ghosts, times = re.search(r"(\d+) ghosts for \d+ atoms on 2 ranks, ([\d.]+) times the edges", line).groups()
    centre, neighbour = neighbor_list("ij", atoms, CUTOFF)
    upper = atoms.get_scaled_positions()[:, 2] >= 0.5
    expected = edges = 0
    for owned in (upper, ~upper):
        reached = owned
        for _ in range(layers):
            rows = reached[centre]
            reached = reached.copy()
            reached[neighbour[rows]] = True
        expected += int((reached & ~owned).sum())
        edges += int(rows.sum())
    assert int(ghosts) == expected
    assert float(times) == pytest.approx(edges / len(centre), abs=0.006)
    assert expected < len(atoms)


def test_auto_takes_the_cheapest_that_is_right(
    files: dict[str, Path], lennard_jones_file: Path, tmp_path: Path
) -> None:
    """A halo for a model without the operator on several ranks; no ghosts beyond one cutoff in all other cases."""
    atoms = long()
    reach = {}
    for model, ranks, options in (
        ("plain-3", 2, ""),
        ("plain-3", 1, "halo"),
        ("equivariant", 2, ""),
        ("equivariant", 2, "halo"),
        ("equivariant", 2, "exchange"),
    ):
        output = run_lines(atoms, pair(files[model], options), tmp_path / f"{model}{ranks}{options}", ranks, "run 0")
        reach[model, ranks, options] = float(output.split("ghost atom cutoff = ")[1].split()[0])
        assert ("mlcalc: halo" in output) == (reach[model, ranks, options] > 10)
    assert list(reach.values()) == [14.0, 6.0, 6.0, 14.0, 6.0]  # skin 2 Å
    argon = bulk("Ar", a=5.2, cubic=True).repeat((2, 2, 4))
    lines = ["pair_style mlcalc halo", f"pair_coeff * * {lennard_jones_file} Ar"]
    box = make_box(argon)
    write_data(argon, tmp_path / "structure.data", box=box)
    output = run_input("\n".join([*setup_lines(box, tmp_path / "structure.data"), *lines, "run 0"]), tmp_path, 2).output
    assert "ghost atom cutoff = 7" in output
    assert "halo" not in output


LENNARD_JONES = ["pair_style lj/cut 4.0", "pair_coeff * * 0.01 2.0", "run 0"]


def reaches(output: str) -> list[str]:
    return re.findall(r"ghost atom cutoff = ([\d.]+)", output)


def test_ghosts_are_given_back(files: dict[str, Path], tmp_path: Path) -> None:
    """The next pair style gets what the user asked for, from a restart file too."""
    halo = pair(files["plain-2"])
    more = ["run 0", *LENNARD_JONES, *halo, "run 0", "write_restart now", "clear", "read_restart now", *LENNARD_JONES]
    output = run_lines(long(), ["comm_modify cutoff 7.5", *halo], tmp_path, 2, *more)
    assert reaches(output) == ["10", "7.5", "10", "7.5"]


def test_two_halos_give_back_what_was_before_both(files: dict[str, Path], tmp_path: Path) -> None:
    elements = " ".join(ELEMENTS)
    both = [
        "pair_style hybrid/overlay mlcalc halo mlcalc halo",
        f"pair_coeff * * mlcalc 1 {files['plain-2']} {elements}",
        f"pair_coeff * * mlcalc 2 {files['plain-3']} {elements}",
    ]
    restart = ["write_restart now", "clear", "read_restart now"]
    for user, more in (("7.5", []), ("7.5", restart), ("8.5", ["comm_modify cutoff 8.5", "run 0"])):
        lines = [*both, "run 0", *more, *LENNARD_JONES]
        assert reaches(run_lines(long(), ["comm_modify cutoff 7.5"], tmp_path, 2, *lines)) == ["14", user]
