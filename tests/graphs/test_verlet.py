"""The Verlet list never differs from a fresh one, and is kept when it can be."""

import numpy as np
import pytest
from ase.build import bulk, fcc111, molecule

from mlcalc.errors import NonFiniteError
from mlcalc.graphs import VerletList, neighbor_list
from mlcalc.graphs.neighbors import edge_vectors


def assert_fresh(verlet, positions, cell, pbc):
    """Compare edges and vectors with a list built from nothing."""
    edge_index, vectors, shifts = verlet.update(positions, cell, pbc)
    fresh_index, fresh_shifts = neighbor_list(positions, cell, pbc, verlet.cutoff)

    def by_key(index, shift):
        keys = np.column_stack([index.T, shift])
        return keys, np.lexsort(keys.T[::-1])

    keys, order = by_key(edge_index, shifts)
    fresh_keys, fresh_order = by_key(fresh_index, fresh_shifts)
    assert keys.shape == fresh_keys.shape
    assert (keys[order] == fresh_keys[fresh_order]).all()
    periodic_cell = np.where(np.asarray(pbc)[:, None], cell, 0.0)
    fresh_vectors = edge_vectors(np.asarray(positions), periodic_cell, fresh_index, fresh_shifts)
    np.testing.assert_array_equal(vectors[order], fresh_vectors[fresh_order])
    np.testing.assert_allclose(np.sqrt(verlet.squared_lengths), np.linalg.norm(vectors, axis=1), rtol=1e-14)
    assert (np.diff(edge_index[0]) >= 0).all()


STRUCTURES = {
    "bulk": bulk("Si", cubic=True).repeat(2),
    "primitive": bulk("Si"),
    "slab": fcc111("Ni", (2, 2, 3), vacuum=5.0),
    "wire": None,
    "molecule": molecule("C6H6"),
    "one atom": bulk("Ni"),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_verlet_list_is_exact_along_npt_like_trajectories(name):
    rng = np.random.default_rng(len(name))
    if name == "wire":
        atoms = bulk("Ni", cubic=True).repeat((1, 1, 3))
        atoms.pbc = (False, False, True)
    else:
        atoms = STRUCTURES[name].copy()
    verlet = VerletList(cutoff=4.0, skin=0.8)
    for _ in range(150):
        # Small thermal moves, drift of the whole, and a breathing, shearing cell that drags the atoms along or not.
        strain = np.eye(3) + rng.normal(0.0, 0.004, (3, 3))
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=bool(rng.random() < 0.7))
        atoms.positions += rng.normal(0.0, 0.02, atoms.positions.shape) + 0.05
        assert_fresh(verlet, atoms.positions, atoms.cell.array, atoms.pbc)
    assert verlet.calls == 150
    # One atom moves with its cell: only the scale can use up the skin.
    assert verlet.rebuilds >= (1 if name == "one atom" else 2)
    assert verlet.rebuilds < 150


def test_verlet_list_is_exact_after_big_jumps():
    rng = np.random.default_rng(5)
    atoms = bulk("Si", cubic=True)
    verlet = VerletList(cutoff=4.5, skin=1.0)
    for step in range(80):
        kind = step % 4
        if kind == 0:
            atoms.positions += rng.normal(0.0, 0.1, atoms.positions.shape)
        elif kind == 1:  # one atom only, by up to several cells
            atoms.positions[rng.integers(len(atoms))] += rng.uniform(-12.0, 12.0, 3)
        elif kind == 2:
            atoms.wrap()
        else:
            atoms.set_cell(5.4 * (np.eye(3) + rng.uniform(-0.3, 0.3, (3, 3))), scale_atoms=True)
        assert_fresh(verlet, atoms.positions, atoms.cell.array, atoms.pbc)


def test_verlet_list_sees_the_cell():
    """The cell alone changes, atoms stay where they are; new edges come through the boundary."""
    positions = np.array([[0.0, 0.0, 0.0], [5.0, 0.0, 0.0]])
    verlet = VerletList(cutoff=3.0, skin=0.5)
    cell = np.diag([10.0, 10.0, 10.0])
    assert_fresh(verlet, positions, cell, (True, True, True))
    assert verlet.squared_lengths.size == 0
    shrunk = np.diag([7.5, 10.0, 10.0])  # now 2.5 Å apart across the boundary
    edge_index, vectors, _ = verlet.update(positions, shrunk, (True, True, True))
    assert edge_index.shape == (2, 2)
    np.testing.assert_allclose(np.abs(vectors[:, 0]), 2.5)
    assert verlet.rebuilds == 2
    # A growing cell leaves the edges in the list, but not their lengths.
    _, vectors, _ = verlet.update(positions, np.diag([7.6, 10.0, 10.0]), (True, True, True))
    np.testing.assert_allclose(np.abs(vectors[:, 0]), 2.6)


