"""Operations per second of the convolution operators, beside what a matrix product and a copy reach on this processor.

Run ``python benchmarks/speed/kernels.py --json FILE``; ``--help`` lists the options.

One layer of SevenNet-0 (128, 64 and 32 channels of degrees 0, 1 and 2) on 512 silicon atoms, one thread. Operations are
those the sums need (additions and multiplications), not what a kernel happens to do; bytes are every input and output
once. The roofline (Williams et al., Commun. ACM 52, 65 (2009)) is the time that the slower of the two would take at the
speed of the matrix product and of the copy. Times are the least of the rounds, in processor time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from _common import crystal, machine
from ase.neighborlist import neighbor_list

from mlcalc.ops import fused
from mlcalc.ops.convolution import TERMS, coupling, product_paths

CHANNELS, L_EDGE, L_OUT, CUTOFF, INTERVALS = [128, 64, 32], 2, 2, 5.0, 100


@dataclass(frozen=True)
class Kernel:
    """Cost of one operator; ``of_bound`` is the roofline's time over the measured one."""

    name: str
    dtype: str
    us_per_atom: float
    gflop: float
    mbyte: float
    gflop_per_s: float
    bound_us_per_atom: float
    of_bound: float


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atoms", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not fused():
        raise SystemExit("there are no compiled operators to measure")
    rows, peaks = [], {}
    for dtype in (torch.float32, torch.float64):
        name = str(dtype).removeprefix("torch.")
        peaks[name] = _peaks(dtype, arguments.rounds)
        print(f"{name}: matrix product {peaks[name][0]:.0f} GFLOP/s, copy {peaks[name][1]:.1f} GB/s")
        rows += _kernels(arguments.atoms, dtype, arguments.rounds, *peaks[name])
    print("| operator | numbers | µs/atom | GFLOP/s | roofline µs/atom | of roofline |\n|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row.name} | {row.dtype} | {row.us_per_atom:.1f} | {row.gflop_per_s:.0f} | "
            f"{row.bound_us_per_atom:.1f} | {100 * row.of_bound:.0f} % |"
        )
    if arguments.json:
        document = {"machine": machine(), "peaks": peaks, "kernels": [asdict(row) for row in rows]}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _least(call: Callable[[], Any], rounds: int) -> float:
    best = float("inf")
    for _ in range(rounds):
        start = time.thread_time()
        call()
        best = min(best, time.thread_time() - start)
    return best


def _peaks(dtype: torch.dtype, rounds: int) -> tuple[float, float]:
    """Return GFLOP/s of a large matrix product and GB/s (read and written) of a copy beyond the caches."""
    a, b = torch.randn(1024, 1024, dtype=dtype), torch.randn(1024, 1024, dtype=dtype)
    source = torch.randn(32_000_000, dtype=dtype)
    target = torch.empty_like(source)
    product = 2 * 1024**3 / _least(lambda: torch.mm(a, b), rounds) / 1e9
    copy = 2 * source.numel() * source.element_size() / _least(lambda: target.copy_(source), rounds) / 1e9
    return product, copy


def _kernels(n: int, dtype: torch.dtype, rounds: int, peak: float, bandwidth: float) -> list[Kernel]:
    atoms = crystal("Si", n, noise_ang=0.05)
    i, j, vectors = neighbor_list("ijD", atoms, CUTOFF)
    index, v = torch.tensor(np.stack([i, j])), torch.tensor(vectors, dtype=dtype)
    paths = [(c, l1, l2, l3) for l1, c in enumerate(CHANNELS) for l2, l3 in product_paths(l1, L_EDGE, L_OUT)]
    width = sum(c for c, *_ in paths)
    x = torch.randn(n, sum((2 * l + 1) * c for l, c in enumerate(CHANNELS)), dtype=dtype)
    table = torch.randn(INTERVALS, TERMS, width, dtype=dtype)
    couple = coupling(len(CHANNELS) - 1, L_EDGE, L_OUT).to(dtype)
    harmonics, weights = (torch.randn(len(i), size, dtype=dtype) for size in ((L_EDGE + 1) ** 2, width))
    ops: Any = torch.ops.mlcalc
    given = (x, harmonics, weights, index, n, CHANNELS, L_OUT, couple)
    tabulated = (x, v, table, CUTOFF, index, n, CHANNELS, L_EDGE, L_OUT, couple)
    out = ops.convolve_table(*tabulated)
    g = torch.randn_like(out)
    # Of an edge: features times weights and K forward; backward the same once for features and once for K, and weights.
    forward = sum(c * (2 * l1 + 1) * (2 * (2 * l3 + 1) + 1) for c, l1, _, l3 in paths)
    backward = sum(c * (2 * l1 + 1) * (4 * (2 * l3 + 1) + 5) for c, l1, _, l3 in paths)
    polynomial = 2 * (TERMS - 1) * width
    calls: dict[str, tuple[Callable[[], Any], int, tuple[torch.Tensor, ...]]] = {
        "convolve_table": (lambda: ops.convolve_table(*tabulated), forward + polynomial, (x, v, table, out)),
        "convolve_table_backward": (
            lambda: ops.convolve_table_backward(g, *tabulated),
            backward + 2 * polynomial + 2 * width,
            (g, x, v, table, x, v),
        ),
        "convolve": (lambda: ops.convolve(*given), forward, (x, harmonics, weights, out)),
        "convolve_backward": (
            lambda: ops.convolve_backward(g, *given),
            backward,
            (g, x, harmonics, weights, x, harmonics, weights),
        ),
    }
    rows = []
    for name, (call, per_edge, tensors) in calls.items():
        seconds = _least(call, rounds)
        gflop = per_edge * len(i) / 1e9
        mbyte = sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 1e6
        bound = max(gflop / peak, mbyte / 1e3 / bandwidth)
        rows.append(
            Kernel(
                name=name,
                dtype=str(dtype).removeprefix("torch."),
                us_per_atom=1e6 * seconds / n,
                gflop=gflop,
                mbyte=mbyte,
                gflop_per_s=gflop / seconds,
                bound_us_per_atom=1e6 * bound / n,
                of_bound=bound / seconds,
            )
        )
    return rows


if __name__ == "__main__":
    main()
