"""``mlcalc relax`` with files of several structures: together, resumed, with failures told."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import pytest
from ase.build import bulk

from mlcalc.calculators import MLCalculator
from mlcalc.workflows import relax

OPTIONS = ["--potential", "mlearn", "--dtype", "float64", "--cell", "full", "--optimizer", "LBFGS"]


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    frames = [bulk("Si", a=5.6), bulk("Mo", a=3.3, cubic=True), bulk("Ni", a=3.6)]
    for seed, atoms in enumerate(frames):
        atoms.rattle(0.05, seed=seed)
    ase.io.write(tmp_path / "cells.extxyz", frames)
    return tmp_path / "cells.extxyz"


def test_structures_of_a_file_relax_as_if_alone_and_are_done_once(mlcalc, cells: Path, tmp_path: Path) -> None:
    status, stdout, _ = mlcalc("relax", cells, *OPTIONS, "--out", tmp_path / "o")
    assert status == 0
    document = json.loads((tmp_path / "o/relax.json").read_text())
    assert list(document) == ["cells-0000", "cells-0001", "cells-0002"]
    frames = ase.io.read(tmp_path / "o/relaxed.extxyz", ":")
    calculator = MLCalculator("mlearn", dtype="float64")
    for frame, start, record in zip(frames, ase.io.read(cells, ":"), document.values(), strict=True):
        alone = relax(start, calculator, cell="full", optimizer="LBFGS")
        assert frame.get_potential_energy() == pytest.approx(alone.energy_ev, abs=1e-7)
        assert record["steps"] == alone.steps
        assert record["converged"] is True
    forces = json.loads((tmp_path / "o/parts/cells-0001.json").read_text())["forces"]
    assert len(forces) == document["cells-0001"]["steps"] + 1
    assert (tmp_path / "o/relax.png").stat().st_size > 1000

    (tmp_path / "o/parts/cells-0001.json").unlink()  # as if killed before it was written
    status, stdout, _ = mlcalc("relax", cells, *OPTIONS, "--out", tmp_path / "o")
    assert status == 0
    assert [f"cells-000{k}: done before" in stdout for k in range(3)] == [True, False, True]
    assert list(json.loads((tmp_path / "o/relax.json").read_text())) == list(document)


def test_a_failure_is_told_and_the_rest_is_kept(mlcalc, cells: Path, tmp_path: Path) -> None:
    frames = ase.io.read(cells, ":")
    frames.insert(1, bulk("Cu"))
    ase.io.write(cells, frames)
    status, stdout, stderr = mlcalc("relax", cells, *OPTIONS, "--out", tmp_path / "o")
    assert status == 1
    assert "cells-0001 FAILED: UnknownElementError: the potential does not know Cu" in stderr
    assert "FAILED" in stdout
    document = json.loads((tmp_path / "o/relax.json").read_text())
    assert document["cells-0001"]["energy_ev"] is None
    assert document["cells-0001"]["error"].startswith("UnknownElementError")
    assert len(ase.io.read(tmp_path / "o/relaxed.extxyz", ":")) == 3
    assert not (tmp_path / "o/parts/cells-0001.json").exists()  # so that it is tried again
