"""The gated equivariant network: symmetries, derivatives, smoothness, empty inputs, scripting."""

import copy

import numpy as np
import pytest
import torch
from ase import Atoms
from e3nn import o3
from e3nn.nn import Gate
from network_checks import EMPTY, check_edge_gradients, check_few_atoms, check_owned, check_script, graph

from mlcalc.graphs import build_graph
from mlcalc.ops.convolution import product_paths
from mlcalc.potentials.nequip import NequIPNetwork, _Convolution, _flat, _Interaction

SETTINGS = [
    {"channels": [6, 4, 2], "layers": 3},
    {"channels": [6, 3, 2, 2], "layers": 2, "cutoff_on": 3.5},
    {"channels": [4], "layers": 2},
    {"channels": [6, 4], "layers": 1},
]


def network(n_elements: int = 2, **settings) -> NequIPNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return NequIPNetwork(n_elements, 4.0, **settings).double().requires_grad_(False)


@pytest.mark.parametrize("settings", SETTINGS)
def test_energies_do_not_change_under_rotation(settings):
    net, g = network(**settings), graph()
    energies = net(g.species, g.edge_index, g.edge_vectors)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        rotation = o3.rand_matrix(dtype=torch.float64)
    turned = net(g.species, g.edge_index, g.edge_vectors @ rotation.T)
    assert (turned - energies).abs().max() < 1e-12 * energies.abs().max()
    assert energies.std() > 1e-3


def test_a_mirror_changes_them():
    """The sign of edge vectors matters: products of two vectors to a vector are allowed."""
    net, g = network(**SETTINGS[0]), graph()
    energies = net(g.species, g.edge_index, g.edge_vectors)
    change = (net(g.species, g.edge_index, -g.edge_vectors) - energies).abs().max()
    assert change > 1e-7 * energies.abs().max()  # rotations: 1e-15


@pytest.mark.parametrize("fused", [True, False])
def test_convolution_is_that_of_e3nn(fused):
    """Messages, sums and linear map against e3nn's tensor product and linear layer, weights copied over."""
    channels, out, l_edge = [4, 3, 2], [5, 2, 2], 2
    with torch.random.fork_rng():
        torch.manual_seed(1)
        ours = _Convolution(channels, out, l_edge, [3, 8], 9.0).double()
        ours.fused = fused
        basis, harmonics, vectors = torch.randn(7, 3).double(), torch.randn(7, 9).double(), torch.randn(7, 3).double()
        features = [torch.randn(4, 2 * l + 1, c).double() for l, c in enumerate(channels)]
    edges = torch.tensor([[0, 0, 1, 2, 2, 3, 3], [1, 2, 0, 0, 3, 2, 1]])
    irreps = o3.Irreps([(c, (l, 1)) for l, c in enumerate(channels)])
    middle, instructions = [], []
    for l1, c in enumerate(channels):
        for l2, l3 in product_paths(l1, l_edge, 2):
            instructions.append((l1, l2, len(middle), "uvu", True))
            middle.append((c, (l3, 1)))
    product = o3.TensorProduct(
        irreps, o3.Irreps.spherical_harmonics(l_edge, p=1), middle, instructions, shared_weights=False
    ).double()
    for name, table in product.named_buffers():
        if "_w3j_" in name:
            table.copy_(o3.wigner_3j(*map(int, name.split("_")[-3:]), dtype=torch.float64))
    ordered, order, _ = product.irreps_out.sort()
    linear = o3.Linear(ordered, o3.Irreps([(c, (l, 1)) for l, c in enumerate(out)])).double()
    with torch.no_grad():
        linear.weight.copy_(torch.cat([w.flatten() for w in ours.linear.weights]))
    flat = torch.cat([f.transpose(1, 2).flatten(1) for f in features], 1)
    message = product(flat[edges[1]], harmonics, ours.radial(basis))
    parts = [message[:, s] for s in product.irreps_out.slices()]
    message = torch.cat([parts[i] for i in np.argsort(order)], 1)
    expected = linear(torch.zeros(4, message.shape[1]).double().index_add(0, edges[0], message)) / 3.0
    got = torch.cat(
        [f.transpose(1, 2).flatten(1) for f in ours(4, _flat(features), edges, vectors, basis, harmonics)], 1
    )
    assert (got - expected).abs().max() < 1e-13
    assert expected.abs().mean() > 0.1


def test_gate_is_that_of_e3nn():
    layer = _Interaction(True, [4], [5, 3, 2], 2, [3, 4], 4.0).double()
    gate = Gate("5x0e", [torch.nn.functional.silu], "3x0e+2x0e", [torch.nn.functional.silu] * 2, "3x1e+2x2e").double()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        features = [torch.randn(6, 2 * l + 1, c).double() for l, c in enumerate([10, 3, 2])]
    expected = gate(torch.cat([f.transpose(1, 2).flatten(1) for f in features], 1))
    got = torch.cat([f.transpose(1, 2).flatten(1) for f in layer.gate(features)], 1)
    assert (got - expected).abs().max() < 1e-14


@pytest.mark.parametrize("settings", SETTINGS)
def test_edge_gradients_match_finite_differences(settings):
    check_edge_gradients(network(**settings))


@pytest.mark.parametrize("cutoff_on", [None, 3.0])
def test_smooth_where_a_neighbour_crosses_the_cutoff(cutoff_on):
    net = network(1, channels=[6, 4], layers=2, cutoff_on=cutoff_on)

    def energy(r: float) -> float:
        atoms = Atoms("Na3", [(0, 0, 0), (2.1, 0, 0), (0, r, 0)])
        g = build_graph(atoms, ("Na",), 4.0)
        return float(net(g.species, g.edge_index, g.edge_vectors)[0])

    def slope(r: float, h: float = 1e-4) -> float:
        return (energy(r + h) - energy(r - h)) / (2 * h)

    assert abs(energy(4.0 - 1e-5) - energy(4.0 + 1e-5)) < 1e-8
    assert abs(slope(4.0)) < 1e-4 * abs(slope(3.2))
    assert slope(3.0 - 1e-3) == pytest.approx(slope(3.0 + 1e-3), rel=0.05)  # XPLOR's onset


@pytest.mark.parametrize("atoms", EMPTY)
@pytest.mark.parametrize("settings", SETTINGS)
def test_no_atoms_one_atom_no_edges(atoms, settings):
    check_few_atoms(network(**settings), atoms)


@pytest.mark.parametrize("settings", SETTINGS)
def test_script_gives_the_same(settings):
    check_script(network(**settings))


def test_tables_are_exact_after_a_detour_through_float32():
    exact = network(**SETTINGS[0])
    detour = copy.deepcopy(exact).float().double()
    for a, b in zip(exact.interactions, detour.interactions, strict=True):
        assert torch.equal(a.convolution.coupling(), b.convolution.coupling())


def test_owned_atoms_alone_give_the_energies_they_have_among_all():
    check_owned(network(layers=1, channels=[6, 4]))


def test_settings_that_cannot_work():
    with pytest.raises(ValueError, match="at least one layer"):
        NequIPNetwork(1, 4.0, layers=0)
    with pytest.raises(ValueError, match="two scalars"):
        NequIPNetwork(1, 4.0, channels=[1])
    with pytest.raises(ValueError, match="cutoff_on 4"):
        NequIPNetwork(1, 4.0, cutoff_on=4.5)
