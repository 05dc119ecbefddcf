"""Radial basis: Bessel functions under a polynomial envelope that vanishes smoothly at the cutoff."""

import math

import torch
from torch import Tensor, nn

from mlcalc.ops.density import bessel, envelope
from mlcalc.potentials._angular import Constant

__all__ = ["BesselBasis", "envelope"]


class BesselBasis(nn.Module):
    """The functions of ``mlcalc.ops.density.bessel``.

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
        return bessel(lengths, self.frequencies(), self.cutoff, self.power)
