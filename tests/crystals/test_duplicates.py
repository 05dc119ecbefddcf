from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell

from mlcalc.crystals import closest_neighbors, closest_pair, fingerprint
from mlcalc.crystals.duplicates import cluster_duplicates


def disguise(atoms: Atoms, seed: int) -> Atoms:
    """The same crystal in another cell, rotated, shifted, with atoms in another order and a little noise."""
    rng = np.random.default_rng(seed)
    matrix = rng.integers(-1, 2, (3, 3))
    while abs(round(np.linalg.det(matrix))) not in (1, 2):
        matrix = rng.integers(-1, 2, (3, 3))
    if np.linalg.det(matrix) < 0:
        matrix = -matrix
    other = make_supercell(atoms, matrix)[rng.permutation(len(atoms) * round(np.linalg.det(matrix)))]
    other.rotate(rng.uniform(0, 360), rng.standard_normal(3), rotate_cell=True)
    other.translate(rng.standard_normal(3))
    other.rattle(0.005, rng=rng)
    other.wrap()
    return other


def test_disguised_copies_are_found_whatever_the_order() -> None:
    kinds = [bulk("Si"), bulk("Si", "bcc", a=3.0, cubic=True), bulk("Si", "hcp", a=2.7, c=4.4), bulk("Ge", a=5.66)]
    structures = [disguise(kinds[k % 4], k) for k in range(16)]
    labels = cluster_duplicates(structures)
    assert labels == [k % 4 for k in range(16)]
    order = np.random.default_rng(0).permutation(16)
    shuffled = cluster_duplicates([structures[k] for k in order])
    groups = {frozenset(order[i] for i in range(16) if shuffled[i] == label) for label in shuffled}
    assert groups == {frozenset(range(k, 16, 4)) for k in range(4)}


def test_symmetry_buckets_give_the_same_clusters_without_noise() -> None:
    kinds = [
        bulk("Si"),
        bulk("Si", "bcc", a=3.0, cubic=True),
        bulk("Si", "hcp", a=2.7, c=4.4),
        bulk("NaCl", "rocksalt", a=5.6),
    ]
    structures = [disguise(kinds[k % 4], k) for k in range(12)]
    labels = cluster_duplicates(structures, symprec=0.1)
    assert labels == cluster_duplicates(structures) == [k % 4 for k in range(12)]
    assert [fingerprint(structures[k]) for k in range(4)] == [
        "Si 227 Si:a",
        "Si 229 Si:a",
        "Si 194 Si:c",
        "ClNa 225 Na:a Cl:b",
    ]
    # Below the noise of 0.005 Å the copies fall apart.
    assert len(set(cluster_duplicates(structures, symprec=1e-4))) > 4
    overlapping = Atoms("Si2", positions=[(0, 0, 0), (0, 0, 1e-3)], cell=[3, 3, 3], pbc=True)
    assert fingerprint(overlapping) == "Si"


def test_compressed_copy_and_other_energy_stay_apart() -> None:
    silicon, compressed = bulk("Si"), bulk("Si", a=5.2)
    assert cluster_duplicates([silicon, compressed]) == [0, 1]
    assert cluster_duplicates([silicon, silicon.copy()], [-5.0, -4.9]) == [0, 1]
    assert cluster_duplicates([silicon, silicon.copy()], [-5.0, -4.999]) == [0, 0]
    assert cluster_duplicates([]) == []


def test_closest_pair_sees_own_images() -> None:
    atom = Atoms("Si", cell=[10, 1.2, 10], pbc=True)
    pair = closest_pair(atom)
    assert pair is not None
    assert (pair.first, pair.second) == (0, 0)
    assert pair.distance == pytest.approx(1.2)
    assert pair.ratio == pytest.approx(1.2 / 2.22)
    assert closest_pair(atom, 0.5) is None
    atom.pbc = False
    assert closest_pair(atom) is None


def test_closest_neighbors_are_the_shells_of_known_crystals() -> None:
    d = 5.43 * 3**0.5 / 4
    assert closest_neighbors([bulk("Si", a=5.43)], 5) == pytest.approx([d] * 4 + [5.43 / 2**0.5])
    assert closest_neighbors([bulk("Cu", a=3.6, cubic=True)], 13) == pytest.approx([3.6 / 2**0.5] * 12 + [3.6])
    # Of a set, the closest anywhere; far away counts as the cutoff.
    pair = Atoms("Si2", positions=[[0, 0, 0], [0, 0, 2.0]])
    assert closest_neighbors([bulk("Si", a=5.43), pair], 3) == pytest.approx([2.0, d, d])
    assert closest_neighbors([pair], 3, cutoff=5.0) == pytest.approx([2.0, 5.0, 5.0])
    assert closest_neighbors([], 2).tolist() == [6.0, 6.0]
