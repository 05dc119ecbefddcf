from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io.cube import write_cube

from mlcalc.crystals import DensityGrid, atoms_of_density, density_peaks, read_density
from mlcalc.crystals.atomic_densities import superposed_density
from mlcalc.errors import CodecError


def write(path: Path, atoms: Atoms, values: np.ndarray, origin: np.ndarray | None = None) -> Path:
    with path.open("w", encoding="utf-8") as stream:
        write_cube(stream, atoms, data=values, origin=origin)
    return path


def oblique() -> Atoms:
    cell = [[4.1, 0, 0], [1.3, 4.9, 0], [-0.8, 1.2, 5.6]]
    return Atoms("MgSO", cell=cell, scaled_positions=[(0.99, 0.02, 0.4), (0.5, 0.47, 0.9), (0.31, 0.6, 0.13)], pbc=True)


def farthest(one: Atoms, other: Atoms) -> float:
    """Largest distance of an atom from the nearest one of its element, Å."""
    worst = 0.0
    for symbol in set(one.get_chemical_symbols()):
        a, b = (x[np.array(x.get_chemical_symbols()) == symbol].get_scaled_positions() for x in (one, other))
        steps = a[:, None] - b
        worst = max(worst, np.linalg.norm((steps - np.round(steps)) @ one.cell.array, axis=2).min(axis=1).max())
    return worst


def test_a_cube_file_that_ase_wrote(tmp_path: Path) -> None:
    atoms = oblique()
    grid = read_density(write(tmp_path / "d.cube", atoms, superposed_density(atoms, (30, 36, 40))))
    assert grid.values.shape == (30, 36, 40)
    assert grid.cell == pytest.approx(atoms.cell.array, abs=1e-4)  # cube files have six digits
    assert grid.atoms is not None
    assert grid.atoms.get_chemical_symbols() == ["Mg", "S", "O"]
    back = atoms_of_density(grid, "MgSO")
    assert farthest(atoms, back) < 0.01
    assert grid.values.mean() * atoms.get_volume() == pytest.approx(12 + 16 + 8, rel=1e-4)


def test_the_origin_and_the_order_of_vectors_are_kept(tmp_path: Path) -> None:
    atoms = oblique()
    points = np.array([30, 36, 40])
    steps = np.array([4, 7, 9])
    # The same crystal, sampled from another point on.
    values = np.roll(superposed_density(atoms, tuple(points)), -steps, axis=(0, 1, 2))
    grid = read_density(write(tmp_path / "d.cube", atoms, values, origin=steps / points @ atoms.cell.array))
    assert farthest(atoms, atoms_of_density(grid, "MgSO")) < 0.01


def test_files_that_repeat_the_first_point(tmp_path: Path) -> None:
    atoms = oblique()
    values = np.pad(superposed_density(atoms, (30, 36, 40)), (0, 1), mode="wrap")
    larger = atoms.copy()
    larger.set_cell(atoms.cell.array * (np.array(values.shape) / np.array([30, 36, 40]))[:, None])
    grid = read_density(write(tmp_path / "d.cube", larger, values), endpoint=True)
    assert grid.cell == pytest.approx(atoms.cell.array, abs=1e-4)
    assert farthest(atoms, atoms_of_density(grid, "MgSO")) < 0.01


def test_coarse_grids_are_still_read_to_a_few_hundredths() -> None:
    atoms = oblique()
    errors = []
    for points in ((18, 22, 24), (30, 36, 40), (48, 56, 64)):
        grid = DensityGrid(superposed_density(atoms, points), atoms.cell.array, np.zeros(3))
        errors.append(farthest(atoms, atoms_of_density(grid, "MgSO")))
    assert max(errors) < 0.05


