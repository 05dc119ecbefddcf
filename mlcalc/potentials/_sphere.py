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

from mlcalc.potentials._angular import Constant, components

_DEGREES = (3, 5, 7, 9, 11, 15, 17, 19, 21, 23, 29, 31, 35, 41, 47, 53, 59, 65)  # rules with positive weights


class Sphere(nn.Module):
    """Points on the unit sphere that integrate polynomials up to ``degree`` exactly.

    Args:
        l_max: highest degree of the fields that are put on the points.
        l_out: highest degree that is asked back.
        degree: highest degree of the integrand: of the product of fields, plus ``l_out``.

    Raises:
        ValueError: if no rule is known for so high a degree.
    """

    def __init__(self, l_max: int, l_out: int, degree: int) -> None:
        super().__init__()
        rule = next((d for d in _DEGREES if d >= degree), None)
        if rule is None:
            raise ValueError(f"products of degree {degree} on the sphere; at most {_DEGREES[-1]} is known")
        points, weights = lebedev_rule(rule)
        harmonics = o3.spherical_harmonics(
            list(range(l_max + 1)), torch.tensor(points.T.copy()), normalize=False, normalization="component"
        )
        self.values = Constant(harmonics.t().contiguous())  # (M, G)
        mean = torch.tensor(weights).unsqueeze(1) / (4 * math.pi)
        self.integrals = Constant(mean * harmonics[:, : components(l_out)])  # (G, M_out)

    def spread(self, features: Tensor) -> Tensor:
        """Return the values (..., G) at the points of features (..., M)."""
        return torch.matmul(features, self.values())

    def collect(self, values: Tensor) -> Tensor:
        """Return the features (..., M_out) of values (..., G): their means against the harmonics."""
        return torch.matmul(values, self.integrals())
