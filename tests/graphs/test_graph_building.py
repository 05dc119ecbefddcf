"""Index tables, graphs of atoms, batches."""

import itertools

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from torch import nn

from mlcalc.errors import NonFiniteError, UnknownElementError
from mlcalc.graphs import build_graph, collate, index_tables, neighbor_list
from mlcalc.potentials.base import Potential, PotentialInfo
from mlcalc.potentials.derivatives import energies_and_gradients, forces, strain_derivative

NEEDS = ("reverse_edge", "triplets")


class ThreeBody(Potential):
    """Smooth pair and angle terms that use both index tables, a per-structure input and the batch."""

    def __init__(self):
        super().__init__()
        self.info = PotentialInfo(("H", "C", "Si"), 4.0, 1, needs=NEEDS, inputs=("field",))
        self.weight = nn.Parameter(torch.tensor([0.7, 1.1, 1.9], dtype=torch.float64))

    def forward(self, species, edge_index, edge_vectors, extra=None):
        length = torch.linalg.norm(edge_vectors, dim=1)
        envelope = (1.0 - (length / self.info.cutoff) ** 2) ** 3
        edge = envelope * self.weight[species[edge_index[1]]]
        edge = edge + 0.1 * (edge_vectors + 0.5 * edge_vectors[extra["reverse_edge"]]).pow(2).sum(dim=1) * envelope
        energies = self.weight[species] * extra["field"][extra["batch"]]
        energies = energies.index_add(0, edge_index[0], edge)
        a, b = extra["triplets"].unbind(1)
        cosine = (edge_vectors[a] * edge_vectors[b]).sum(dim=1) / (length[a] * length[b])
        return energies.index_add(0, edge_index[0][a], cosine**2 * envelope[a] * envelope[b])


def structures():
    sheared = bulk("Si")
    sheared.set_cell(
        sheared.cell.array @ np.array([[1.0, 0.6, 0.0], [0.0, 1.0, -0.3], [0.0, 0.0, 1.0]]), scale_atoms=True
    )
    slab = bulk("Si", cubic=True)
    slab.pbc = (True, True, False)
    slab.rattle(0.1, seed=2)
    return [sheared, Atoms("H"), molecule("CH4"), Atoms(), slab, Atoms("SiC", [[0, 0, 0], [9, 0, 0]])]


def test_index_tables_against_definition():
    rng = np.random.default_rng(1)
    cell = 2.6 * np.eye(3) + rng.uniform(-1.0, 1.0, (3, 3))
    edge_index, shifts = neighbor_list(rng.uniform(-3.0, 3.0, (3, 3)), cell, (True, True, False), 3.3)
    tables = index_tables(edge_index, shifts, NEEDS)
    reverse = tables["reverse_edge"].numpy()
    np.testing.assert_array_equal(edge_index[:, reverse], edge_index[::-1])
    np.testing.assert_array_equal(shifts[reverse], -shifts)
    n_edges = edge_index.shape[1]
    expected = [(a, b) for a, b in itertools.permutations(range(n_edges), 2) if edge_index[0, a] == edge_index[0, b]]
    assert n_edges > 20
    assert [tuple(t) for t in tables["triplets"].tolist()] == expected
    from_tensors = index_tables(torch.from_numpy(edge_index), torch.from_numpy(shifts), NEEDS)
    assert all(torch.equal(from_tensors[name], tables[name]) for name in NEEDS)


def test_index_tables_without_edges_and_with_wrong_ones():
    empty = index_tables(np.zeros((2, 0), dtype=np.int64), np.zeros((0, 3), dtype=np.int64), NEEDS)
    assert empty["reverse_edge"].shape == (0,)
    assert empty["triplets"].shape == (0, 2)
    assert empty["triplets"].dtype == empty["reverse_edge"].dtype == torch.int64
    assert index_tables(np.zeros((2, 0)), np.zeros((0, 3)), ()) == {}
    with pytest.raises(ValueError, match="reverse"):
        index_tables(np.array([[0], [1]]), np.zeros((1, 3)), ["reverse_edge"])
    with pytest.raises(ValueError, match="sorted"):
        index_tables(np.array([[1, 0], [0, 1]]), np.zeros((2, 3)), ["triplets"])
    with pytest.raises(ValueError, match="quartets"):
        index_tables(np.zeros((2, 0)), np.zeros((0, 3)), ["quartets"])


def test_graph_of_atoms():
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    graph = build_graph(atoms, ("Cl", "Na"), 3.0, needs=("reverse_edge",), dtype=torch.float32, inputs={"charge": 2.0})
    assert graph.species.tolist() == [1, 0]
    assert graph.n_atoms == 2
    assert graph.n_edges == 12
    assert graph.edge_vectors.dtype == torch.float32
    torch.testing.assert_close(torch.linalg.norm(graph.edge_vectors, dim=1), torch.full((12,), 2.8))
    assert set(graph.tables) == {"reverse_edge", "charge"}
    assert graph.tables["charge"].tolist() == [2.0]


def test_bad_atoms_are_named():
    atoms = molecule("CH3OH")
    with pytest.raises(UnknownElementError, match=r"O \(atom 1\).*knows C, H"):
        build_graph(atoms, ("C", "H"), 3.0)
    atoms.positions[4] = np.nan
    with pytest.raises(NonFiniteError, match="atom 4"):
        build_graph(atoms, ("C", "H", "O"), 3.0)


def test_batch_equals_one_by_one():
    potential = ThreeBody()
    graphs = [
        build_graph(atoms, potential.info.elements, potential.info.cutoff, NEEDS, inputs={"field": 0.3 * n - 0.4})
        for n, atoms in enumerate(structures())
    ]
    batch = collate(graphs)
    assert batch.n_structures == len(graphs)
    energies, gradients = energies_and_gradients(potential, batch)
    all_forces = forces(gradients, batch.edge_index, batch.n_atoms)
    strain = strain_derivative(gradients, batch)
    atom = 0
    for n, graph in enumerate(graphs):
        one_energies, one_gradients = energies_and_gradients(potential, graph)
        rows = slice(atom, atom + graph.n_atoms)
        torch.testing.assert_close(energies[rows], one_energies, rtol=1e-13, atol=1e-13)
        one_forces = forces(one_gradients, graph.edge_index, graph.n_atoms)
        torch.testing.assert_close(all_forces[rows], one_forces, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(strain[n], strain_derivative(one_gradients, graph)[0], rtol=1e-12, atol=1e-12)
        atom += graph.n_atoms
    assert atom == batch.n_atoms
    assert all_forces.abs().max() > 0.1


def test_batches_of_batches():
    graphs = [build_graph(atoms, ("H", "C", "Si"), 4.0, NEEDS) for atoms in structures()]
    flat = collate(graphs)
    nested = collate([collate(graphs[:2]), collate(graphs[2:])])
    assert nested.n_structures == flat.n_structures
    for name in ("species", "edge_index", "edge_vectors", "batch"):
        assert torch.equal(getattr(nested, name), getattr(flat, name))
    assert all(torch.equal(nested.tables[name], flat.tables[name]) for name in NEEDS)


def test_collate_refuses_what_it_cannot_join():
    with pytest.raises(ValueError, match="empty"):
        collate([])
    with pytest.raises(ValueError, match="different"):
        collate([build_graph(Atoms("H"), ("H",), 3.0, needs) for needs in ((), NEEDS)])