def test_verlet_list_sees_shear_of_a_cell_with_large_shifts():
    """A sliver: a tiny shear moves far images a lot."""
    cell = np.array([[1.9, 0.0, 0.0], [9.5, 1.7, 0.0], [0.3, 0.2, 8.0]])
    verlet = VerletList(cutoff=4.0, skin=0.4)
    positions = np.zeros((1, 3))
    for step in range(60):
        sheared = cell.copy()
        sheared[1, 0] += 0.03 * step
        assert_fresh(verlet, positions, sheared, (True, True, True))
    assert 1 < verlet.rebuilds < 60


def test_verlet_list_is_kept_when_it_may_be():
    atoms = bulk("Si", cubic=True).repeat(2)
    atoms.rattle(0.05, seed=1)
    verlet = VerletList(cutoff=5.0, skin=1.0)
    for step in range(20):
        moved = atoms.positions + 100.0 * step  # drift
        assert_fresh(verlet, moved, atoms.cell.array, atoms.pbc)
    assert verlet.rebuilds == 1
    for factor in (0.9, 0.95, 1.0, 1.1, 1.3):  # breathing: 6 Å hold 5 Å at any scale above 5/6
        assert_fresh(verlet, atoms.positions * factor, atoms.cell.array * factor, atoms.pbc)
    assert verlet.rebuilds == 1
    assert_fresh(verlet, atoms.positions * 0.8, atoms.cell.array * 0.8, atoms.pbc)
    assert verlet.rebuilds == 2


def test_verlet_list_rebuilds_for_wrapping_number_and_pbc():
    atoms = bulk("Si", cubic=True).repeat((2, 1, 1))
    atoms.positions -= 0.1
    verlet = VerletList(cutoff=4.0, skin=1.0)
    assert_fresh(verlet, atoms.positions, atoms.cell.array, atoms.pbc)
    atoms.wrap()
    assert_fresh(verlet, atoms.positions, atoms.cell.array, atoms.pbc)
    assert verlet.rebuilds == 2
    del atoms[3]
    assert_fresh(verlet, atoms.positions, atoms.cell.array, atoms.pbc)
    assert verlet.rebuilds == 3
    atoms.pbc = (True, False, True)
    assert_fresh(verlet, atoms.positions, atoms.cell.array, atoms.pbc)
    assert verlet.rebuilds == 4
    atoms.cell[1] *= 2.0  # an open axis
    assert_fresh(verlet, atoms.positions, atoms.cell.array, atoms.pbc)
    assert verlet.rebuilds == 4
    assert verlet.calls == 5


def test_no_skin_rebuilds_always():
    atoms = bulk("Si")
    verlet = VerletList(cutoff=4.0, skin=0.0)
    for _ in range(3):
        assert_fresh(verlet, atoms.positions, atoms.cell.array, atoms.pbc)
    assert verlet.rebuilds == verlet.calls == 3


def test_no_atoms_and_one_atom():
    verlet = VerletList(cutoff=4.0)
    for n in (0, 0, 1, 1, 0):
        assert_fresh(verlet, np.zeros((n, 3)), np.zeros((3, 3)), (False, False, False))
    assert verlet.rebuilds == 3


def test_bad_input():
    verlet = VerletList(cutoff=4.0)
    positions = np.zeros((3, 3))
    verlet.update(positions, 9.0 * np.eye(3), True)
    positions[1, 0] = np.inf
    with pytest.raises(NonFiniteError, match="atom 1"):
        verlet.update(positions, 9.0 * np.eye(3), True)
    with pytest.raises(ValueError, match="skin"):
        VerletList(cutoff=4.0, skin=-0.1)
    with pytest.raises(ValueError, match="cutoff"):
        VerletList(cutoff=0.0)
