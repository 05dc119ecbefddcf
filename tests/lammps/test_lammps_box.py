"""Boxes: the same crystal, never its mirror image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.geometry import get_distances
from lammps_structures import structures

from mlcalc.errors import LammpsError
from mlcalc.lammps.box import make_box
from mlcalc.lammps.data import atom_types, setup_lines, write_data
from mlcalc.lammps.run import open_library


@pytest.mark.parametrize("name", structures())
def test_a_proper_rotation_of_the_same_lattice(name: str) -> None:
    atoms = structures()[name]
    box = make_box(atoms)
    assert np.allclose(box.rotation @ box.rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(box.rotation) == pytest.approx(1.0)
    assert abs(round(np.linalg.det(box.relabelling))) == 1
    assert np.array_equal(box.cell, np.tril(box.cell))
    assert (np.diag(box.cell) > 0).all()
    tilts = np.abs([box.cell[1, 0] / box.cell[0, 0], box.cell[2, 0] / box.cell[0, 0], box.cell[2, 1] / box.cell[1, 1]])
    assert (tilts <= 0.5 + 1e-9).all()
    if atoms.pbc.all():
        assert np.allclose(box.cell_to_ase(box.cell), atoms.cell.array, atol=1e-10)
        turned = Atoms(atoms.symbols, positions=box.vectors_to_lammps(atoms.positions), cell=box.cell, pbc=True)
        wanted = get_distances(atoms.positions, cell=atoms.cell, pbc=True)[1]
        assert np.allclose(get_distances(turned.positions, cell=turned.cell, pbc=True)[1], wanted, atol=1e-9)
    assert np.allclose(box.vectors_to_ase(box.vectors_to_lammps(atoms.positions)), atoms.positions, atol=1e-12)


@pytest.mark.parametrize("pbc", [(True, True, False), (False, True, False), (False, False, False), (False, True, True)])
def test_atoms_lie_inside_along_open_axes(pbc: tuple[bool, bool, bool]) -> None:
    atoms = bulk("Si", a=5.4).repeat((2, 3, 2))
    atoms.pbc = pbc
    box = make_box(atoms, margin=1.5)
    inside = (box.vectors_to_lammps(atoms.positions) - box.origin) @ np.linalg.inv(box.cell)
    assert sum(box.pbc) == sum(pbc)
    for k in range(3):
        if not box.pbc[k]:
            assert inside[:, k].min() * box.cell[k, k] == pytest.approx(1.5)
            assert (1 - inside[:, k].max()) * box.cell[k, k] == pytest.approx(1.5)


def test_lammps_reads_back_what_was_written(tmp_path: Path) -> None:
    """Positions, masses (isotopes apart), velocities, image flags of atoms outside the cell."""
    atoms = structures()["sliver"]
    masses = atoms.get_masses()
    masses[2] = 30.0
    atoms.set_masses(masses)
    atoms.set_velocities(np.random.default_rng(1).normal(size=(3, 3)))
    types = atom_types(atoms)
    assert types.elements == ("Si", "Mo", "Si")
    lmp = open_library()
    try:
        for units in ("metal", "real"):
            box = write_data(atoms, tmp_path / "data", units=units, types=types, velocities=True)
            *settings, read = setup_lines(box, tmp_path / "data", units)
            for line in [
                "clear",
                *settings,
                "atom_modify map array",
                read,
                "pair_style zero 2.0",
                "pair_coeff * *",
                "run 0 post no",
            ]:
                lmp.command(line)
            velocities = np.array(lmp.gather_atoms("v", 1, 3)).reshape(3, 3)
            lmp.command("compute kinetic all ke")
            lmp.command("run 0 post no")
            kinetic = float(lmp.extract_compute("kinetic", 0, 0))
            factor = {"metal": 1.0, "real": 23.060549}[units]
            assert kinetic / factor == pytest.approx(atoms.get_kinetic_energy(), rel=1e-6)
            assert np.linalg.norm(velocities) > 0
            low, high, xy, yz, xz, _, _ = lmp.extract_box()
            cell = np.array([[high[0] - low[0], 0, 0], [xy, high[1] - low[1], 0], [xz, yz, high[2] - low[2]]])
            assert np.allclose(cell, box.cell, atol=1e-12)
            unwrapped = lmp.gather("x", 1, 3), lmp.gather("image", 0, 3)
            positions = np.array(unwrapped[0]).reshape(3, 3) + np.array(unwrapped[1]).reshape(3, 3) @ cell
            assert np.allclose(box.vectors_to_ase(positions), atoms.positions, atol=1e-9)
    finally:
        lmp.close()


def test_requested_types_come_first() -> None:
    types = atom_types(bulk("Mo", cubic=True), ("Si", "Mo"))
    assert types.elements == ("Si", "Mo")
    assert types.index.tolist() == [2, 2]


def test_flat_cells_are_refused() -> None:
    with pytest.raises(LammpsError, match="zero or linearly dependent"):
        make_box(Atoms("Si", cell=[3, 3, 0], pbc=True))
    with pytest.raises(LammpsError, match="NaN or infinite"):
        make_box(Atoms("Si", positions=[[np.nan, 0, 0]], cell=[3, 3, 3], pbc=True))
