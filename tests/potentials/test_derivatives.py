"""Forces, stress and virials from g_e = ∂E/∂r_e against finite differences of the energy itself."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from mlcalc.graphs import build_graph, collate
from mlcalc.graphs.graph import Graph
from mlcalc.potentials import Potential, PotentialInfo, build
from mlcalc.potentials.derivatives import atomic_virials, energies_and_gradients, forces, strain_derivative

ELEMENTS = ("Si", "C")
H = 1e-4


@pytest.fixture(scope="module", params=["schnet", "equivariant"])
def potential(request: pytest.FixtureRequest) -> Potential:
    torch.manual_seed(5)
    network = {"layers": 2, "channels": 8} | ({"l_max": 3} if request.param == "equivariant" else {})
    config = {"architecture": request.param, "network": network, "zbl": True}
    model = build(config, PotentialInfo(elements=ELEMENTS, cutoff=4.0, layers=2), torch.float64)
    model.set_energies([-5.4, -9.1], 30.0 if request.param == "schnet" else 0.3)  # forces of the size of real ones
    return model.eval()


def structures() -> dict[str, Atoms]:
    rng = np.random.default_rng(7)
    sheared = bulk("SiC", "zincblende", a=4.3)
    sheared.set_cell(sheared.cell[:] @ (np.eye(3) + rng.uniform(-0.15, 0.15, (3, 3))), scale_atoms=True)
    slab = bulk("Si", cubic=True)
    slab.pbc = [True, True, False]
    cluster = molecule("C2H6")
    cluster.symbols[:] = ["C", "Si"] * 4
    cluster.positions *= 1.6
    out = {"triclinic": sheared, "slab": slab, "molecule": cluster}
    for atoms in out.values():
        atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
    return out


def graph_of(atoms: Atoms) -> Graph:
    return build_graph(atoms, ELEMENTS, 4.0)


def energy(potential: Potential, atoms: Atoms) -> float:
    graph = graph_of(atoms)
    with torch.no_grad():
        return float(potential(graph.species, graph.edge_index, graph.edge_vectors, None).sum())


@pytest.mark.parametrize("name", list(structures()))
def test_forces_are_minus_the_slope_of_the_energy(potential: Potential, name: str) -> None:
    atoms = structures()[name]
    graph = graph_of(atoms)
    _, gradients = energies_and_gradients(potential, graph)
    found = forces(gradients, graph.edge_index, graph.n_atoms).numpy()
    assert np.abs(found).max() > 1e-2
    np.testing.assert_allclose(found.sum(axis=0), 0, atol=1e-10)
    for atom, axis in ((0, 0), (1, 1), (1, 2)):
        side = []
        for step in (H, -H):
            moved = atoms.copy()
            moved.positions[atom, axis] += step
            side.append(energy(potential, moved))
        assert found[atom, axis] == pytest.approx(-(side[0] - side[1]) / (2 * H), abs=2e-6)


@pytest.mark.parametrize("name", list(structures()))
def test_strain_derivative_is_the_slope_under_strain(potential: Potential, name: str) -> None:
    atoms = structures()[name]
    graph = graph_of(atoms)
    _, gradients = energies_and_gradients(potential, graph)
    found = strain_derivative(gradients, graph)[0].numpy()
    np.testing.assert_allclose(found, found.T, atol=1e-6)
    for i, j in ((0, 0), (1, 2), (0, 2)):
        side = []
        for step in (H, -H):
            strain = np.eye(3)
            strain[i, j] += step
            moved = atoms.copy()
            moved.set_cell(atoms.cell[:] @ strain)
            moved.positions = atoms.positions @ strain
            side.append(energy(potential, moved))
        assert found[i, j] == pytest.approx((side[0] - side[1]) / (2 * H), abs=2e-5)


def test_batch_equals_one_by_one_and_atomic_virials_sum_to_the_total(potential: Potential) -> None:
    graphs = [graph_of(atoms) for atoms in structures().values()]
    batch = collate(graphs)
    energies, gradients = energies_and_gradients(potential, batch)
    totals = strain_derivative(gradients, batch)
    per_atom = atomic_virials(gradients, batch)
    all_forces = forces(gradients, batch.edge_index, batch.n_atoms)
    for b, graph in enumerate(graphs):
        rows = batch.batch == b
        e, g = energies_and_gradients(potential, graph)
        torch.testing.assert_close(energies[rows], e, rtol=0, atol=1e-11)
        torch.testing.assert_close(all_forces[rows], forces(g, graph.edge_index, graph.n_atoms), rtol=0, atol=1e-11)
        torch.testing.assert_close(totals[b], strain_derivative(g, graph)[0], rtol=0, atol=1e-10)
        torch.testing.assert_close(per_atom[rows].sum(0), -totals[b], rtol=0, atol=1e-10)


def test_create_graph_gives_derivatives_of_forces(potential: Potential) -> None:
    graph = graph_of(structures()["molecule"])
    _, gradients = energies_and_gradients(potential, graph, create_graph=True)
    loss = forces(gradients, graph.edge_index, graph.n_atoms).square().sum()
    weights = [p for p in potential.parameters() if p.requires_grad]
    slopes = torch.autograd.grad(loss, weights, allow_unused=True)
    assert max(float(s.abs().max()) for s in slopes if s is not None) > 0


def test_nothing_to_derive(potential: Potential) -> None:
    for atoms in (Atoms(), Atoms("Si")):
        graph = graph_of(atoms)
        energies, gradients = energies_and_gradients(potential, graph)
        assert energies.shape == (len(atoms),)
        assert gradients.shape == (0, 3)
        assert torch.isfinite(energies).all()
        assert not energies.requires_grad
