import numpy as np
import pytest
import torch

import mlcalc.potentials.schnet as module
from mlcalc.graphs import neighbor_list
from mlcalc.potentials.schnet import SchNetNetwork

F64 = torch.float64
CUTOFF = 4.0


def network(dtype: torch.dtype = F64, **settings: int) -> SchNetNetwork:
    torch.manual_seed(3)
    return SchNetNetwork(2, CUTOFF, channels=16, n_radial=12, **settings).to(dtype)


def cluster(n: int = 9) -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 5, (n, 3))


def edges(positions: np.ndarray, dtype: torch.dtype = F64) -> tuple[torch.Tensor, torch.Tensor]:
    index, _ = neighbor_list(positions, np.zeros((3, 3)), [False] * 3, CUTOFF)
    return torch.tensor(index), torch.tensor(positions[index[1]] - positions[index[0]], dtype=dtype)


SPECIES = torch.tensor([0, 1, 0, 1, 1, 0, 0, 1, 0])


def test_rotation_reflection_and_permutation_change_nothing() -> None:
    net, positions = network(), cluster()
    energies = net(SPECIES, *edges(positions))
    q, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    torch.testing.assert_close(net(SPECIES, *edges(positions @ q)), energies, rtol=0, atol=1e-12)
    order = np.random.default_rng(4).permutation(len(positions))
    torch.testing.assert_close(net(SPECIES[order], *edges(positions[order])), energies[order], rtol=0, atol=1e-12)


def test_energy_depends_on_elements_and_on_second_neighbours() -> None:
    chain = np.array([[0, 0, 0], [3.0, 0, 0], [6.0, 0, 0]])
    moved = chain + np.array([[0, 0, 0], [0, 0, 0], [0.3, 0, 0]])
    species = torch.tensor([0, 0, 0])
    for layers, sees in ((1, False), (2, True)):
        net = network(layers=layers)
        difference = (net(species, *edges(chain)) - net(species, *edges(moved)))[0].abs().item()
        assert (difference > 1e-9) == sees
    net = network()
    assert (net(species, *edges(chain)) - net(torch.tensor([0, 1, 0]), *edges(chain)))[0].abs() > 1e-6


def test_smooth_where_an_atom_leaves() -> None:
    net = network()
    index = torch.tensor([[0, 1], [1, 0]])

    def energy_and_slope(r: float) -> tuple[float, float]:
        x = torch.tensor(r, dtype=F64, requires_grad=True)
        vector = torch.stack([x, 0 * x, 0 * x])
        e = net(torch.tensor([0, 1]), index, torch.stack([vector, -vector])).sum()
        return e.item(), torch.autograd.grad(e, x)[0].item()

    alone = net(torch.tensor([0, 1]), index[:, :0], torch.zeros((0, 3), dtype=F64)).sum().item()
    inside, slope = energy_and_slope(CUTOFF - 1e-5)
    assert abs(inside - alone) < 1e-11
    assert abs(slope) < 1e-6
    at, slope_at = energy_and_slope(CUTOFF)
    assert at == pytest.approx(alone, abs=1e-14)
    assert slope_at == pytest.approx(0.0, abs=1e-14)
    assert abs(energy_and_slope(0.8 * CUTOFF)[1]) > 1e-4  # and it does interact further in


def test_gradients_equal_finite_differences() -> None:
    net = network()
    index, vectors = edges(cluster())
    vectors.requires_grad_(True)
    (gradient,) = torch.autograd.grad(net(SPECIES, index, vectors).sum(), vectors)
    h = 1e-5
    for e, axis in ((0, 0), (5, 1), (11, 2)):
        step = torch.zeros_like(vectors)
        step[e, axis] = h
        with torch.no_grad():
            slope = (net(SPECIES, index, vectors + step) - net(SPECIES, index, vectors - step)).sum() / (2 * h)
        assert gradient[e, axis].item() == pytest.approx(slope.item(), abs=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_scripted_equals_eager(dtype: torch.dtype) -> None:
    net = network(dtype)
    scripted = torch.jit.script(net)
    index, vectors = edges(cluster(), dtype)
    tolerance = 1e-12 if dtype == F64 else 1e-5
    for _ in range(3):  # the profiling executor optimises after the first calls
        torch.testing.assert_close(
            scripted(SPECIES, index, vectors), net(SPECIES, index, vectors), rtol=0, atol=tolerance
        )
    for n in (0, 1):
        empty = (
            torch.zeros(n, dtype=torch.int64),
            torch.zeros((2, 0), dtype=torch.int64),
            torch.zeros((0, 3), dtype=dtype),
        )
        assert net(*empty).shape == (n,)
        assert scripted(*empty).shape == (n,)
        assert scripted(*empty).dtype == dtype


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_exchanges_once_before_each_layer_but_the_first(layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net = network(layers=layers)
    shapes = []

    def spy(features: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(features.shape))
        return features

    monkeypatch.setattr(module, "exchange", spy)
    net(SPECIES, *edges(cluster()))
    assert shapes == [(9, 16)] * (layers - 1)
    assert net.exchange_width == (16 if layers > 1 else 0)
    shapes.clear()
    net(SPECIES[:0], torch.zeros((2, 0), dtype=torch.int64), torch.zeros((0, 3), dtype=F64))
    assert shapes == [(0, 16)] * (layers - 1)


def test_owned_atoms_and_ghosts_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two halves, each seeing the other as ghosts, with features handed over by a stand-in for MPI."""
    net, positions = network(layers=2), cluster()
    index, vectors = edges(positions)
    whole = net(SPECIES, index, vectors)
    halves = [list(range(5)), list(range(5, 9))]
    features: dict[int, torch.Tensor] = {}
    for collect in (True, False):
        for half, other in (halves, halves[::-1]):
            order = half + other
            where = torch.tensor([order.index(a) for a in range(9)])
            keep = torch.isin(index[0], torch.tensor(half))

            def swap(rows: torch.Tensor, half: list[int] = half, other: list[int] = other) -> torch.Tensor:
                features.update({a: rows[k].detach() for k, a in enumerate(half)})
                assert (rows[len(half) :] == 0).all()
                if collect:  # noqa: B023
                    return rows
                return torch.cat([rows[: len(half)], torch.stack([features[a] for a in other])])

            monkeypatch.setattr(module, "exchange", swap)
            owned = {"owned": torch.tensor(range(len(half)))}
            energies = net(SPECIES[order], where[index[:, keep]], vectors[keep], owned)
            assert energies.shape == (len(half),)
            if not collect:
                torch.testing.assert_close(energies, whole[half], rtol=0, atol=1e-12)


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="at least 1 layer"):
        SchNetNetwork(1, 5.0, layers=0)
