"""Equivariant building blocks on features of shape (rows, (l_max+1)², channels), degrees l = 0 … l_max, channels last.

Only natural parity (−1)^l occurs, so every allowed product has l1 + l2 + l3 even. Spherical harmonics and Wigner 3j
symbols are e3nn's (component normalisation), hence also its axis convention (y, z, x for l = 1).
"""

import math
from collections.abc import Callable

import torch
from e3nn import o3
from torch import Tensor, nn


def components(l_max: int) -> int:
    """Number of components of degrees 0 … l_max."""
    return (l_max + 1) ** 2


def paths(l1_max: int, l2_max: int, l3_max: int) -> list[list[tuple[int, int]]]:
    """Return, for each output degree l3, the pairs (l1, l2) that couple to it with natural parity."""
    return [
        [
            (l1, l2)
            for l1 in range(l1_max + 1)
            for l2 in range(l2_max + 1)
            if abs(l1 - l2) <= l3 <= l1 + l2 and (l1 + l2 + l3) % 2 == 0
        ]
        for l3 in range(l3_max + 1)
    ]


def coupling(l1_max: int, l2_max: int, l3_max: int) -> Tensor:
    """Return the coupling tensor (Q, M1, M2) of all paths, float64.

    Row order is degree, then component m, then path, so that a degree's rows reshape without a copy into
    (2 l + 1, paths * channels) and a linear layer over paths and channels is one matrix product.
    """
    m1, m2 = components(l1_max), components(l2_max)
    rows = []
    for l3, pairs in enumerate(paths(l1_max, l2_max, l3_max)):
        block = torch.zeros(2 * l3 + 1, len(pairs), m1, m2, dtype=torch.float64)
        for p, (l1, l2) in enumerate(pairs):
            w3j = o3.wigner_3j(l1, l2, l3, dtype=torch.float64) * math.sqrt(2 * l3 + 1)
            block[:, p, l1 * l1 : (l1 + 1) ** 2, l2 * l2 : (l2 + 1) ** 2] = w3j.permute(2, 0, 1)
        rows.append(block.reshape(-1, m1, m2))
    return torch.cat(rows)


class Constant(nn.Module):
    """A float64 table that is rounded afresh to whatever type its module is cast to.

    A plain buffer that went through float32 would keep float32's rounding for ever, and with it a broken symmetry.
    """

    value: Tensor

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self._table = table.double().numpy()
        self.register_buffer("value", table.to(torch.get_default_dtype()), False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Constant":
        super()._apply(fn, recurse)
        self.value = torch.from_numpy(self._table).to(self.value)
        return self

    def forward(self) -> Tensor:
        """Return the table."""
        return self.value


class SphericalHarmonics(nn.Module):
    """Real spherical harmonics of edge directions, (E, 3) unit vectors to (E, (l_max+1)²), component normalised."""

    def __init__(self, l_max: int) -> None:
        super().__init__()
        self.harmonics = o3.SphericalHarmonics(list(range(l_max + 1)), normalize=False, normalization="component")

    def forward(self, unit_vectors: Tensor) -> Tensor:
        """Evaluate at unit vectors (E, 3)."""
        return self.harmonics(unit_vectors)


class Mix(nn.Module):
    """Linear map within each degree, over paths and channels: (R, Q, C) to (R, (l_max+1)², D)."""

    def __init__(self, n_paths: list[int], channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.rows = [(2 * l + 1) * n for l, n in enumerate(n_paths)]
        self.flat = [n * channels_in for n in n_paths]
        self.weights = nn.ParameterList(
            [nn.Parameter(torch.randn(n * channels_in, channels_out) / math.sqrt(n * channels_in)) for n in n_paths]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Mix paths and channels."""
        blocks = torch.split_with_sizes(x, self.rows, dim=1)  # one backward for all, where each narrow has its own
        out: list[Tensor] = []
        for l, weight in enumerate(self.weights):
            out.append(torch.matmul(blocks[l].reshape(-1, 2 * l + 1, self.flat[l]), weight))
        return torch.cat(out, dim=1)
