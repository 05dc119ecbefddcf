"""Sums of messages over neighbours, Σ_j w(r_ij) (h_j ⊗ Y(r̂_ij)), in one pass over the edges.

Features of degree l have shape (N, 2 l + 1, C_l); flat, they are rows of all degrees after each other. Every product of
degrees (l1, l2, l3) that couples is a path with weights of its own for each channel of l1, ordered by l1, l2, l3.
Sums come degree by degree, (n, 2 l3 + 1, channels of all paths to l3), one after the other in one flat tensor.

``mlcalc::convolve`` takes harmonics and weights of every edge and can be differentiated twice;
``mlcalc::convolve_table`` works both out on the way, weights from polynomials (see ``mlcalc.deploy.tables``), and
can be differentiated once. C++ does both where it is there; otherwise the functions below do.
"""

from __future__ import annotations

import math
from typing import Any, List

import torch
from e3nn import o3
from torch import Tensor

MAX_L = 3
TERMS = 6


def product_paths(l_in: int, l_edge: int, l_out: int) -> list[tuple[int, int]]:
    """Return (edge degree, output degree) of all products with features of degree ``l_in``, in e3nn's order."""
    return [(l2, l3) for l2 in range(l_edge + 1) for l3 in range(abs(l_in - l2), min(l_in + l2, l_out) + 1)]


def arriving(channels: list[int], l_edge: int, l_out: int) -> list[int]:
    """Return the channels of all paths to each degree 0 … ``l_out``."""
    counts = [0] * (l_out + 1)
    for l1, c in enumerate(channels):
        for _, l3 in product_paths(l1, l_edge, l_out):
            counts[l3] += c
    return counts


def coupling(l_in: int, l_edge: int, l_out: int) -> Tensor:
    """Return the coupling coefficients of all paths, each (2 l1 + 1, 2 l2 + 1, 2 l3 + 1), flat, float64.

    Wigner 3j symbols times √(2 l3 + 1), e3nn's.
    """
    blocks = [
        o3.wigner_3j(l1, l2, l3, dtype=torch.float64).flatten() * math.sqrt(2 * l3 + 1)
        for l1 in range(l_in + 1)
        for l2, l3 in product_paths(l1, l_edge, l_out)
    ]
    return torch.cat(blocks)


def plain_convolve(
    x: Tensor,
    harmonics: Tensor,
    weights: Tensor,
    edge_index: Tensor,
    n: int,
    channels: List[int],
    l_out: int,
    coupling: Tensor,
) -> Tensor:
    """``mlcalc::convolve`` in plain torch; scriptable.

    Args:
        x: (N, Σ (2 l + 1) C_l) features of all atoms.
        harmonics: (E, (l_edge + 1)²).
        weights: (E, Σ over paths of C_l1).
        edge_index: (2, E), receivers below n and senders below N.
        n: number of receivers.
        channels: C_l for l = 0, 1 ….
        l_out: highest degree of the result.
        coupling: as ``coupling`` returns.

    Returns:
        (n Σ_l (2 l + 1) channels of all paths to l), degree by degree.
    """
    l_edge = 0
    while (l_edge + 1) * (l_edge + 1) < harmonics.shape[1]:
        l_edge += 1
    sums: List[List[Tensor]] = []
    for _ in range(l_out + 1):
        sums.append([torch.empty(0)][:0])
    sent = x.index_select(0, edge_index[1])
    start, first, value = 0, 0, 0
    for l1 in range(len(channels)):
        size, c = 2 * l1 + 1, channels[l1]
        features = sent.narrow(1, start, size * c).reshape(sent.shape[0], size, c)
        start += size * c
        for l2 in range(l_edge + 1):
            for l3 in range(abs(l1 - l2), min(l1 + l2, l_out) + 1):
                numbers = size * (2 * l2 + 1) * (2 * l3 + 1)
                table = coupling.narrow(0, value, numbers).reshape(size, 2 * l2 + 1, 2 * l3 + 1)
                value += numbers
                edge = harmonics.narrow(1, l2 * l2, 2 * l2 + 1)
                coupled = torch.einsum("abc,eb->eca", [table, edge])
                message = torch.bmm(coupled, features) * weights.narrow(1, first, c).unsqueeze(1)
                first += c
                total = message.new_zeros([n, 2 * l3 + 1, c]).index_add(0, edge_index[0], message)
                sums[l3].append(total)
    flat: List[Tensor] = []
    for parts in sums:
        if len(parts) > 0:
            flat.append(torch.cat(parts, dim=2).flatten())
    return torch.cat(flat)


