"""Neighbour lists against a sum over images."""

import itertools
import time

import numpy as np
import pytest

from mlcalc.errors import NonFiniteError
from mlcalc.graphs import neighbor_list
from mlcalc.graphs._kdtree import kdtree_edges
from mlcalc.graphs.neighbors import edge_vectors

ALL_PBC = list(itertools.product([False, True], repeat=3))


def brute_force(positions, cell, pbc, cutoff):
    """All edges, from as many images as the spacing of lattice planes and the spread of the atoms can need."""
    pbc = np.asarray(pbc)
    axes = np.nonzero(pbc)[0]
    images = [range(1)] * 3
    if len(axes):
        dual = np.linalg.pinv(cell[axes])  # columns: reciprocal vectors; 1/|column| is the plane spacing
        spread = np.ptp(positions @ dual, axis=0)
        for axis, column, extent in zip(axes, dual.T, spread, strict=True):
            most = int(np.ceil(cutoff * np.linalg.norm(column) + extent))
            images[axis] = range(-most, most + 1)
    shifts = np.array(list(itertools.product(*images)))
    offsets = shifts @ np.where(pbc[:, None], cell, 0.0)
    edges = set()
    for i in range(len(positions)):
        for j in range(len(positions)):
            lengths = np.linalg.norm(positions[j] - positions[i] + offsets, axis=1)
            for s in shifts[lengths < cutoff]:
                if i != j or s.any():
                    edges.add((i, j, *map(int, s)))
    return edges


def as_set(edge_index, shifts):
    edges = [tuple(map(int, row)) for row in np.column_stack([edge_index.T, shifts])]
    assert len(set(edges)) == len(edges)
    return set(edges)


def random_cell(rng, sliver):
    cell = np.diag(rng.uniform(2.0, 6.0, 3)) @ (np.eye(3) + rng.uniform(-0.4, 0.4, (3, 3)))
    if sliver:  # shear by more than a lattice vector, which changes nothing but the reach of the shifts
        cell[1] += rng.uniform(-2.5, 2.5) * cell[0]
        cell[2] += rng.uniform(-2.5, 2.5) * cell[0] + rng.uniform(-1.5, 1.5) * cell[1]
    return cell


@pytest.mark.parametrize("pbc", ALL_PBC, ids=lambda p: "".join("FT"[x] for x in p))
@pytest.mark.parametrize("sliver", [False, True])
@pytest.mark.parametrize("open_axes", ["kept", "zero", "parallel"])
def test_neighbor_list_matches_image_sum(pbc, sliver, open_axes):
    rng = np.random.default_rng([*pbc, sliver, len(open_axes)])
    reach = 0
    for _ in range(6):
        cell = random_cell(rng, sliver)
        for axis in np.nonzero(~np.array(pbc))[0]:
            if open_axes == "zero":
                cell[axis] = 0.0
            elif open_axes == "parallel":
                cell[axis] = cell[(axis + 1) % 3]
        # Atoms up to two cells outside.
        positions = rng.uniform(-8.0, 8.0, (rng.integers(1, 7), 3))
        edge_index, shifts = neighbor_list(positions, cell, pbc, 4.1)
        assert as_set(edge_index, shifts) == brute_force(positions, cell, pbc, 4.1)
        closed = np.where(np.array(pbc)[:, None], cell, 0.0)
        assert as_set(*kdtree_edges(positions, closed, np.array(pbc), 4.1)) == as_set(edge_index, shifts)
        assert (np.diff(edge_index[0]) >= 0).all()
        assert edge_index.dtype == shifts.dtype == np.int64
        reach = max(reach, int(np.abs(shifts).max(initial=0)))
    if sliver and all(pbc):
        assert reach > 1


def test_every_edge_has_its_reverse_and_opposite_vector():
    rng = np.random.default_rng(7)
    cell = random_cell(rng, sliver=True)
    positions = rng.uniform(0.0, 5.0, (9, 3))
    edge_index, shifts = neighbor_list(positions, cell, (True, True, True), 5.0)
    vectors = edge_vectors(positions, cell, edge_index, shifts)
    table = {(int(i), int(j), *map(int, s)): tuple(v) for i, j, s, v in zip(*edge_index, shifts, vectors, strict=True)}
    for (i, j, *s), v in table.items():
        assert table[(j, i, *(-x for x in s))] == tuple(-x for x in v)


def test_edge_at_the_cutoff_is_kept_or_dropped_with_its_reverse():
    # A lattice whose second shell lies at the cutoff to the last bit or so.
    for a in np.random.default_rng(0).uniform(3.0, 4.0, 40):
        cell = a * np.eye(3)
        edge_index, shifts = neighbor_list(np.full((1, 3), 0.3), cell, (True, True, True), a * np.sqrt(2.0))
        edges = as_set(edge_index, shifts)
        assert {(j, i, -x, -y, -z) for i, j, x, y, z in edges} == edges


