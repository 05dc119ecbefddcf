"""Forces and stress of LAMMPS against differences of LAMMPS' own energy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lammps_structures import structures

from mlcalc.lammps.box import make_box
from mlcalc.lammps.data import UNITS, atom_types, model_lines, setup_lines, write_data
from mlcalc.lammps.run import open_library

STEP = 1e-4  # Å, or strain


@pytest.fixture(params=["triclinic", "slab"])
def lmp(request: pytest.FixtureRequest, equivariant_file: Path, tmp_path: Path) -> Iterator[tuple[Any, str]]:
    atoms = structures()[request.param]
    box = make_box(atoms)
    write_data(atoms, tmp_path / "structure.data", box=box)
    instance = open_library()
    *settings, read = setup_lines(box, tmp_path / "structure.data")
    for line in [*settings, "atom_modify map array", read]:
        instance.command(line)
    if request.param == "slab":
        instance.command("change_box all triclinic")
    for line in model_lines(equivariant_file, atom_types(atoms)):
        instance.command(line)
    instance.command("compute pressure all pressure NULL virial")
    instance.command("thermo_style custom pe vol c_pressure[*]")
    yield instance, request.param
    instance.close()


def energy(lmp: Any) -> float:
    lmp.command("run 0 post no")
    return float(lmp.get_thermo("pe"))


def test_forces_are_minus_the_gradient(lmp: tuple[Any, str]) -> None:
    instance, _ = lmp
    energy(instance)
    n = instance.get_natoms()
    forces = np.array(instance.gather_atoms("f", 1, 3)).reshape(n, 3)
    start = np.array(instance.gather_atoms("x", 1, 3))
    for atom, axis in ((0, 0), (1, 1), (n // 2, 2), (n - 1, 0)):
        values = []
        for sign in (1, -1):
            moved = start.copy()
            moved[3 * atom + axis] += sign * STEP
            instance.scatter_atoms("x", 1, 3, np.ctypeslib.as_ctypes(moved))
            values.append(energy(instance))
        instance.scatter_atoms("x", 1, 3, np.ctypeslib.as_ctypes(start.copy()))
        slope = (values[0] - values[1]) / (2 * STEP)
        assert forces[atom, axis] == pytest.approx(-slope, abs=2e-7)


def test_pressure_is_minus_the_derivative_with_strain(lmp: tuple[Any, str]) -> None:
    """Six strains of box and atoms together; along an axis without periodicity only atoms can be strained."""
    instance, name = lmp
    energy(instance)
    volume = instance.get_thermo("vol")
    pressure = np.array(instance.numpy.extract_compute("pressure", 0, 1))  # xx yy zz xy xz yz
    virial = pressure * volume / UNITS["metal"].pressure
    low, high, xy, yz, xz, _, _ = instance.extract_box()
    h = np.array([[high[0] - low[0], 0, 0], [xy, high[1] - low[1], 0], [xz, yz, high[2] - low[2]]])
    assert np.abs(virial).max() > 0.05
    pairs = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]
    for k, (a, b) in enumerate(pairs):
        if name == "slab" and 2 in (a, b):
            continue
        values = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[b, a] += sign * STEP  # lower triangular keeps LAMMPS' frame: r' = r (1 + e), rows
            target = h @ strain
            set_box(instance, low, target)
            values.append(energy(instance))
            set_box(instance, low, h)
        slope = (values[0] - values[1]) / (2 * STEP)
        assert virial[k] == pytest.approx(-slope, abs=1e-6, rel=1e-6)


def set_box(lmp: Any, low: list[float], h: np.ndarray) -> None:
    lengths = " ".join(
        f"{axis} final {low[k]:.17g} {low[k] + h[k, k]:.17g}" for k, axis in enumerate("xyz") if lmp.extract_box()[5][k]
    )
    lmp.command(
        f"change_box all {lengths} xy final {h[1, 0]:.17g} xz final {h[2, 0]:.17g} yz final {h[2, 1]:.17g} "
        "remap units box"
    )
