"""Products of fields on the sphere, exact by quadrature, without the values at the points ever being kept.

The points of Lebedev's rules are mirror images of those in one octant, and every real harmonic is even or odd under
each of x → −x, y → −y and z → −z. Sums over the harmonics of each of the eight classes of signs at one point thus give
the values at all its images by additions.

``mlcalc::gaunt`` can be differentiated any number of times. C++ does it where it is there; otherwise the function below
does.
"""

from __future__ import annotations

from typing import Any, List

import torch
from torch import Tensor

SCHEMA = "gaunt(Tensor a, Tensor b, Tensor values, Tensor weights, int rows) -> Tensor"


def plain_gaunt(a: Tensor, b: Tensor, values: Tensor, weights: Tensor, rows: int) -> Tensor:
    """``mlcalc::gaunt`` in plain torch; scriptable.

    Args:
        a: (N, M_a, C), components of degrees 0, 1 … in e3nn's order.
        b: (N, M_b, C).
        values: (P, M), the harmonics at points of one octant, M at least that of each field.
        weights: (P,), of each of a point's eight images, those that fall together being counted each.
        rows: components of the product that are asked back.

    Returns:
        (N, rows, C).
    """
    if rows == 1:  # harmonics are orthonormal
        m = min(a.shape[1], b.shape[1])
        return (a[:, :m] * b[:, :m]).sum(1, keepdim=True)
    # f(±p) is the even part ± the odd part: products need only four images, one of each pair.
    signs: List[float] = []
    even: List[int] = []
    odd: List[int] = []
    row, l = 0, 0
    while row < values.shape[1]:
        for m in range(-l, l + 1):
            x = -1.0 if m < 0 else 1.0  # sign under x -> -x
            y = -1.0 if (l - m) % 2 != 0 else 1.0
            signs += [1.0, x, y, x * y]
            if l % 2 == 0:
                even.append(row)
            else:
                odd.append(row)
            row += 1
        l += 1
    images = (torch.tensor(signs).to(values).reshape(-1, 4).t().unsqueeze(1) * values).flatten(0, 1)  # (4 P, M)
    mean = (2.0 * weights).repeat(4).unsqueeze(1)
    a_even, a_odd = _spread(a, images, even), _spread(a, images, odd)
    b_even, b_odd = _spread(b, images, even), _spread(b, images, odd)
    even, odd = _below(even, rows), _below(odd, rows)
    out_even = torch.matmul((mean * images[:, _index(even, a)]).t(), a_even * b_even + a_odd * b_odd)
    out_odd = torch.matmul((mean * images[:, _index(odd, a)]).t(), a_even * b_odd + a_odd * b_even)
    return torch.cat([out_even, out_odd], dim=1)[:, _index(even + odd, a).argsort()]


def _below(rows: List[int], n: int) -> List[int]:
    kept: List[int] = []
    for row in rows:
        if row < n:
            kept.append(row)
    return kept


def _index(rows: List[int], like: Tensor) -> Tensor:
    return torch.tensor(rows, dtype=torch.int64, device=like.device)


def _spread(field: Tensor, images: Tensor, rows: List[int]) -> Tensor:
    index = _index(_below(rows, field.shape[1]), field)
    return torch.matmul(images[:, index], field[:, index])


PLAIN: dict[str, Any] = {SCHEMA: plain_gaunt}
FAKES: dict[str, Any] = {
    "gaunt": lambda a, b, values, weights, rows: a.new_empty(a.shape[0], rows, a.shape[2]),
    "gaunt_backward": lambda g, a, b, *rest: (a.new_empty(a.shape), b.new_empty(b.shape)),
}