@pytest.mark.parametrize("pbc", [(False, False, False), (True, True, True)])
def test_no_atoms(pbc):
    edge_index, shifts = neighbor_list(np.zeros((0, 3)), np.eye(3), pbc, 3.0)
    assert edge_index.shape == (2, 0)
    assert shifts.shape == (0, 3)


def test_one_atom_open_and_periodic():
    edge_index, _ = neighbor_list(np.zeros((1, 3)), np.zeros((3, 3)), False, 3.0)
    assert edge_index.shape == (2, 0)
    edge_index, shifts = neighbor_list(np.zeros((1, 3)), 2.0 * np.eye(3), True, 2.1)
    assert edge_index.shape == (2, 6)
    assert sorted(np.abs(shifts).sum(axis=1)) == [1] * 6


def test_isolated_and_distant_atoms():
    positions = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1e5, -3e4, 1e6]])
    edge_index, shifts = neighbor_list(positions, np.zeros((3, 3)), False, 3.0)
    assert edge_index.tolist() == [[0, 1], [1, 0]]
    assert not shifts.any()
    edge_index, _ = neighbor_list(positions, np.diag([0.0, 0.0, 7.0]), (False, False, True), 3.0)
    assert set(map(tuple, edge_index.T.tolist())) >= {(0, 1), (1, 0)}


@pytest.mark.parametrize("size", [100.0, 1e3, 2e3, 1e4, 1e6])
@pytest.mark.parametrize("thickness", [1.0, 4.0, 9.0, 40.0])
def test_wide_flat_boxes(size, thickness):
    """A box a thousand cutoffs wide and one thick must not upset the grid."""
    rng = np.random.default_rng(1)
    positions = rng.uniform(0.0, 1.0, (40, 3)) * [size, size, thickness]
    positions[1::2] = positions[::2] + rng.uniform(-1.0, 1.0, (20, 3))
    for pbc in [(True, True, True), (True, False, True), (False, False, False), (True, True, False)]:
        cell = np.diag([size, size, thickness])
        edge_index, shifts = neighbor_list(positions, cell, pbc, 3.0)
        assert as_set(edge_index, shifts) == brute_force(positions, cell, pbc, 3.0)
        assert edge_index.shape[1] >= 40


def test_few_atoms_scattered_beside_a_short_lattice_vector():
    """A grid over all that emptiness would take minutes."""
    positions = np.random.default_rng(2).normal(0.0, 300.0, (6, 3))
    positions[3] = positions[0] + 1.0
    cell = np.zeros((3, 3))
    cell[2] = [1.1, 0.7, -0.2]
    start = time.perf_counter()
    edge_index, shifts = neighbor_list(positions, cell, (False, False, True), 4.3)
    assert time.perf_counter() - start < 5.0
    assert as_set(edge_index, shifts) == brute_force(positions, cell, (False, False, True), 4.3)
    assert {(0, 3), (3, 0)} <= set(map(tuple, edge_index.T.tolist()))


def test_left_handed_cell():
    rng = np.random.default_rng(3)
    cell = random_cell(rng, sliver=False)[[1, 0, 2]]
    positions = rng.uniform(-3.0, 3.0, (4, 3))
    edge_index, shifts = neighbor_list(positions, cell, True, 4.0)
    assert as_set(edge_index, shifts) == brute_force(positions, cell, (True, True, True), 4.0)


def test_bad_input_is_named():
    positions = np.zeros((4, 3))
    positions[2, 1] = np.nan
    with pytest.raises(NonFiniteError, match="atom 2"):
        neighbor_list(positions, np.eye(3), True, 3.0)
    cell = np.diag([3.0, np.inf, 3.0])
    with pytest.raises(NonFiniteError, match="cell"):
        neighbor_list(np.zeros((1, 3)), cell, True, 3.0)
    assert neighbor_list(np.zeros((1, 3)), cell, (True, False, True), 2.0)[0].shape == (2, 0)
    with pytest.raises(ValueError, match="parallel"):
        neighbor_list(np.zeros((1, 3)), np.diag([3.0, 3.0, 0.0]), True, 3.0)
    with pytest.raises(ValueError, match="cutoff"):
        neighbor_list(np.zeros((1, 3)), np.eye(3), True, 0.0)
    with pytest.raises(ValueError, match=r"\(N, 3\)"):
        neighbor_list(np.zeros(3), np.eye(3), True, 1.0)
