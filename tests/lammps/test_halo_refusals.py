"""What cannot run on several ranks ends with the reason, on all of them."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from halo_cases import long, pair, run_lines
from lammps_structures import rewrite
from plain_networks import Failing, Forking

from mlcalc.deploy import export
from mlcalc.errors import LammpsError
from mlcalc.lammps.run import run_input, run_static


def test_exchange_is_refused_for_a_model_that_does_not(files: dict[str, Path]) -> None:
    expected = "plain has 2 layers and does not exchange features .* which 2 ranks need; use 'pair_style mlcalc halo'"
    with pytest.raises(LammpsError, match=expected):
        run_static(long(), files["plain-2"], ranks=2, options="exchange")
    run_static(long(), files["plain-2"], ranks=1, options="exchange")


def test_a_wrong_mode_is_named(files: dict[str, Path]) -> None:
    with pytest.raises(
        LammpsError, match="unknown or incomplete option 'halos'; options are 'exchange', 'halo', 'auto'"
    ):
        run_static(long(), files["plain-2"], options="halos")


def test_bonds_that_hide_pairs_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    """LAMMPS takes them off the rows of atoms and not of ghosts, so that ranks would see different graphs."""
    more = ["create_box 2 box bond/types 1", "create_atoms 1 region box", "mass * 28"]
    first = ["units metal", "atom_style bond", "region box block 0 5 0 5 0 30", *more[:1], "lattice diamond 5.43"]
    lines = [*first, *more[1:], *pair(files["plain-2"]), "run 0"]
    with pytest.raises(LammpsError, match="a halo needs 'special_bonds lj/coul 1 1 1'"):
        run_input("\n".join(lines), tmp_path, 2)
    assert "mlcalc: halo" in run_input("\n".join(["special_bonds lj/coul 1 1 1", *lines]), tmp_path, 2).output


def test_modes_that_cannot_be(files: dict[str, Path], tmp_path: Path) -> None:
    first = ["neighbor 2.0 multi", "comm_modify mode multi"]
    with pytest.raises(LammpsError, match="a halo does not work with 'comm_modify mode multi'"):
        run_lines(long(), [*first, *pair(files["plain-2"])], tmp_path, 2, "run 0")


def crowded() -> Atoms:
    """Two atoms close together, far from the border between two ranks along z."""
    atoms = bulk("Si", cubic=True).repeat((1, 1, 6))
    atoms.append("Si")
    atoms.positions[-1] = atoms.positions[np.argmin(np.abs(atoms.positions[:, 2] - 24.0))] + [0.5, 0.3, 0.0]
    return atoms


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("raise", "no such environment"),
        ("memory", "can't allocate memory|not enough memory|DefaultCPUAllocator"),
        ("nan", "is nan at step 0"),
    ],
)
def test_a_rank_that_fails_alone_ends_the_run(way: str, expected: str, tmp_path: Path) -> None:
    """The other rank waits in an exchange; the run must end with the reason and not hang."""
    export(Failing(way).double(), tmp_path / "failing.pt")
    start = time.monotonic()
    with pytest.raises(LammpsError, match=expected):
        run_static(crowded(), tmp_path / "failing.pt", ranks=2, processors="1 1 2")
    assert time.monotonic() - start < 60


def test_an_exchange_on_a_foreign_thread_is_refused(tmp_path: Path) -> None:
    """It would be left out in silence, or talk to MPI from a thread that must not."""
    export(Forking().double(), tmp_path / "forking.pt")
    atoms = bulk("Si", cubic=True).repeat((1, 1, 3))
    run_static(atoms, tmp_path / "forking.pt")
    with pytest.raises(LammpsError, match="mlcalc::exchange was called on a foreign thread"):
        run_static(atoms, tmp_path / "forking.pt", ranks=2)


def test_the_member_that_cannot_exchange_is_named(files: dict[str, Path], tmp_path: Path) -> None:
    """One of a committee; all run in a halo then."""
    rewrite(files["schnet"], tmp_path / "family.pt", lambda document: document.__setitem__("exchange_width", -1))
    silent, family = files["plain-2"], tmp_path / "family.pt"
    output = run_lines(long(), pair(f"{files['equivariant']} {silent}"), tmp_path, 2, "run 0")
    assert f"mlcalc: halo of 12 Angstrom for all members, as {silent} does not exchange: " in output
    for other, message in (
        (silent, f"{silent} has 2 layers and does not exchange features"),
        (family, f"the parts of {family} exchange different numbers per atom"),
    ):
        with pytest.raises(LammpsError, match=re.escape(message)):
            run_lines(long(), pair(f"{files['equivariant']} {other}", "exchange"), tmp_path, 2, "run 0")
