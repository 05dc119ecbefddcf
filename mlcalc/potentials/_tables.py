"""Tables of smooth functions of a distance: polynomials of degree five in each interval."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_INSIDE = 1e-9  # of an interval: ends are taken from inside, where a derivative may jump at a knot


def polynomials(function: Callable[[Tensor], Tensor], end: float, intervals: int) -> Tensor:
    """Return quintic Hermite interpolants of a function: equal to it in value, slope and curvature at both ends.

    They join with continuous second derivatives wherever the function's are, so that their own derivative is a force
    that conserves energy. The first interval continues the parabola that ends it: functions with 1/r cannot be told
    apart from noise close to 0.

    Args:
        function: (E,) distances to (E, W) values, float64, row by row; differentiable often enough.
        end: where the last interval ends.
        intervals: their number K.

    Returns:
        (K, 6, W) coefficients in the position (0 to 1) within the interval, constant terms first.
    """
    step = end / intervals
    left = torch.arange(intervals, dtype=torch.float64)
    ends = torch.cat([left + _INSIDE, left + (1.0 - _INSIDE)]) * step
    ends[0] = ends[intervals]

    with torch.enable_grad():
        ends.requires_grad_(True)
        value = function(ends)
        first = _derivative(value, ends)
        second = _derivative(first, ends)
    value, first, second = value.detach(), first.detach(), second.detach()
    f0, f1 = value.split(intervals)
    d0, d1 = (first * step).split(intervals)
    c0, c1 = (second * (0.5 * step**2)).split(intervals)
    f, d, c = f1 - f0 - d0 - c0, d1 - d0 - 2 * c0, c1 - c0
    coefficients = torch.stack([f0, d0, c0, 10 * f - 4 * d + c, -15 * f + 7 * d - 2 * c, 6 * f - 3 * d + c], dim=1)
    zero = torch.zeros_like(f0[0])
    coefficients[0] = torch.stack([f1[0] - d1[0] + c1[0], d1[0] - 2 * c1[0], c1[0], zero, zero, zero])
    return coefficients


def _derivative(values: Tensor, r: Tensor) -> Tensor:
    """Return d values_ew / d r_e (E, W): what is linear in v, Σ_w v_ew d values_ew / d r_e, differentiated by v."""
    v = torch.zeros_like(values, requires_grad=True)
    (along,) = torch.autograd.grad(values, r, v, create_graph=True)
    return torch.autograd.grad(along.sum(), v, create_graph=True)[0]
