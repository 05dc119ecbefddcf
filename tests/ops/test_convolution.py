"""The fused convolution against its plain twin: values, first and second gradients, threads, awkward inputs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, library

from mlcalc.ops import convolution

CASES = {
    "odd channels": ([3, 2, 5], 2, 2),
    "half a register": ([4, 8, 2], 2, 2),
    "two registers": ([32, 16], 1, 2),
    "degree 3": ([2, 1, 3, 4], 3, 3),
    "features of degree 3": ([3, 3, 3, 3], 1, 3),
    "scalars only": ([5], 0, 0),
    "from scalars": ([6], 3, 3),
    "to scalars": ([4, 3, 2], 2, 0),
    "harmonics higher than features": ([2, 2], 3, 1),
}


class Case:
    """Random inputs for one set of degrees."""

    def __init__(self, name: str, edges: int, n: int = 4, n_all: int = 6, dtype: torch.dtype = torch.float64) -> None:
        self.channels, self.l_edge, self.l_out = CASES[name]
        self.n, self.cutoff = n, 3.0
        generator = torch.Generator().manual_seed(len(name) + edges)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        l_in = len(self.channels) - 1
        paths = [
            (c, p) for l, c in enumerate(self.channels) for p in convolution.product_paths(l, self.l_edge, self.l_out)
        ]
        width = sum(c for c, _ in paths)
        self.coupling = convolution.coupling(l_in, self.l_edge, self.l_out).to(dtype)
        self.x = normal(n_all, sum((2 * l + 1) * c for l, c in enumerate(self.channels))).requires_grad_()
        self.harmonics = normal(edges, (self.l_edge + 1) ** 2).requires_grad_()
        self.weights = normal(edges, width).requires_grad_()
        unit = torch.nn.functional.normalize(normal(edges, 3), dim=1)
        length = 0.3 + 3.2 * torch.rand(edges, 1, generator=generator, dtype=torch.float64).to(dtype)
        self.vectors = (unit * length).requires_grad_()  # some beyond the cutoff
        self.table = normal(7, convolution.TERMS, width)
        receivers = torch.randint(n, (edges,), generator=generator)
        senders = torch.randint(n_all, (edges,), generator=generator)
        self.unsorted = torch.stack([receivers, senders])
        self.sorted = torch.stack([receivers.sort().values, senders])

    def given(self, operator: Callable[..., Tensor], index: Tensor) -> Callable[..., Tensor]:
        return lambda *inputs: operator(*inputs, index, self.n, self.channels, self.l_out, self.coupling)

    def tabulated(self, operator: Callable[..., Tensor], index: Tensor) -> Callable[..., Tensor]:
        return lambda x, vectors: operator(
            x, vectors, self.table, self.cutoff, index, self.n, self.channels, self.l_edge, self.l_out, self.coupling
        )


def compare(
    ours: Callable[..., Tensor], plain: Callable[..., Tensor], inputs: tuple[Tensor, ...], bound: float
) -> None:
    got, expected = ours(*inputs), plain(*inputs)
    assert got.shape == expected.shape
    along = torch.randn_like(expected)
    gradients = torch.autograd.grad(got, inputs, along)
    for a, b in zip((got, *gradients), (expected, *torch.autograd.grad(expected, inputs, along)), strict=True):
        assert (a - b).abs().max() <= bound * b.abs().max()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("edges", [1, 15, 75, 200])  # the last: more at an atom than are worked out together
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_values_and_gradients(name: str, edges: int, dtype: torch.dtype) -> None:
    case, bound = Case(name, edges, dtype=dtype), 1e-12 if dtype == torch.float64 else 2e-5
    ops = torch.ops.mlcalc
    for index in (case.sorted, case.unsorted):
        inputs = (case.x, case.harmonics, case.weights)
        compare(case.given(ops.convolve, index), case.given(convolution.plain_convolve, index), inputs, bound)
        ours = case.tabulated(ops.convolve_table, index)
        plain = case.tabulated(convolution.plain_convolve_table, index)
        compare(ours, plain, (case.x, case.vectors), 10 * bound)


@pytest.mark.parametrize("name", CASES)
def test_against_finite_differences(name: str) -> None:
    case = Case(name, 9, n=2, n_all=3)
    function = case.given(torch.ops.mlcalc.convolve, case.unsorted)
    inputs = (case.x, case.harmonics, case.weights)
    fast = name in {"degree 3", "two registers"}
    assert torch.autograd.gradcheck(function, inputs, fast_mode=fast)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)
    assert torch.autograd.gradcheck(
        case.tabulated(torch.ops.mlcalc.convolve_table, case.unsorted), (case.x, case.vectors)
    )


def test_second_derivatives_of_tables_are_refused() -> None:
    case = Case("odd channels", 9)
    out = case.tabulated(torch.ops.mlcalc.convolve_table, case.sorted)(case.x, case.vectors)
    (gradient,) = torch.autograd.grad(out.sum(), case.vectors, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        gradient.sum().backward()


@pytest.mark.parametrize("name", ["two registers", "degree 3"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_threads_change_no_bit(name: str, dtype: torch.dtype, threads: Callable[[int], None]) -> None:
    case = Case(name, 3000, n=300, n_all=350, dtype=dtype)
    found = []
    for count in (1, 2, 3, 4):
        threads(count)
        results = []
        for function, inputs in (
            (case.given(torch.ops.mlcalc.convolve, case.unsorted), (case.x, case.harmonics, case.weights)),
            (case.tabulated(torch.ops.mlcalc.convolve_table, case.sorted), (case.x, case.vectors)),
        ):
            out = function(*inputs)
            results += [out.detach(), *torch.autograd.grad(out, inputs, out.detach())]
        found.append(results)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize(("edges", "n", "n_all"), [(0, 4, 6), (0, 0, 0), (0, 0, 3)])
def test_nothing_to_add(edges: int, n: int, n_all: int) -> None:
    case = Case("odd channels", 3)
    index = torch.zeros(2, edges, dtype=torch.int64)
    x = case.x.detach()[:n_all].requires_grad_()
    out = torch.ops.mlcalc.convolve(
        x, case.harmonics[:0], case.weights[:0], index, n, case.channels, case.l_out, case.coupling
    )
    assert out.shape == (
        n
        * sum((2 * l3 + 1) * c for l1, c in enumerate(case.channels) for _, l3 in convolution.product_paths(l1, 2, 2)),
    )
    assert not out.any()
    assert not torch.autograd.grad(out.sum(), x)[0].any()


def test_what_does_not_fit_is_an_error() -> None:
    case = Case("odd channels", 5)
    inputs = (case.x, case.harmonics, case.weights)
    convolve = torch.ops.mlcalc.convolve
    with pytest.raises(IndexError, match="belongs to 4 of 4"):
        case.given(convolve, case.sorted.clamp(max=3) + torch.tensor([[1], [0]]))(*inputs)
    with pytest.raises(RuntimeError, match="features"):
        case.given(convolve, case.sorted)(case.x[:, 1:], *inputs[1:])
    with pytest.raises(RuntimeError, match="weights"):
        case.given(convolve, case.sorted)(case.x, case.harmonics, case.weights[:, 1:])
    with pytest.raises(RuntimeError, match="degrees up to 3"):
        convolve(*inputs, case.sorted, case.n, [1, 1, 1, 1, 1], 2, case.coupling)
    with pytest.raises(RuntimeError, match="coupling coefficients"):
        convolve(*inputs, case.sorted, case.n, case.channels, 2, case.coupling[1:])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_left_out(value: float) -> None:
    case = Case("odd channels", 9)
    vectors = case.vectors.detach().clone()
    vectors[4, 1] = value
    vectors.requires_grad_()
    out = case.tabulated(torch.ops.mlcalc.convolve_table, case.sorted)(case.x, vectors)
    assert out.isnan().any()
    assert torch.autograd.grad(out.sum(), vectors)[0][4].isnan().any()
    assert case.tabulated(convolution.plain_convolve_table, case.sorted)(case.x, vectors).isnan().any()


def test_no_derivative_is_left_out_in_silence() -> None:
    case = Case("odd channels", 9)
    case.table.requires_grad_()
    with pytest.raises(RuntimeError, match="no derivative by its table"):
        case.tabulated(torch.ops.mlcalc.convolve_table, case.sorted)(case.x, case.vectors)


def test_traced_and_scripted_calls_are_the_same() -> None:
    case = Case("two registers", 20, dtype=torch.float32)
    library.opcheck(
        torch.ops.mlcalc.convolve,
        (case.x, case.harmonics, case.weights, case.sorted, case.n, case.channels, case.l_out, case.coupling),
        test_utils=("test_schema", "test_faketensor"),
    )
    scripted = torch.jit.script(convolution.plain_convolve)
    inputs = (case.x, case.harmonics, case.weights)
    got, expected = (
        case.given(scripted, case.sorted)(*inputs),
        case.given(torch.ops.mlcalc.convolve, case.sorted)(*inputs),
    )
    assert (got - expected).abs().max() < 1e-5 * expected.abs().max()
