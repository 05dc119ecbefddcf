"""Radial basis: Bessel functions under a polynomial envelope that vanishes smoothly at the cutoff."""

import math

import torch
from torch import Tensor, nn

from mlcalc.potentials._angular import Constant


def envelope(x: Tensor, power: int = 6) -> Tensor:
    """Return the polynomial cutoff of Gasteiger et al. (2020), eq. 8, at x = r / cutoff; C2-smooth to zero at 1."""
    p = float(power)
    inside = (
        1.0
        - (p + 1.0) * (p + 2.0) / 2.0 * torch.pow(x, power)
        + p * (p + 2.0) * torch.pow(x, power + 1)
        - p * (p + 1.0) / 2.0 * torch.pow(x, power + 2)
    )
    return torch.where(x < 1.0, inside, torch.zeros_like(x))


class BesselBasis(nn.Module):
    """sqrt(2/r_c) sin(nπ r/r_c)/r under the envelope (Gasteiger et al., Directional message passing, ICLR 2020, eq. 7).

    Args:
        cutoff: r_c in Å.
        size: number of functions n = 1 … size.
        power: exponent of the envelope.
    """

    def __init__(self, cutoff: float, size: int = 8, power: int = 6) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.power = power
        self.frequencies = Constant(torch.arange(1, size + 1, dtype=torch.float64) * (math.pi / cutoff))

    def forward(self, lengths: Tensor) -> Tensor:
        """Return (E, size) values at edge lengths (E,) in Å, scaled to order one."""
        r = lengths.unsqueeze(1)
        values = torch.sin(r * self.frequencies()) * (math.sqrt(2.0 / self.cutoff) * self.cutoff) / r
        return values * envelope(r / self.cutoff, self.power)