def plain_convolve_table(
    x: Tensor,
    vectors: Tensor,
    table: Tensor,
    cutoff: float,
    edge_index: Tensor,
    n: int,
    channels: List[int],
    l_edge: int,
    l_out: int,
    coupling: Tensor,
) -> Tensor:
    """``mlcalc::convolve_table`` in plain torch.

    Args:
        x, edge_index, n, channels, l_out, coupling: as for ``plain_convolve``.
        vectors: (E, 3), Å.
        table: (K, 6, Σ over paths of C_l1), coefficients of polynomials in the position (0 to 1) within each of K
            intervals from 0 to the cutoff, constant terms first.
        cutoff: Å; edges that are not shorter send nothing.
        l_edge: highest degree of the harmonics.
    """
    lengths = torch.linalg.norm(vectors, dim=1)
    unit = vectors / lengths.unsqueeze(1)
    harmonics = o3.spherical_harmonics(list(range(l_edge + 1)), unit, normalize=False, normalization="component")
    weights = interpolate(table, cutoff, lengths)
    return plain_convolve(x, harmonics, weights, edge_index, n, channels, l_out, coupling)


def interpolate(table: Tensor, cutoff: float, lengths: Tensor) -> Tensor:
    """Return the radial weights (E, W) that a table (K, 6, W) gives at lengths (E,) in Å."""
    position = lengths * (table.shape[0] / cutoff)
    interval = position.detach().nan_to_num().floor().clamp(0, table.shape[0] - 1).long()
    outside = (torch.isfinite(lengths) & (lengths >= cutoff)).unsqueeze(1)
    s = (position - interval).unsqueeze(1)
    value = table[interval, TERMS - 1]
    for term in range(TERMS - 2, -1, -1):
        value = value * s + table[interval, term]
    return torch.where(outside, torch.zeros_like(value), value)


def _fake_convolve(x: Tensor, harmonics: Tensor, weights: Tensor, edge_index: Tensor, n: Any, *rest: Any) -> Tensor:
    channels, l_out, _ = rest
    return x.new_empty(n * _numbers(channels, math.isqrt(int(harmonics.shape[1])) - 1, l_out))


def _fake_table(x: Tensor, *rest: Any) -> Tensor:
    _, _, _, _, n, channels, l_edge, l_out, _ = rest
    return x.new_empty(n * _numbers(channels, l_edge, l_out))


def _numbers(channels: list[int], l_edge: int, l_out: int) -> int:
    return sum((2 * l + 1) * c for l, c in enumerate(arriving(channels, l_edge, l_out)))


PLAIN: dict[str, Any] = {
    "convolve(Tensor x, Tensor harmonics, Tensor weights, Tensor edge_index, SymInt n, int[] channels, "
    "int l_out, Tensor coupling) -> Tensor": plain_convolve,
    "convolve_table(Tensor x, Tensor vectors, Tensor table, float cutoff, Tensor edge_index, SymInt n, "
    "int[] channels, int l_edge, int l_out, Tensor coupling) -> Tensor": plain_convolve_table,
}
FAKES: dict[str, Any] = {
    "convolve": _fake_convolve,
    "convolve_backward": lambda g, *inputs: tuple(x.new_empty(x.shape) for x in inputs[:3]),
    "convolve_table": _fake_table,
    "convolve_table_backward": lambda g, *inputs: tuple(x.new_empty(x.shape) for x in inputs[:2]),
}
