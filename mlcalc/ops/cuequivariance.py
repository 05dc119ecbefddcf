"""Sums of messages on CUDA by NVIDIA's cuEquivariance, where it is installed (extra ``cuda``).

Rows of features, harmonics, weights and sums are cut into segments of equal length, the greatest common divisor of all
numbers of channels; a number of a harmonic is a segment by itself. The sums are then a polynomial: each coupling
coefficient that is not zero multiplies one segment of the weights, one of the features and one harmonic into one
segment of the result. Its kernels gather senders and add to receivers themselves, so nothing is kept per edge
that ``plain_convolve`` would keep.
"""

from __future__ import annotations

import math
import warnings
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, List

import torch
from torch import Tensor

from mlcalc.native import enabled
from mlcalc.ops import convolution

# Its authors call segments shorter than 32 inefficient; very short ones mean thousands of terms. A guess, not timed.
LEAST_SEGMENT = 8


@lru_cache(maxsize=1)
def installed() -> bool:
    """Return whether cuEquivariance and its kernels are there and wanted, see ``mlcalc.native.enabled``.

    The library without its kernels, which are a package for each version of CUDA, is warned of.
    """
    if not enabled() or find_spec("cuequivariance_torch") is None:
        return False
    try:
        import_module("cuequivariance_ops_torch.uniform_1d")
    except (ImportError, OSError) as error:  # OSError: it cannot be loaded here
        warnings.warn(
            "plain torch on CUDA: cuEquivariance is installed without its kernels "
            f"(cuequivariance-ops-torch-cu12 or -cu13, by torch.version.cuda): {error}",
            stacklevel=2,
        )
        return False
    return True


def serves(x: Tensor, channels: list[int]) -> bool:
    """Return whether sums of such features are to be left to ``convolve``.

    They are on CUDA, in float32 and float64, where the library is installed and channels have a common divisor of 8 or
    more; not in programs that torch compiles.
    """
    return (
        x.is_cuda
        and x.dtype in (torch.float32, torch.float64)
        and math.gcd(*channels) >= LEAST_SEGMENT
        and not torch.compiler.is_compiling()
        and installed()
    )


def polynomial(channels: list[int], l_edge: int, l_out: int) -> Any:
    """Return the ``cuequivariance.SegmentedPolynomial`` of (weights, features, harmonics) that gives an edge's message.

    Args:
        channels: C_l for l = 0, 1 ….
        l_edge: highest degree of the harmonics.
        l_out: highest degree of the result.

    Returns:
        Operands are rows as ``convolution.plain_convolve`` takes them; the result is a row of Σ_l (2 l + 1) × (channels
        of all paths to l) numbers, degree by degree.
    """
    import cuequivariance as cue

    size = math.gcd(*channels)
    reached = convolution.arriving(channels, l_edge, l_out)
    features = _offsets([(2 * l + 1) * c // size for l, c in enumerate(channels)])
    results = _offsets([(2 * l + 1) * c // size for l, c in enumerate(reached)])
    weights = sum(reached) // size
    product = cue.SegmentedTensorProduct.from_subscripts("u,u,,u")
    for operand, count in ((0, weights), (1, features[-1]), (3, results[-1])):
        product.add_segments(operand, [(size,)] * count)
    product.add_segments(2, [()] * (l_edge + 1) ** 2)
    coefficients = convolution.coupling(len(channels) - 1, l_edge, l_out)
    value, first, done = 0, 0, [0] * (l_out + 1)
    for l1, c in enumerate(channels):
        pieces = c // size
        for l2, l3 in convolution.product_paths(l1, l_edge, l_out):
            shape = (2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1)
            table = coefficients[value : value + math.prod(shape)].reshape(shape)
            value += math.prod(shape)
            for m1, m2, m3 in table.nonzero().tolist():
                sent = features[l1] + m1 * pieces
                sums = results[l3] + m3 * (reached[l3] // size) + done[l3]
                for k in range(pieces):
                    harmonic, factor = l2 * l2 + m2, float(table[m1, m2, m3])
                    product.add_path(first + k, sent + k, harmonic, sums + k, c=factor)
            first += pieces
            done[l3] += pieces
    return cue.SegmentedPolynomial.eval_last_operand(product)


def convolve(
    x: Tensor,
    harmonics: Tensor,
    weights: Tensor,
    edge_index: Tensor,
    n: int,
    channels: List[int],
    l_out: int,
    coupling: Tensor,
) -> Tensor:
    """Do what ``convolution.plain_convolve`` does, with cuEquivariance; differentiable twice.

    On CUDA its method ``uniform_1d`` runs; elsewhere ``naive``, its reference in torch, which is slow.

    Args:
        x, harmonics, weights, edge_index, n, channels, l_out: as for ``plain_convolve``.
        coupling: as ``convolution.coupling`` returns, and nothing else: the library has its own copy.
    """
    if n == 0 or edge_index.shape[1] == 0:  # nothing to launch
        return convolution.plain_convolve(x, harmonics, weights, edge_index, n, channels, l_out, coupling)
    l_edge = math.isqrt(harmonics.shape[1]) - 1
    module = _module(tuple(channels), l_edge, l_out, x.device)
    with torch.cuda.device_of(x):  # kernels are started on the stream of the current device
        (sums,) = module(
            [weights, x, harmonics],
            input_indices={1: edge_index[1]},
            output_indices={0: edge_index[0]},
            output_shapes={0: x.new_empty(n, 1)},  # only its rows are counted
        )
    widths = [(2 * l + 1) * c for l, c in enumerate(convolution.arriving(channels, l_edge, l_out))]
    return torch.cat([block.flatten() for block in sums.split_with_sizes(widths, dim=1)])


@lru_cache(maxsize=64)
def _module(channels: tuple[int, ...], l_edge: int, l_out: int, device: torch.device) -> torch.nn.Module:
    from cuequivariance_torch import SegmentedPolynomial

    method = "uniform_1d" if device.type == "cuda" else "naive"
    module: torch.nn.Module = SegmentedPolynomial(polynomial([*channels], l_edge, l_out), method=method)
    return module.to(device)


def _offsets(counts: list[int]) -> list[int]:
    return [sum(counts[:k]) for k in range(len(counts) + 1)]
