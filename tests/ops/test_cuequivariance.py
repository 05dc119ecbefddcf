"""cuEquivariance against the plain convolution: its reference method on the CPU, its kernels where there is a GPU."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import torch
from test_convolution import CASES, Case
from torch import Tensor

from mlcalc.ops import convolution, cuequivariance
from mlcalc.potentials.nequip import NequIPNetwork

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
BOUNDS = {torch.float64: 1e-12, torch.float32: 2e-5}
SEVENNET = [128, 64, 32]
NAMES = [name for name in CASES if name != "degree 3"]  # half a minute: thousands of terms, each with a graph of torch


def derivatives(function: Callable[..., Tensor], inputs: list[Tensor], seeds: list[Tensor]) -> list[Tensor]:
    """Return the value, its derivatives along the first seed, and theirs along the others."""
    along = seeds[0].clone().requires_grad_()
    value = function(*inputs)
    first = torch.autograd.grad(value, inputs, along, create_graph=True)
    second = torch.autograd.grad(first, [*inputs, along], seeds[1:])
    return [value, *first, *second]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("edges", [1, 40])
@pytest.mark.parametrize("name", NAMES)
def test_values_first_and_second_gradients(name: str, edges: int, dtype: torch.dtype, device: str) -> None:
    """Edges in no order, to four receivers, one of which may have none, from six atoms."""
    case = Case(name, edges, dtype=dtype)
    inputs = [case.x, case.harmonics, case.weights]
    plain = case.given(convolution.plain_convolve, case.unsorted)
    generator = torch.Generator().manual_seed(1)
    shapes = [plain(*inputs).shape, *(part.shape for part in inputs)]
    seeds = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]
    expected = derivatives(plain, inputs, seeds)
    case.coupling = case.coupling.to(device)
    ours = case.given(cuequivariance.convolve, case.unsorted.to(device))
    moved = [part.detach().to(device).requires_grad_() for part in inputs]
    got = derivatives(ours, moved, [seed.to(device) for seed in seeds])
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape
        assert a.dtype == dtype
        assert (a.cpu() - b).abs().max() <= BOUNDS[dtype] * b.abs().max()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("edges", "n", "n_all"), [(0, 4, 6), (0, 0, 0), (0, 0, 3)])
def test_nothing_to_add(edges: int, n: int, n_all: int, device: str) -> None:
    case = Case("odd channels", 3)
    index = torch.zeros(2, edges, dtype=torch.int64, device=device)
    x, harmonics, weights = (
        part.detach().to(device).requires_grad_()
        for part in (case.x[:n_all], case.harmonics[:edges], case.weights[:edges])
    )
    coupling = case.coupling.to(device)
    out = cuequivariance.convolve(x, harmonics, weights, index, n, case.channels, case.l_out, coupling)
    widths = convolution.arriving(case.channels, case.l_edge, case.l_out)
    assert out.shape == (n * sum((2 * l + 1) * c for l, c in enumerate(widths)),)
    assert not out.any()
    gradients = torch.autograd.grad(out.sum(), (x, harmonics, weights))
    assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("channels", [SEVENNET, SEVENNET[:1], [16, 8], [3, 2, 5]])
def test_segments_are_what_kernels_ask_for(channels: list[int]) -> None:
    """``uniform_1d`` takes segments of one length, scalars beside them, and one coefficient a term."""
    l_edge = l_out = 2
    polynomial = cuequivariance.polynomial(channels, l_edge, l_out)
    weights, features, harmonics, sums = polynomial.operands
    reached = convolution.arriving(channels, l_edge, l_out)
    assert weights.size == sum(reached)
    assert features.size == sum((2 * l + 1) * c for l, c in enumerate(channels))
    assert harmonics.size == (l_edge + 1) ** 2
    assert sums.size == sum((2 * l + 1) * c for l, c in enumerate(reached))
    size = math.gcd(*channels)
    assert {segment for operand in (weights, features, sums) for segment in operand.segments} == {(size,)}
    assert set(harmonics.segments) == {()}
    ((_, product),) = polynomial.operations
    assert product.coefficient_subscripts == ""
    nonzero = [
        torch.count_nonzero(convolution.coupling(l1, l_edge, l_out)) for l1 in range(len(channels))
    ]  # of all degrees up to each
    each = [int(a - b) for a, b in zip(nonzero, [0, *nonzero], strict=False)]
    assert product.num_paths == sum(count * c // size for count, c in zip(each, channels, strict=True))
    assert all(abs(float(path.coefficients)) > 1e-6 for path in product.paths)  # rounding noise is no term


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_network_calls_it(dtype: torch.dtype, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Energies, edge gradients and the derivatives of a loss on these, as training takes them."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = NequIPNetwork(2, 4.0, channels=[16, 8], layers=2).to(dtype)
        vectors = torch.randn(12, 3).double() * 1.5
    edges = torch.randint(5, (2, 12), generator=torch.Generator().manual_seed(3))
    for interaction in network.interactions:
        interaction.convolution.fused = False  # plain, also on the CPU
    parameters = [part for name, part in network.named_parameters() if "radial" in name or "before" in name]

    def evaluate(place: str) -> list[Tensor]:
        network.to(place)
        r = vectors.to(place, dtype).requires_grad_()
        energies = network(torch.tensor([0, 1, 1, 0, 1], device=place), edges.to(place), r)
        (slopes,) = torch.autograd.grad(energies.sum(), r, create_graph=True)
        loss = torch.autograd.grad((slopes * slopes).sum(), parameters)
        return [part.detach().cpu() for part in (energies, slopes, *loss)]

    expected = evaluate("cpu")
    calls = []
    if device == "cpu":  # where networks have better to do
        monkeypatch.setattr(cuequivariance, "serves", lambda x, channels: calls.append(channels) or True)
    for a, b in zip(evaluate(device), expected, strict=True):
        assert (a - b).abs().max() <= 10 * BOUNDS[dtype] * b.abs().max()
        assert b.abs().max() > 0
    assert device != "cpu" or calls == [[16], [16, 8]]


def test_it_is_imported_when_it_is_called() -> None:
    code = (
        "import sys, mlcalc, torch\n"
        "from mlcalc.potentials.nequip import NequIPNetwork\n"
        "network = NequIPNetwork(1, 4.0, channels=[16, 8])\n"
        "network(torch.tensor([0, 0]), torch.tensor([[0, 1], [1, 0]]), torch.ones(2, 3))\n"
        "assert not {'cuequivariance', 'cuequivariance_torch'} & set(sys.modules)\n"
    )
    environment = {**os.environ, "MLCALC_OPS": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "cuEquivariance" not in done.stderr


@pytest.fixture
def undecided() -> Iterator[None]:
    cuequivariance.installed.cache_clear()
    yield
    cuequivariance.installed.cache_clear()


@pytest.mark.usefixtures("undecided")
def test_switched_off(monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder) -> None:
    monkeypatch.setenv("MLCALC_OPS", "0")
    assert not cuequivariance.installed()
    assert not recwarn.list


@pytest.mark.usefixtures("undecided")
def test_plain_torch_where_it_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setitem(sys.modules, "cuequivariance_torch", None)
    assert not cuequivariance.installed()
    assert not recwarn.list


@pytest.mark.usefixtures("undecided")
def test_a_warning_where_its_kernels_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them the library would run, slower than plain torch."""
    monkeypatch.setitem(sys.modules, "cuequivariance_ops_torch", None)
    with pytest.warns(UserWarning, match="without its kernels"):
        assert not cuequivariance.installed()
