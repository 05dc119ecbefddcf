"""The operators of the equivariant network against their plain twins: values, both gradients, threads, empty inputs."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mlcalc.ops.density import plain_density
from mlcalc.ops.gaunt import plain_gaunt
from mlcalc.ops.mix import plain_mix
from mlcalc.potentials._sphere import SphereProduct

OPS = torch.ops.mlcalc
BOUNDS = {torch.float64: 1e-12, torch.float32: 2e-5}
# Degree, radial functions, cutoff, power of the envelope.
BASES = {
    "default": (6, 8, 5.0, 6),
    "odd": (3, 5, 4.0, 5),
    "many": (4, 19, 5.0, 6),
    "least": (0, 1, 3.0, 1),
    "high": (9, 2, 5.0, 8),
}
# Degrees of both fields and of the product; channels.
FIELDS = [(6, 6, 6, 16), (6, 6, 0, 8), (7, 6, 1, 16), (2, 3, 4, 8), (1, 2, 2, 3), (3, 0, 2, 4), (0, 0, 0, 1)]
# Degree, channels in and out, sets of weights.
MAPS = [(6, 8, 16, 1), (6, 16, 48, 3), (2, 5, 7, 2), (0, 3, 40, 1), (1, 48, 8, 1), (3, 1, 1, 4)]


def normal(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()


def edges(count: int, rows: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Edges from 0.3 to 6 Å, some beyond every cutoff, in no order."""
    generator = torch.Generator().manual_seed(count)
    unit = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator, dtype=torch.float64), dim=1)
    length = 0.3 + 5.7 * torch.rand(count, 1, generator=generator, dtype=torch.float64)
    return (unit * length).to(dtype).requires_grad_(), torch.randint(rows, (count,), generator=generator)


def points(l_first: int, l_second: int, l_out: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, int]:
    product = SphereProduct(l_first, l_second, l_out).to(dtype)
    return product.values(), product.weights(), product.rows


