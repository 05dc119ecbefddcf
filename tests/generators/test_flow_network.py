"""The networks and paths of the generator `flow`: symmetries, losses, and distributions that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from scipy.spatial.transform import Rotation

from mlcalc.crystals.matching import match_error
from mlcalc.errors import GeneratorError
from mlcalc.generators._flow_data import Scales, collate, to_atoms, to_numbers
from mlcalc.generators._flow_lattice import reduced, to_cells, to_shape
from mlcalc.generators._flow_loss import geometry_losses, species_loss
from mlcalc.generators._flow_network import CompositionNetwork, FlowNetworkSettings, GeometryNetwork
from mlcalc.generators._flow_paths import displacements, draw_path, wrapped
from mlcalc.generators._flow_sampling import GeometrySampler, Schedule

ELEMENTS = ("Ba", "O", "Ti")
SMALL = FlowNetworkSettings(width=32, messages=24, layers=2, feedforward=32, frequencies=4, composition=32)


def perovskite(edge: float = 4.0) -> Atoms:
    sites = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Atoms("BaTiO3", cell=np.eye(3) * edge, scaled_positions=sites, pbc=True)


@pytest.fixture(scope="module")
def network() -> GeometryNetwork:
    torch.manual_seed(0)
    made = GeometryNetwork(ELEMENTS, 2, SMALL).double()
    for head in (made.coordinates[-1], made.lattice[-1]):
        torch.nn.init.normal_(head.weight)
    return made


def velocities(network: GeometryNetwork, atoms: Atoms, coordinates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shape = torch.from_numpy(to_shape(atoms.cell.array, len(atoms)))[None]
    moved, changed = network(
        torch.tensor([[ELEMENTS.index(s) for s in atoms.symbols]]),
        torch.ones(1, len(atoms), dtype=torch.bool),
        torch.from_numpy(coordinates)[None],
        shape,
        shape,
        torch.tensor([0.3]).double(),
        torch.tensor([[0.2, 1.0]]).double(),
    )
    return moved[0].detach().numpy(), changed[0].detach().numpy()


def test_velocities_know_neither_origin_nor_order_nor_orientation(network: GeometryNetwork) -> None:
    rng = np.random.default_rng(0)
    atoms = perovskite()
    atoms.set_cell(atoms.cell.array + rng.normal(0, 0.4, (3, 3)))
    x = rng.random((5, 3))
    moved, changed = velocities(network, atoms, x)
    assert np.abs(moved).max() > 0.05
    np.testing.assert_allclose(moved.sum(axis=0), 0, atol=1e-12)
    for other in (x + rng.normal(0, 2, 3), x + rng.integers(-3, 3, (5, 3))):
        again, lattice = velocities(network, atoms, other)
        np.testing.assert_allclose(again, moved, atol=1e-9)
        np.testing.assert_allclose(lattice, changed, atol=1e-9)
    order = rng.permutation(5)
    again, lattice = velocities(network, atoms[order], x[order])
    np.testing.assert_allclose(again, moved[order], atol=1e-9)
    np.testing.assert_allclose(lattice, changed, atol=1e-9)
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ Rotation.random(random_state=1).as_matrix())
    again, lattice = velocities(network, turned, x)
    np.testing.assert_allclose(again, moved, atol=1e-9)
    np.testing.assert_allclose(lattice, changed, atol=1e-9)


def test_padding_changes_nothing(network: GeometryNetwork) -> None:
    crystals = [to_numbers(a, ELEMENTS) for a in (perovskite(), bulk("BaO", "rocksalt", a=5.5), bulk("Ti", "hcp"))]
    together = collate(crystals)
    condition = torch.zeros(3, 2).double()

    def run(batch, rows):  # type: ignore[no-untyped-def]
        shape = batch.shape.double()
        time = torch.full((len(rows),), 0.5).double()
        return network(batch.species, batch.atom, batch.coordinates.double(), shape, shape, time, condition[rows])

    moved, changed = run(together, [0, 1, 2])
    assert (moved[~together.atom] == 0).all()
    for k, crystal in enumerate(crystals):
        alone, lattice = run(collate([crystal]), [k])
        n = len(crystal.species)
        torch.testing.assert_close(moved[k, :n], alone[0], atol=1e-9, rtol=0)
        torch.testing.assert_close(changed[k], lattice[0], atol=1e-9, rtol=0)


def test_lattices_are_six_numbers_without_an_orientation() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        cell = rng.normal(0, 3, (3, 3))
        cell *= np.sign(np.linalg.det(cell))
        shape = to_shape(cell, 4)
        turned = to_shape(cell @ Rotation.random(random_state=int(rng.integers(100))).as_matrix(), 4)
        np.testing.assert_allclose(shape, turned, atol=1e-9)
        assert math.exp(shape[0]) == pytest.approx(np.linalg.det(cell) / 4)
        back = to_cells(torch.from_numpy(shape[None]), torch.tensor([4]))[0].numpy()
        np.testing.assert_allclose(back @ back.T, cell @ cell.T, atol=1e-8)
    np.testing.assert_allclose(to_shape(np.eye(3) * 4.0, 5)[1:], 0, atol=1e-12)


def test_the_same_crystal_in_another_cell_is_the_same_numbers() -> None:
    atoms = bulk("BaO", "rocksalt", a=5.5)
    other = atoms.copy()
    other.set_cell(np.array([[1, 0, 0], [3, 1, 0], [-2, 1, 1]]) @ atoms.cell.array)
    other.wrap()
    one, two = to_numbers(atoms, ELEMENTS), to_numbers(other, ELEMENTS)
    np.testing.assert_allclose(one.shape, two.shape, atol=1e-6)
    for made in (one, two):
        back = to_atoms(made.species, made.coordinates, made.shape, ELEMENTS)
        error = match_error(back, atoms)
        assert error is not None
        assert error < 1e-6
        assert back.get_volume() == pytest.approx(atoms.get_volume())
    tilted = perovskite()
    tilted.set_cell([[4, 0, 0], [0, 4.5, 0], [0, 0, 5]], scale_atoms=True)
    np.testing.assert_allclose(reduced(tilted).cell.array, tilted.cell.array)  # axes keep their names


def test_unknown_element_is_named() -> None:
    with pytest.raises(GeneratorError, match="Xe is none of the elements"):
        to_numbers(bulk("Xe", "fcc", a=6), ELEMENTS)


def test_paths_end_in_the_crystal_and_are_short() -> None:
    crystal, rng = to_numbers(perovskite(), ELEMENTS), np.random.default_rng(2)
    lengths, plain = [], []
    for _ in range(100):
        start = rng.random((5, 3))
        away = displacements(crystal, start, rng)
        np.testing.assert_allclose(away.sum(axis=0), 0, atol=1e-12)
        end = to_atoms(crystal.species, start + away, crystal.shape, ELEMENTS)
        error = match_error(end, perovskite())
        assert error is not None
        assert error < 1e-5
        lengths.append((away**2).sum())
        direct = wrapped(crystal.coordinates + rng.random(3) - start)
        plain.append(((direct - direct.mean(axis=0)) ** 2).sum())
    assert np.mean(lengths) < 0.6 * np.mean(plain)


def test_paths_are_straight_between_noise_and_data() -> None:
    crystals = [to_numbers(perovskite(a), ELEMENTS) for a in (3.9, 4.0, 4.2)]
    scales, batch = Scales.of(crystals, 3), collate(crystals)
    path = draw_path(crystals, batch, scales, np.random.default_rng(0))
    goal = scales.scaled(batch.shape, batch.species, batch.atom)
    remaining = (1 - path.time)[:, None]
    torch.testing.assert_close(path.lattice + remaining * path.lattice_velocity, goal, atol=1e-4, rtol=0)
    torch.testing.assert_close(scales.shape(goal, batch.species, batch.atom), batch.shape, atol=1e-5, rtol=0)
    for k, crystal in enumerate(crystals):
        end = (path.coordinates + remaining[..., None] * path.velocity)[k].double().numpy()
        error = match_error(to_atoms(crystal.species, end, crystal.shape, ELEMENTS), perovskite())
        assert error is not None
        assert error < 1e-4


def test_loss_of_elements_is_the_entropy_of_what_is_drawn() -> None:
    """A network that knows nothing says log K for each atom, whatever is masked."""
    crystals = [to_numbers(perovskite(), ELEMENTS), to_numbers(bulk("Ti", "hcp"), ELEMENTS)]
    torch.manual_seed(0)
    network = CompositionNetwork(ELEMENTS, 0, SMALL)
    for parameter in network.out.parameters():
        torch.nn.init.zeros_(parameter)
    nats = species_loss(network, collate(crystals), torch.zeros(2, 0), 3, np.random.default_rng(0))
    assert nats.tolist() == pytest.approx([5 * math.log(3), 2 * math.log(3)], abs=1e-5)


def test_a_flow_finds_two_points_on_the_torus() -> None:
    """Half of the pairs are 0.2 apart along x, half 0.5 along y: both come out, in that proportion, sharply."""
    cell = np.eye(3) * 4.0
    crystals = [
        to_numbers(Atoms("BaO", cell=cell, scaled_positions=[[0, 0, 0], away], pbc=True), ELEMENTS)
        for away in ([0.2, 0, 0], [0, 0.5, 0])
    ]
    scales, batch = Scales.of(crystals, 3), collate(crystals * 64)
    torch.manual_seed(1)
    network = GeometryNetwork(ELEMENTS, 0, SMALL)
    optimizer, rng = torch.optim.Adam(network.parameters(), 5e-3), np.random.default_rng(0)
    steps = 500
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 - step / steps) + 1e-5
        loss = geometry_losses(network, crystals * 64, batch, torch.zeros(128, 0), scales, rng).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    counts = [np.array([1, 1, 0])] * 200
    rngs = [np.random.default_rng([7, k]) for k in range(200)]
    drawn = GeometrySampler(network, scales, Schedule(50, 0.0)).draw(counts, torch.zeros(200, 0), None, rngs)
    away = np.stack([wrapped(d.coordinates[1] - d.coordinates[0]) for d in drawn])
    near = [np.linalg.norm(wrapped(away - goal), axis=1) < 0.06 for goal in ([0.2, 0, 0], [0, 0.5, 0])]
    assert near[0].sum() + near[1].sum() > 170
    assert 60 < near[0].sum() < 140
    assert np.std([d.shape[0] for d in drawn]) < 0.02  # all cells have one volume
