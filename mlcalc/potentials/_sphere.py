"""Products of fields on the sphere, exact by quadrature.

A feature Σ_lm a_lm Y_lm is a function on the unit sphere. Functions multiply point by point, which costs one number per
point where coupling coefficients cost a sum over triples of degrees, and any degree of the product comes back by
integrating against Y_lm ("Gaunt" product: Luo et al., ICLR 2024). Lebedev's rules integrate polynomials exactly, so
that the product of functions of degrees L1, L2 … is covariant to rounding, under rotations and mirrors.
"""

import math

import torch
from e3nn import o3
from scipy.integrate import lebedev_rule
from torch import Tensor, nn

from mlcalc.ops import fused
from mlcalc.ops.gaunt import plain_gaunt
from mlcalc.potentials._angular import Constant, components

_DEGREES = (3, 5, 7, 9, 11, 15, 17, 19, 21, 23, 29, 31, 35, 41, 47, 53, 59, 65)  # rules with positive weights


class SphereProduct(nn.Module):
    """Product of two fields, exact up to the degree that is asked back.

    Args:
        l_first: highest degree of the first field.
        l_second: highest degree of the second field.
        l_out: highest degree of the product that is asked back.

    Raises:
        ValueError: if no rule is known for so high a degree.
    """

    __constants__ = ("fused",)

    def __init__(self, l_first: int, l_second: int, l_out: int) -> None:
        super().__init__()
        degree = l_first + l_second + l_out
        rule = next((d for d in _DEGREES if d >= degree), None)
        if rule is None:
            raise ValueError(f"products of degree {degree} on the sphere; at most {_DEGREES[-1]} is known")
        points, weights = lebedev_rule(rule)
        octant = (points > -1e-9).all(axis=0)  # the others are mirror images of these
        points = points[:, octant]
        images = 8.0 / 2.0 ** (points < 1e-9).sum(axis=0)
        harmonics = o3.spherical_harmonics(
            list(range(max(l_first, l_second, l_out) + 1)),
            torch.tensor(points.T.copy()),
            normalize=False,
            normalization="component",
        )
        self.rows = components(l_out)
        self.fused = fused()
        self.values = Constant(harmonics)  # (P, M)
        self.weights = Constant(torch.tensor(weights[octant] * images / (8 * 4 * math.pi)))  # (P,)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the product (N, M_out, C) of fields (N, M_first, C) and (N, M_second, C)."""
        if self.fused and first.is_cpu:
            return torch.ops.mlcalc.gaunt(first, second, self.values(), self.weights(), self.rows)
        return plain_gaunt(first, second, self.values(), self.weights(), self.rows)
