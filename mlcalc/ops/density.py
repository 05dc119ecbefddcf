"""Densities of neighbours: sums over edges of radial functions times spherical harmonics, in one pass over the edges.

``mlcalc::density`` can be differentiated twice with respect to the edge vectors. C++ does it where it is there;
otherwise the function below does.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from e3nn import o3
from torch import Tensor

SCHEMA = "density(Tensor vectors, Tensor row, SymInt n, int l_max, int n_radial, float cutoff, int power) -> Tensor"


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


def bessel(lengths: Tensor, frequencies: Tensor, cutoff: float, power: int) -> Tensor:
    """Return √(2/r_c) r_c sin(nπ r/r_c)/r under the envelope, (E, R) at lengths (E,) in Å, for frequencies nπ/r_c (R,).

    Gasteiger et al., Directional message passing, ICLR 2020, eq. 7, scaled to order one.
    """
    r = lengths.unsqueeze(1)
    values = torch.sin(r * frequencies) * (math.sqrt(2.0 / cutoff) * cutoff) / r
    return values * envelope(r / cutoff, power)


def plain_density(vectors: Tensor, row: Tensor, n: int, l_max: int, n_radial: int, cutoff: float, power: int) -> Tensor:
    """``mlcalc::density`` in plain torch.

    Args:
        vectors: (E, 3), Å.
        row: (E,) int64, the row each edge is added to, below n.
        n: number of rows.
        l_max: highest degree of the harmonics, e3nn's, component normalised.
        n_radial: number R of radial functions, see ``bessel``.
        cutoff: Å; longer edges add nothing.
        power: of the envelope.

    Returns:
        (n, (l_max + 1)², R).
    """
    lengths = torch.linalg.norm(vectors, dim=1)
    unit = vectors / lengths.unsqueeze(1)
    harmonics = o3.spherical_harmonics(list(range(l_max + 1)), unit, normalize=False, normalization="component")
    frequencies = torch.arange(1, n_radial + 1, dtype=vectors.dtype, device=vectors.device) * (math.pi / cutoff)
    return sum_edges(harmonics, bessel(lengths, frequencies, cutoff, power), row, n)


def sum_edges(harmonics: Tensor, basis: Tensor, row: Tensor, n: int) -> Tensor:
    """Return (n, M, R), the sums of harmonics (E, M) times basis (E, R) over the edges of each row."""
    zeros = harmonics.new_zeros([n, harmonics.shape[1]])
    # One radial function after the other: all of (E, M, R) at once would leave the cache.
    parts = [zeros.index_add(0, row, harmonics * b.unsqueeze(1)) for b in basis.unbind(1)]
    return torch.stack(parts, dim=2)


def _fake(vectors: Tensor, row: Tensor, n: Any, l_max: int, n_radial: int, *rest: Any) -> Tensor:
    return vectors.new_empty(n, (l_max + 1) ** 2, n_radial)


PLAIN: dict[str, Any] = {SCHEMA: plain_density}
FAKES: dict[str, Any] = {
    "density": _fake,
    "density_backward": lambda g, vectors, *rest: vectors.new_empty(vectors.shape),
    "density_second": lambda u, g, vectors, *rest: (g.new_empty(g.shape), vectors.new_empty(vectors.shape)),
}