def test_hollow_cores_are_filled_by_blurring() -> None:
    # A valence density: a shell around each atom.
    atoms = Atoms("Si", cell=[4.0, 4.4, 4.8], scaled_positions=[(0.3, 0.4, 0.97)], pbc=True)
    points = (24, 26, 28)
    mesh = np.stack(np.meshgrid(*(np.arange(n) / n for n in points), indexing="ij"), axis=-1)
    steps = mesh - atoms.get_scaled_positions()[0]
    distances = np.linalg.norm((steps - np.round(steps)) @ atoms.cell.array, axis=-1)
    grid = DensityGrid(np.exp(-(((distances - 0.6) / 0.25) ** 2)), atoms.cell.array, np.zeros(3))
    assert len(density_peaks(grid)[0]) > 1
    smooth = DensityGrid(grid.blurred(0.5), grid.cell, grid.origin)
    assert smooth.values.mean() == pytest.approx(grid.values.mean())
    positions, _ = density_peaks(smooth)
    assert len(positions) == 1
    assert np.linalg.norm(positions[0] - atoms.get_positions(wrap=True)[0]) < 0.03


def test_blurring_is_that_of_a_gaussian() -> None:
    cell = np.array([[6.0, 0, 0], [1.0, 6.5, 0], [0.5, -0.7, 7.0]])
    points = (32, 34, 36)
    mesh = np.stack(np.meshgrid(*(np.arange(n) / n for n in points), indexing="ij"), axis=-1) - 0.5
    squares = ((mesh @ cell) ** 2).sum(axis=-1)
    narrow = DensityGrid(np.exp(-squares / (2 * 0.4**2)), cell, np.zeros(3))
    wide = np.exp(-squares / (2 * 0.5**2)) * (0.4 / 0.5) ** 3
    assert narrow.blurred(0.3) == pytest.approx(wide, abs=1e-3)


def test_peaks_of_real_elements_are_in_the_order_of_their_weight() -> None:
    atoms = bulk("ZnS", "zincblende", a=5.41)
    grid = DensityGrid(superposed_density(atoms, (32, 32, 32)), atoms.cell.array, np.zeros(3))
    positions, heights = density_peaks(grid)
    assert np.all(np.diff(heights) <= 0)
    assert np.linalg.norm(positions[0]) < 0.01  # zinc, at the origin


def test_files_and_densities_of_no_crystal(tmp_path: Path) -> None:
    with pytest.raises(CodecError, match="no file"):
        read_density(tmp_path / "missing.cube")
    (tmp_path / "bad.cube").write_text("not\na cube\nfile at all\n", encoding="utf-8")
    with pytest.raises(CodecError, match="cannot be read as a cube file"):
        read_density(tmp_path / "bad.cube")
    with pytest.raises(CodecError, match="no crystal's density"):
        read_density(write(tmp_path / "small.cube", bulk("Cu"), np.ones((2, 2, 2))))
    with pytest.raises(CodecError, match="not finite"):
        read_density(write(tmp_path / "nan.cube", bulk("Cu"), np.full((4, 4, 4), np.nan)))
    flat = DensityGrid(np.ones((8, 8, 8)), 4 * np.eye(3), np.zeros(3))
    with pytest.raises(CodecError, match="no peaks"):
        density_peaks(flat)
    with pytest.raises(CodecError, match="no peaks"):
        density_peaks(DensityGrid(-flat.values, flat.cell, flat.origin))
    atoms = bulk("Cu")
    grid = DensityGrid(superposed_density(atoms, (20, 20, 20)), atoms.cell.array, np.zeros(3))
    with pytest.raises(CodecError, match="1 peaks for 2 atoms"):
        atoms_of_density(grid, "Cu2")
    for formula in ("Xx2", "", "2Cu)"):
        with pytest.raises(CodecError, match="no chemical formula"):
            atoms_of_density(grid, formula)


def test_a_density_of_dft() -> None:
    # All-electron LDA density of cubic BN from PySCF, written by benchmarks/crystals/dft_density.py.
    grid = read_density(Path(__file__).parent / "bn.cube.gz")
    assert grid.atoms is not None
    assert grid.origin.max() > 0.1  # the grid does not begin at the origin
    assert farthest(grid.atoms, atoms_of_density(grid, "B4N4")) < 0.05
