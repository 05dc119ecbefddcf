"""The network of CHGNet by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from mlcalc.graphs import Graph, build_graph, collate
from mlcalc.potentials.chgnet import CHGNetNetwork

ELEMENTS = ("Na", "Cl")


def network(short: float = 3.2) -> CHGNetNetwork:
    """Bonds are short out to 3.2 Å, so that rock salt has some."""
    torch.manual_seed(3)
    return CHGNetNetwork(2, 4.0, width=8, layers=3, n_radial=5, n_angular=5, short=short).double()


def graph_of(atoms: Atoms) -> Graph:
    return build_graph(atoms, ELEMENTS, 4.0, needs=("reverse_edge",))


def salt(seed: int = 1) -> Atoms:
    atoms = bulk("NaCl", "rocksalt", a=5.1, cubic=True)
    atoms.rattle(0.15, seed=seed)
    return atoms


def energies(net: torch.nn.Module, graph: Graph, vectors: torch.Tensor | None = None) -> torch.Tensor:
    return net(graph.species, graph.edge_index, graph.edge_vectors if vectors is None else vectors, graph.tables)


def test_gradients_are_those_of_moved_atoms() -> None:
    """Both edges of a bond move with an atom; its force against central differences of the energy."""
    net, atoms, h = network(), salt(), 1e-5
    graph = graph_of(atoms)
    vectors = graph.edge_vectors.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(energies(net, graph, vectors).sum(), vectors)
    force = torch.zeros(len(atoms), 3, dtype=torch.float64)
    force.index_add_(0, graph.edge_index[0], gradient).index_add_(0, graph.edge_index[1], -gradient)
    for atom, axis in ((0, 0), (5, 2)):
        ends = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * h
            ends.append(energies(net, graph_of(moved)).sum().item())
        assert (ends[1] - ends[0]) / (2 * h) == pytest.approx(float(force[atom, axis]), abs=1e-7)
    assert force.abs().max() > 1e-3


def test_angles_are_seen() -> None:
    """Three atoms at the same distances from the first, at two angles and without any bond among themselves."""

    def triangle(angle: float) -> Atoms:
        return Atoms("NaClCl", [(0, 0, 0), (2.5, 0, 0), (2.5 * np.cos(angle), 2.5 * np.sin(angle), 0)])

    assert len(graph_of(triangle(np.pi * 0.75)).edge_vectors) == 4  # the two chlorines do not see each other
    changes = []
    for short in (3.2, 2.4):
        one, two = (energies(network(short), graph_of(triangle(angle))) for angle in (np.pi * 0.9, np.pi * 0.75))
        changes.append(float((one - two).detach().abs().max()))
    assert changes[0] > 1e-9
    assert changes[1] < 1e-14  # no bond is short: no angle


def test_turned_and_mirrored_crystals_are_the_same() -> None:
    net, atoms = network(), salt()
    wanted = energies(net, graph_of(atoms))
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turned = Atoms(atoms.numbers, cell=atoms.cell.array @ turn, positions=atoms.positions @ turn, pbc=True)
    assert (energies(net, graph_of(turned)) - wanted).abs().max() < 1e-12
    image = Atoms(atoms.numbers, cell=-atoms.cell.array, positions=-atoms.positions, pbc=True)
    assert (energies(net, graph_of(image)) - wanted).abs().max() < 1e-12


@pytest.mark.parametrize("atoms", [Atoms(), Atoms("Na"), Atoms("NaCl", [(0, 0, 0), (9, 0, 0)])], ids=len)
def test_few_atoms(atoms: Atoms) -> None:
    found = energies(network(), graph_of(atoms))
    assert found.shape == (len(atoms),)
    assert torch.isfinite(found).all()


def test_script_and_batch() -> None:
    net, graphs = network(), [graph_of(salt(1)), graph_of(Atoms("Na")), graph_of(salt(2))]
    plain = torch.cat([energies(net, graph) for graph in graphs])
    together = collate(graphs)
    assert (energies(net, together) - plain).abs().max() < 1e-12
    scripted = torch.jit.script(net)
    for _ in range(3):
        assert (energies(scripted, together) - plain).abs().max() < 1e-12


def test_what_it_cannot_do_is_said() -> None:
    graph = graph_of(salt())
    with pytest.raises(ValueError, match="reverse"):
        network()(graph.species, graph.edge_index, graph.edge_vectors)
    with pytest.raises(ValueError, match="odd"):
        CHGNetNetwork(2, 4.0, n_angular=4)