def compare(ours: Callable[..., Tensor], plain: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> None:
    """Values, first and second derivatives agree to rounding."""
    bound = BOUNDS[inputs[0].dtype]
    found = []
    for function in (ours, plain):
        value = function(*inputs)
        along = normal(*value.shape, dtype=value.dtype, seed=1)
        first = torch.autograd.grad(value, inputs, along, create_graph=True)
        total = sum((g * normal(*g.shape, dtype=g.dtype, seed=2)).sum() for g in first)
        second = torch.autograd.grad(total, (*inputs, along), allow_unused=True)
        found.append((value, *first, *[torch.zeros(()) if s is None else s for s in second]))
    for a, b in zip(*found, strict=True):
        assert a.shape == b.shape or b.dim() == 0
        assert (a - b).abs().max() <= bound * b.abs().max().clamp(min=1e-30)


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize(("count", "rows"), [(1, 1), (33, 2), (75, 20)])
@pytest.mark.parametrize("basis", BASES)
def test_densities(basis: str, count: int, rows: int, dtype: torch.dtype) -> None:
    vectors, row = edges(count, rows, dtype)
    if count == 1:
        vectors = (vectors / vectors.norm() * 1.3).detach().requires_grad_()  # the only edge has to count
    arguments = (row, rows, *BASES[basis])
    compare(lambda v: OPS.density(v, *arguments), lambda v: plain_density(v, *arguments), (vectors,))


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize(("l_first", "l_second", "l_out", "channels"), FIELDS)
def test_products(l_first: int, l_second: int, l_out: int, channels: int, dtype: torch.dtype) -> None:
    a, b = (normal(3, (l + 1) ** 2, channels, dtype=dtype, seed=l) for l in (l_first, l_second))
    grid = points(l_first, l_second, l_out, dtype)
    compare(lambda a, b: OPS.gaunt(a, b, *grid), lambda a, b: plain_gaunt(a, b, *grid), (a, b))


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize(("l_max", "n_in", "n_out", "sets"), MAPS)
def test_maps(l_max: int, n_in: int, n_out: int, sets: int, dtype: torch.dtype) -> None:
    x = normal(5, (l_max + 1) ** 2, n_in, dtype=dtype)
    w = normal(sets, l_max + 1, n_in, n_out, dtype=dtype)
    which = torch.tensor([0, 2, 1, 2, 0]).clamp(max=sets - 1)
    compare(lambda x, w: OPS.mix(x, w, which), lambda x, w: plain_mix(x, w, which), (x, w))
    if sets == 1:
        compare(lambda x, w: OPS.mix(x, w, None), lambda x, w: plain_mix(x, w, None), (x, w))


def test_against_finite_differences() -> None:
    vectors, row = edges(7, 3)
    a, b, grid = normal(2, 9, 3), normal(2, 4, 3), points(2, 1, 2, torch.float64)
    x, w, which = normal(3, 4, 2), normal(2, 2, 2, 3), torch.tensor([1, 0, 1])
    cases: list[tuple[Callable[..., Tensor], tuple[Tensor, ...]]] = [
        (lambda v: OPS.density(v, row, 3, 3, 3, 4.0, 6), (vectors,)),
        (lambda a, b: OPS.gaunt(a, b, *grid), (a, b)),
        (lambda x, w: OPS.mix(x, w, which), (x, w)),
    ]
    for function, inputs in cases:
        assert torch.autograd.gradcheck(function, inputs)
        assert torch.autograd.gradgradcheck(function, inputs)


def test_plain_product_is_that_of_all_points() -> None:
    """One channel in each of two fields, multiplied point by point on a fine grid of angles."""
    from e3nn import o3
    from scipy.integrate import lebedev_rule

    a, b = normal(1, 16, 1), normal(1, 9, 1)
    where, weights = lebedev_rule(41)
    h = o3.spherical_harmonics(list(range(5)), torch.tensor(where.T.copy()), normalize=False, normalization="component")
    product = (h[:, :16] @ a[0]) * (h[:, :9] @ b[0]) * torch.tensor(weights).unsqueeze(1) / (4 * math.pi)
    expected = h.t() @ product
    grid = points(3, 2, 4, torch.float64)
    for function in (plain_gaunt, OPS.gaunt):
        assert (function(a, b, *grid)[0] - expected).abs().max() < 1e-13


def test_channels_of_a_wider_tensor_need_not_be_dense() -> None:
    a, b = normal(4, 16, 24)[:, :, 8:16], normal(4, 9, 3, 8)[:, :, 1]
    grid = points(3, 2, 3, torch.float64)
    given = [OPS.gaunt(a, b, *grid), *OPS.gaunt_backward(normal(4, 16, 8), a, b, *grid[:2])]
    dense = [OPS.gaunt(a.contiguous(), b.contiguous(), *grid)]
    dense += OPS.gaunt_backward(normal(4, 16, 8), a.contiguous(), b.contiguous(), *grid[:2])
    assert all(torch.equal(x, y) for x, y in zip(given, dense, strict=True))


@pytest.mark.parametrize("dtype", BOUNDS)
def test_threads_change_no_bit(dtype: torch.dtype, threads: Callable[[int], None]) -> None:
    vectors, row = edges(900, 70, dtype)
    a, b, grid = normal(70, 16, 5, dtype=dtype), normal(70, 9, 5, dtype=dtype), points(3, 2, 3, dtype)
    x, w = normal(70, 16, 3, dtype=dtype), normal(1, 4, 3, 8, dtype=dtype)
    found: list[list[Tensor]] = []
    for count in (1, 2, 3, 4):
        threads(count)
        mine: list[Tensor] = []
        for function, inputs in (
            (lambda v: OPS.density(v, row, 70, 3, 4, 5.0, 6), (vectors,)),
            (lambda a, b: OPS.gaunt(a, b, *grid), (a, b)),
            (lambda x, w: OPS.mix(x, w, None), (x, w)),
        ):
            value = function(*inputs)
            first = torch.autograd.grad(value, inputs, normal(*value.shape, dtype=dtype), create_graph=True)
            second = torch.autograd.grad([g.square().sum() for g in first], inputs)
            mine += [value, *first, *second]
        found.append(mine)
    for other in found[1:]:
        assert all(torch.equal(x, y) for x, y in zip(found[0], other, strict=True))


def test_nothing_in_nothing_out() -> None:
    none = torch.zeros(0, 3, dtype=torch.float64, requires_grad=True)
    row = torch.zeros(0, dtype=torch.int64)
    out = OPS.density(none, row, 2, 3, 4, 5.0, 6)
    assert torch.equal(out, torch.zeros(2, 16, 4, dtype=torch.float64))
    assert torch.autograd.grad(out.sum(), none)[0].shape == (0, 3)
    assert OPS.density(none, row, 0, 3, 4, 5.0, 6).shape == (0, 16, 4)
    grid = points(1, 1, 1, torch.float64)
    assert OPS.gaunt(torch.zeros(0, 4, 2).double(), torch.zeros(0, 4, 2).double(), *grid).shape == (0, 4, 2)
    assert OPS.mix(torch.zeros(0, 4, 2), torch.zeros(1, 2, 2, 3), None).shape == (0, 4, 3)


def test_shapes_that_do_not_fit_are_refused() -> None:
    vectors, row = edges(4, 2)
    grid = points(1, 1, 1, torch.float64)
    for wrong in (
        lambda: OPS.density(vectors, row, 1, 3, 4, 5.0, 6),
        lambda: OPS.density(vectors, row[:3], 2, 3, 4, 5.0, 6),
        lambda: OPS.gaunt(normal(2, 4, 3), normal(2, 4, 2), *grid),
        lambda: OPS.gaunt(normal(2, 3, 2), normal(2, 4, 2), *grid),
        lambda: OPS.gaunt(normal(2, 9, 2), normal(2, 4, 2), *grid),
        lambda: OPS.mix(normal(2, 4, 3), normal(1, 2, 2, 3), None),
        lambda: OPS.mix(normal(2, 4, 2), normal(2, 2, 2, 3), None),
        lambda: OPS.mix(normal(2, 4, 2), normal(2, 2, 2, 3), torch.tensor([0, 2])),
    ):
        with pytest.raises((RuntimeError, IndexError), match="mlcalc::"):
            wrong()


def test_third_derivatives_of_densities_are_refused() -> None:
    vectors, row = edges(5, 2)
    value = OPS.density(vectors, row, 2, 2, 2, 6.5, 6).square().sum()
    (first,) = torch.autograd.grad(value, vectors, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), vectors, create_graph=True)
    with pytest.raises(RuntimeError, match="no third derivatives"):
        torch.autograd.grad(second.sum(), vectors)
