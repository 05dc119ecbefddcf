"""The equivariant network: symmetries, smoothness, empty inputs, scripting, exactness of its tables."""

import copy
import itertools

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from e3nn import o3
from network_checks import EMPTY, check_edge_gradients, check_few_atoms, check_owned, check_script, graph
from sympy.physics.wigner import wigner_3j

from mlcalc.graphs import build_graph
from mlcalc.potentials._angular import components, coupling
from mlcalc.potentials._radial import BesselBasis, envelope
from mlcalc.potentials._sphere import SphereProduct
from mlcalc.potentials.equivariant import EquivariantNetwork, _BodyOrder

SETTINGS = [
    {},
    {"correlation": 4},
    {"l_max": 3, "l_hidden": 2, "layers": 3},
    {"l_max": 2, "correlation": 2, "layers": 2},
    {"l_max": 3, "l_hidden": 0, "layers": 2},
]


def network(n_elements: int = 2, **settings) -> EquivariantNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return EquivariantNetwork(n_elements, 4.0, **{"channels": 8, **settings}).double().requires_grad_(False)


@pytest.mark.parametrize("settings", SETTINGS)
def test_energies_do_not_change_under_rotation_and_mirror(settings):
    net, g = network(**settings), graph()
    energies = net(g.species, g.edge_index, g.edge_vectors)
    assert energies.std() > 1e-3
    with torch.random.fork_rng():
        torch.manual_seed(0)
        rotation = o3.rand_matrix(dtype=torch.float64)
    for matrix in (
        rotation,
        -torch.eye(3, dtype=torch.float64),
        rotation @ torch.diag(torch.tensor([1.0, 1, -1]).double()),
    ):
        turned = net(g.species, g.edge_index, g.edge_vectors @ matrix.T)
        assert (turned - energies).abs().max() < 1e-13


def test_energies_depend_on_angles_not_only_on_distances():
    net = network(1)
    bent, straight = (
        Atoms("Na3", [(2.0, 0, 0), (0, 0, 0), (2.0 * np.cos(t), 2.0 * np.sin(t), 0)]) for t in (2.0, np.pi)
    )
    one, two = (build_graph(a, ("Na",), 2.5) for a in (bent, straight))
    difference = net(one.species, one.edge_index, one.edge_vectors) - net(two.species, two.edge_index, two.edge_vectors)
    assert difference.abs().max() > 1e-3


@pytest.mark.parametrize("correlation", [2, 3, 4])
def test_features_rotate_as_e3nn_says(correlation):
    irreps = o3.Irreps("0e+1o+2e")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = _BodyOrder(1, 2, 2, correlation, 4, 3).double()
        a = torch.randn(5, components(2), 4, dtype=torch.float64)
        rotation = -o3.rand_matrix(dtype=torch.float64)
        d = irreps.D_from_matrix(rotation)
    species = torch.zeros(5, dtype=torch.int64)
    plain, turned = body(a, species), body(d @ a, species)
    assert plain.square().mean(dim=(0, 2)).min() > 1e-3  # every degree is there
    assert (d @ plain - turned).abs().max() < 1e-5  # e3nn rounds D to float32


def test_products_on_the_sphere_are_clebsch_gordan_times_gaunt():
    """A product's component of degree l3 is e3nn's coupling of l1 and l2 times one number, which sympy knows."""
    l_max = 3
    size = components(l_max)
    unit = torch.eye(size, dtype=torch.float64)
    first, second = unit.repeat_interleave(size, 0), unit.repeat(size, 1)  # all pairs, as atoms of one channel
    product = SphereProduct(l_max, l_max, l_max).double()(first.unsqueeze(2), second.unsqueeze(2))
    product = product.reshape(size, size, size)  # (M1, M2, M3)
    for l1, l2, l3 in itertools.product(range(l_max + 1), repeat=3):
        block = product[l1 * l1 : (l1 + 1) ** 2, l2 * l2 : (l2 + 1) ** 2, l3 * l3 : (l3 + 1) ** 2]
        zeros = float(wigner_3j(l1, l2, l3, 0, 0, 0))
        if abs(l1 - l2) > l3 or l3 > l1 + l2:
            assert block.abs().max() < 1e-13
            continue
        gaunt = abs(zeros) * np.sqrt((2 * l1 + 1) * (2 * l2 + 1) * (2 * l3 + 1))
        w3j = o3.wigner_3j(l1, l2, l3, dtype=torch.float64)
        sign = 1 if (block * w3j).sum() >= 0 else -1
        assert (block - sign * gaunt * w3j).abs().max() < 1e-13


