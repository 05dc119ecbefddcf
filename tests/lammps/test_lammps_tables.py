"""Radial tables in LAMMPS: the same numbers as in Python, on any number of ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lammps_structures import ELEMENTS, python_route, structures

from mlcalc.deploy import export, read_document
from mlcalc.deploy.tables import with_tables
from mlcalc.lammps.run import run_static
from mlcalc.potentials.base import Potential, PotentialInfo
from mlcalc.potentials.registry import build

STRUCTURES = structures()


@pytest.fixture(scope="module")
def exact() -> Potential:
    """Two layers of a gated network with random weights, without tables."""
    torch.manual_seed(11)
    info = PotentialInfo(elements=ELEMENTS, cutoff=4.0, layers=2, name="gated")
    settings = {"channels": [6, 4, 3], "layers": 2, "n_radial": 24, "radial_hidden": [8]}
    potential = build({"architecture": "nequip", "network": settings}, info, torch.float64)
    potential.set_energies([-1.0, -2.0], 3.0)
    return potential.eval()


@pytest.fixture(scope="module")
def file(exact: Potential, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "tables.pt"
    export(exact, path, tables=True)
    assert read_document(path)["operators"] == ["convolve_table"]
    return path


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("name", ["bulk", "half-empty", "sliver"])
def test_same_numbers_as_in_python(exact: Potential, file: Path, name: str, ranks: int) -> None:
    tabulated, tables = with_tables(exact)
    assert tables is not None
    wanted, without = (python_route(potential, STRUCTURES[name]) for potential in (tabulated, exact))
    found = run_static(STRUCTURES[name], file, ranks=ranks)
    assert np.abs(found.energies - wanted["energies"]).max() < 1e-10
    assert np.abs(found.forces - wanted["forces"]).max() < 1e-10
    assert np.abs(found.virial - wanted["virial"]).max() < 1e-9
    if name == "bulk":  # a file without tables would have failed: they change forces by more than that
        assert np.abs(found.forces - without["forces"]).max() > 1e-9
