"""What the pair style warns of: structures outside the training data, and another torch."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from lammps_structures import rewrite

from mlcalc.lammps.box import make_box
from mlcalc.lammps.data import atom_types, model_lines, setup_lines, write_data
from mlcalc.lammps.run import run_input, run_static

CLOSE = re.compile(
    r"pair mlcalc: atom IDs (\d+) and (\d+) are (\S+) Angstrom apart at step (\d+), .* in training (\S+):"
)


def trained_to(distance: float, source: Path, folder: Path) -> Path:
    """The model file with another closest distance of the training data."""
    target = folder / f"closest-{distance}.pt"
    rewrite(source, target, lambda d: d["info"].__setitem__("min_distance", distance))
    return target


def run(atoms: Atoms, file: Path, lines: list[str], folder: Path, ranks: int = 1) -> str:
    folder.mkdir(exist_ok=True)
    box = make_box(atoms)
    write_data(atoms, folder / "structure.data", box=box)
    setup = setup_lines(box, folder / "structure.data")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run_input("\n".join([*setup, *model_lines(file, atom_types(atoms)), *lines]), folder, ranks, 120).output


def warned(output: str) -> list[tuple[int, int, float, int, float]]:
    return [(int(i), int(j), float(r), int(n), float(known)) for i, j, r, n, known in CLOSE.findall(output)]


@pytest.mark.parametrize("ranks", [1, 3])
def test_one_warning_per_run_names_the_closest_pair(ranks: int, equivariant_file: Path, tmp_path: Path) -> None:
    atoms = bulk("Si", cubic=True) * (4, 1, 1)
    atoms.rattle(0.05, seed=2)
    atoms.positions[27] += 0.1 * (atoms.positions[25] - atoms.positions[27])  # in the upper half: on the last rank
    distances = atoms.get_all_distances(mic=True) + np.diag([9.0] * len(atoms))
    i, j = sorted(int(k) + 1 for k in np.unravel_index(np.argmin(distances), distances.shape))
    closest = distances.min()
    assert (distances < 2.3).sum() > 4  # more than one pair to warn of
    file = trained_to(3.0, equivariant_file, tmp_path)
    lines = ["fix 1 all nve", "run 3", "run 3"]
    first, second = warned(run(atoms, file, lines, tmp_path / "run", ranks))
    assert first == (i, j, pytest.approx(closest, abs=1e-4), 0, 3.0)
    assert second[3:] == (3, 3.0)
    for known, expected in ((closest / 0.8 - 1e-3, 0), (closest / 0.8 + 1e-3, 1)):
        file = trained_to(known, equivariant_file, tmp_path)
        assert len(warned(run(atoms, file, ["run 0"], tmp_path / "run", ranks))) == expected


def test_the_warning_comes_when_atoms_have_come_close(equivariant_file: Path, tmp_path: Path) -> None:
    """3 Å apart, 0.06 Å closer at each step, 0.8 × 3.5 Å known: step 4."""
    atoms = Atoms("Si2", positions=[[1, 1, 1], [4, 1, 1]], cell=[20] * 3, pbc=True)
    lines = ["timestep 0.001", "group 2 id 2", "fix 1 2 move linear -60 0 0", "run 10"]
    output = run(atoms, trained_to(3.5, equivariant_file, tmp_path), lines, tmp_path / "run")
    assert warned(output) == [(1, 2, 2.76, 4, 3.5)]


@pytest.mark.parametrize("ranks", [1, 2])
def test_python_passes_the_warning_on(ranks: int, equivariant_file: Path, tmp_path: Path) -> None:
    atoms = bulk("Si", cubic=True)
    with pytest.warns(UserWarning, match=r"LAMMPS WARNING: pair mlcalc: atom IDs .* Angstrom apart") as caught:
        run_static(atoms, trained_to(3.0, equivariant_file, tmp_path), ranks=ranks)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_static(atoms, trained_to(2.0, equivariant_file, tmp_path), ranks=ranks)


def test_another_torch(equivariant_file: Path, tmp_path: Path) -> None:
    major, minor = map(int, torch.__version__.split(".")[:2])
    versions = {
        f"{major}.{minor}.99": False,
        f"{major}.{minor}.0a1": False,
        f"{major}.{minor + 1}.0": True,
        f"{major}.{minor}1.0": True,
        f"{major + 1}.{minor}.0": True,
    }
    for version, expected in versions.items():

        def change(document: dict[str, Any], version: str = version) -> None:
            document["torch_version"] = version

        file = tmp_path / "other.pt"
        rewrite(equivariant_file, file, change)
        output = run(bulk("Si", cubic=True), file, ["run 0"], tmp_path / "run")
        assert (f"was made with torch {version} and runs with torch {major}.{minor}" in output) == expected, version