def test_sphere_integrates_what_it_promises_and_refuses_more():
    one = torch.zeros(1, components(6), 1, dtype=torch.float64)
    one[0, 6 * 6 + 6] = 1.0  # Y_60 about e3nn's polar axis y: sqrt(13) P_6(y)
    square = SphereProduct(6, 6, 6).double()(one, one)
    cube = SphereProduct(6, 6, 0).double()(square, one)
    x, w = np.polynomial.legendre.leggauss(20)
    expected = 13**1.5 * np.sum(w * np.polynomial.legendre.Legendre.basis(6)(x) ** 3) / 2
    assert float(cube) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="degree 80"):
        SphereProduct(20, 20, 40)


def test_coupling_is_e3nn_tensor_product():
    table = coupling(1, 1, 2)
    assert table.shape == (1 * 2 + 3 * 2 + 5 * 1, 4, 4)
    # l3 = 2 from 1 x 1: e3nn's w3j in component normalisation.
    w3j = o3.wigner_3j(1, 1, 2, dtype=torch.float64) * np.sqrt(5.0)
    assert (table[-5:, 1:, 1:] - w3j.permute(2, 0, 1)).abs().max() < 1e-15


def test_tables_are_exact_after_a_detour_through_float32():
    exact, detour = network(layers=2), network(layers=2)
    detour = copy.deepcopy(detour).float().double()
    for one, other in zip(exact.last_product.products, detour.last_product.products, strict=True):
        assert torch.equal(one.values(), other.values())
        assert torch.equal(one.weights(), other.weights())
    assert torch.equal(exact.convolutions[0].coupling(), detour.convolutions[0].coupling())
    assert torch.equal(exact.radial.frequencies(), detour.radial.frequencies())


@pytest.mark.parametrize("settings", SETTINGS)
def test_edge_gradients_match_finite_differences(settings):
    check_edge_gradients(network(**settings))


def test_smooth_where_a_neighbour_crosses_the_cutoff():
    net = network(1)

    def energy(r: float) -> float:
        atoms = Atoms("Na3", [(0, 0, 0), (2.1, 0, 0), (0, r, 0)])
        g = build_graph(atoms, ("Na",), 4.0)
        return float(net(g.species, g.edge_index, g.edge_vectors)[0])

    h = 1e-3
    values = [energy(4.0 + k * h) for k in range(-4, 5)]
    steps = np.diff(values)
    assert abs(values[5] - values[3]) < 1e-8
    assert np.abs(steps).max() < 1e-7  # value and slope vanish at the cutoff
    assert abs(energy(3.0) - energy(4.1)) > 1e-4


@pytest.mark.parametrize("atoms", EMPTY)
@pytest.mark.parametrize("settings", SETTINGS)
def test_no_atoms_one_atom_no_edges(atoms, settings):
    check_few_atoms(network(**settings), atoms)


@pytest.mark.parametrize("settings", SETTINGS)
def test_script_gives_the_same(settings):
    check_script(network(**settings))


def test_owned_atoms_alone_give_the_energies_they_have_among_all():
    check_owned(network(layers=1))


@pytest.mark.parametrize("layers", [1, 2])
def test_energies_are_bounded_at_any_density(layers):
    """Products are polynomials; the norm behind them keeps them from running away in compressed cells."""
    net = network(1, layers=layers)
    with torch.no_grad():
        largest = 23  # of a feature: 4 sqrt(32)
        readout = net.last_readout[2].weight.abs().sum() * (net.last_readout[0].weight.abs().sum() * largest + 1)
    for a in (4.2, 2.4, 1.5):
        g = build_graph(bulk("Na", "fcc", a=a), ("Na",), 4.0)
        assert net(g.species, g.edge_index, g.edge_vectors).abs().max() < 2 * readout


def test_envelope_is_smooth_and_ends_at_one():
    x = torch.linspace(0.9, 1.1, 2001, dtype=torch.float64)
    y = envelope(x).numpy()
    assert y[1000:].max() == pytest.approx(0.0, abs=1e-12)
    second = np.diff(y, 2) / (1e-4) ** 2
    assert np.abs(np.diff(second)).max() < 0.5  # no jump in the second derivative
    assert envelope(torch.zeros(1)).item() == 1.0


def test_bessel_functions_are_those_of_the_paper():
    basis = BesselBasis(5.0, 4).double()
    r = torch.tensor([1.3, 2.7], dtype=torch.float64)
    n = np.arange(1, 5)
    expected = 5.0 * np.sqrt(2 / 5.0) * np.sin(n * np.pi * r.numpy()[:, None] / 5.0) / r.numpy()[:, None]
    expected *= envelope(r[:, None] / 5.0).numpy()
    assert np.abs(basis(r).numpy() - expected).max() < 1e-12
