"""Extrapolation grades in LAMMPS: those of ASE, per atom and in thermo, on any number of ranks; warn and stop."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlcalc import MLCalculator
from mlcalc.deploy import export
from mlcalc.errors import LammpsError
from mlcalc.lammps.box import make_box
from mlcalc.lammps.data import atom_types, setup_lines, write_data
from mlcalc.lammps.run import run_input
from mlcalc.zoo import load


def silicon() -> Atoms:
    atoms = bulk("Si", cubic=True) * (2, 2, 1)
    atoms.rattle(0.1, seed=3)
    del atoms[5]
    return atoms


@pytest.fixture(scope="module")
def silicon_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graded") / "si.pt"
    export(load("mlearn", elements=["Si"]), path)
    return path


def run(
    atoms: Atoms, model: Path, folder: Path, style: str = "", ranks: int = 1, more: tuple[str, ...] = (), steps: int = 0
) -> str:
    box, types = make_box(atoms), atom_types(atoms)
    write_data(atoms, folder / "structure.data", types=types, box=box)
    lines = [
        *setup_lines(box, folder / "structure.data"),
        f"pair_style mlcalc {style}",
        f"pair_coeff * * {model} {' '.join(types.elements)}",
        *more,
        f"run {steps} post no",
    ]
    return run_input("\n".join(lines) + "\n", folder, ranks).output


PER_ATOM = (
    "fix grades all pair 1 mlcalc grade 1",
    "compute largest all reduce max f_grades",
    "compute pair all pair mlcalc",
    "thermo_style custom step c_largest c_pair[1]",
    "thermo_modify format float %.12g",
    "dump grades all custom 1 grades.dump id f_grades",
    "dump_modify grades sort id format float %.17g",
)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_same_grades_as_in_ase(ranks: int, silicon_file: Path, tmp_path: Path) -> None:
    atoms = silicon()
    output = run(atoms, silicon_file, tmp_path, "grade_warn no", ranks, PER_ATOM)
    wanted = MLCalculator(silicon_file, grade_warn=None).get_property("extrapolation_grades", atoms)
    found = np.loadtxt(tmp_path / "grades.dump", skiprows=9)[:, 1]
    assert np.abs(found - wanted).max() < 1e-9
    assert wanted.max() > 0.3
    thermo = re.search(r"^ +0 +(\S+) +(\S+) *$", output, re.MULTILINE)
    assert thermo
    assert float(thermo[1]) == pytest.approx(wanted.max(), abs=1e-9)
    assert float(thermo[2]) == pytest.approx(wanted.max(), abs=1e-9)


def test_same_grades_from_a_compiled_file(compiled_pair: tuple[Path, Path], tmp_path: Path) -> None:
    atoms = silicon()
    atoms.symbols[::3] = "Mo"
    run(atoms, compiled_pair[1], tmp_path, "grade_warn no", 2, PER_ATOM)
    wanted = MLCalculator(compiled_pair[0], grade_warn=None).get_property("extrapolation_grades", atoms)
    assert np.abs(np.loadtxt(tmp_path / "grades.dump", skiprows=9)[:, 1] - wanted).max() < 1e-9


def test_warns_once_in_a_run_and_names_the_atom(silicon_file: Path, tmp_path: Path) -> None:
    atoms = bulk("Si", "fcc", a=3.9, cubic=True) * (3, 3, 3)
    atoms.rattle(0.05, seed=1)  # no two atoms alike
    grades = MLCalculator(silicon_file, grade_warn=None).get_property("extrapolation_grades", atoms)
    worst = int(grades.argmax())
    with pytest.warns(UserWarning, match=rf"atom ID {worst + 1} has extrapolation grade {grades[worst]:.3f} at step 0"):
        output = run(atoms, silicon_file, tmp_path, ranks=2, more=("fix 1 all nve", "timestep 0.0001"), steps=3)
    assert output.count("extrapolation grade") == 1


@pytest.mark.parametrize("ranks", [1, 2])
def test_stops_where_told(ranks: int, silicon_file: Path, tmp_path: Path) -> None:
    atoms = silicon()
    grades = MLCalculator(silicon_file, grade_warn=None).get_property("extrapolation_grades", atoms)
    worst = int(grades.argmax())
    with pytest.raises(LammpsError, match=rf"atom ID {worst + 1} has extrapolation grade .* above grade_stop 0.3"):
        run(atoms, silicon_file, tmp_path, "grade_warn no grade_stop 0.3", ranks)


def test_files_without_grades_say_so(equivariant_file: Path, tmp_path: Path) -> None:
    atoms = bulk("Si", cubic=True)
    with pytest.raises(LammpsError, match="has no extrapolation grades; make a file that has: mlcalc grade"):
        run(atoms, equivariant_file, tmp_path, "grade_stop 2")
    with pytest.raises(LammpsError, match="has no extrapolation grades"):
        run(atoms, equivariant_file, tmp_path, more=PER_ATOM[:1])
