"""Verlet lists of many structures: each structure's edges are those of a search, whatever moves, comes and goes."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from mlcalc.errors import NonFiniteError, OverlapError
from mlcalc.graphs import BatchedVerletList, neighbor_list

CUTOFF = 3.9


def structures() -> list[Atoms]:
    sliver = Atoms("Ni", cell=[[3.5, 0, 0], [14.0, 3.5, 0], [10.0, 7.0, 3.5]], pbc=True)
    outside = bulk("Si", cubic=True)
    outside.positions += [40.0, -13.0, 7.0]
    wire = Atoms("Mo2", positions=[[0, 0, 0], [0.3, 0.1, 1.4]], cell=[0, 0, 2.7], pbc=[False, False, True])
    return [bulk("Si"), molecule("C6H6"), sliver, fcc111("Ni", (2, 1, 2), vacuum=5.0), Atoms("Li"), outside, wire]


def update(lists: BatchedVerletList, present: list[Atoms]):
    return lists.update(
        np.concatenate([atoms.positions for atoms in present]), np.stack([atoms.cell.array for atoms in present])
    )


def check(lists: BatchedVerletList, present: list[Atoms]) -> None:
    found = update(lists, present)
    assert not found.errors
    for place, atoms in enumerate(present):
        index, shifts = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, lists.cutoff)
        cell = np.where(atoms.pbc[:, None], atoms.cell.array, 0.0)
        vectors = atoms.positions[index[1]] - atoms.positions[index[0]] + shifts @ cell
        part = slice(found.bounds[place], found.bounds[place + 1])
        ours = found.edge_index[:, part].numpy() - lists.starts[place]
        order = np.lexsort(np.vstack([shifts.T, index]))
        mine = np.lexsort(np.vstack([found.shifts[part].numpy().T, ours]))
        np.testing.assert_array_equal(ours[:, mine], index[:, order])
        np.testing.assert_array_equal(found.shifts[part].numpy()[mine], shifts[order])
        np.testing.assert_allclose(found.vectors[part].numpy()[mine], vectors[order], atol=1e-12)
        np.testing.assert_allclose(found.squared_lengths[part], (found.vectors[part] ** 2).sum(1), rtol=1e-12)
        assert (np.diff(ours[0]) >= 0).all()


def enter(lists: BatchedVerletList, keep: list[int], new: list[Atoms]) -> None:
    lists.replace(keep, [len(atoms) for atoms in new], [atoms.pbc for atoms in new])


@pytest.mark.parametrize("skin", [0.0, 0.3, 1.0])
def test_edges_are_those_of_a_search_while_atoms_and_cells_move(skin: float) -> None:
    rng = np.random.default_rng(0)
    present = structures()
    lists = BatchedVerletList(CUTOFF, skin)
    enter(lists, [], present)
    for step in range(25):
        check(lists, present)
        for atoms in present:
            change = np.eye(3) + 0.01 * rng.uniform(-1, 1, (3, 3)) * (step % 3 == 0)
            atoms.set_cell(atoms.cell.array @ change)
            atoms.positions = atoms.positions @ change + rng.normal(scale=0.06, size=(len(atoms), 3))
    if skin == 0.0:
        assert lists.rebuilds == lists.calls
    else:
        assert len(present) < lists.rebuilds < lists.calls


def test_drift_and_scaling_cost_no_search() -> None:
    present = structures()
    lists = BatchedVerletList(CUTOFF, 1.0)
    enter(lists, [], present)
    check(lists, present)
    for atoms in present:
        atoms.set_cell(atoms.cell.array * 1.01)
        atoms.positions = 1.01 * (atoms.positions + 17.0)
    check(lists, present)
    assert lists.rebuilds <= len(present) + 1  # a molecule of the size of the cutoff has no cell that scales with it


def test_structures_come_and_go() -> None:
    lists, everything = BatchedVerletList(CUTOFF, 0.8), structures()
    enter(lists, [], everything[:3])
    check(lists, everything[:3])
    enter(lists, [2, 0], everything[3:6])
    present = [everything[2], everything[0], *everything[3:6]]
    check(lists, present)
    assert lists.rebuilds == 6  # those that stayed were not searched again
    enter(lists, [1, 4], [])
    check(lists, [present[1], present[4]])
    assert lists.rebuilds == 6
    enter(lists, [], [everything[6]])
    check(lists, [everything[6]])


def test_one_bad_structure_is_told_and_has_no_edges() -> None:
    present = structures()
    lists = BatchedVerletList(CUTOFF, 1.0)
    enter(lists, [], present)
    update(lists, present)
    bad = [atoms.copy() for atoms in present]
    bad[1].positions[2, 1] = np.nan
    bad[2].cell[0, 0] = np.inf
    bad[3].cell[1] = bad[3].cell[0]
    bad[5].set_cell(bad[5].cell.array * 1e-3, scale_atoms=True)
    found = update(lists, bad)
    kinds = {place: type(error) for place, error in found.errors.items()}
    assert kinds == {1: NonFiniteError, 2: NonFiniteError, 3: ValueError, 5: OverlapError}
    counts = np.diff(found.bounds)
    assert not counts[[1, 2, 3, 5]].any()
    assert counts[0] > 0
    check(lists, present)  # and they may come back


def test_lengths_are_checked() -> None:
    for cutoff, skin in ((0.0, 1.0), (3.0, -1.0), (np.nan, 1.0)):
        with pytest.raises(ValueError, match="must be lengths"):
            BatchedVerletList(cutoff, skin)
