"""What a force call spends its time on, with compiled operators and tables and in plain torch, by torch's profiler.

Run ``python benchmarks/speed/breakdown.py --json FILE``; ``--help`` lists the options.

Energy, forces and stress of silicon with Gaussian displacements of 0.05 Å in ASE, float32, one thread. Shares are of
the time inside torch's operations, each without those that it calls; what is not inside one (Python, neighbour list) is
the rest of the call. The two ways run in processes of their own, the plain one with ``MLCALC_OPS=0``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from _common import crystal, machine

WAYS = {"compiled": "1", "plain": "0"}


@dataclass(frozen=True)
class Breakdown:
    """A force call: its time, how much of it torch's operations take, and the shares of these by name."""

    potential: str
    way: str
    atoms: int
    ms_per_atom: float
    inside_operations: float
    operations_per_call: int
    shares: dict[str, float]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--potentials", nargs="+", default=["sevennet-0", "mlearn"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[8, 64])
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--top", type=int, default=6, help="operations named (default: %(default)s)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--way", choices=list(WAYS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        rows = [
            _measure(name, arguments.way, size, arguments.calls)
            for name in arguments.potentials
            for size in arguments.sizes
        ]
        print(json.dumps([asdict(row) for row in rows]))
        return
    found = [row for way in WAYS for row in _in_process(way, arguments)]
    print("| potential | atoms | way | ms/atom | inside operations | operations | most of it |")
    print("|---|---|---|---|---|---|---|")
    for row in sorted(found, key=lambda row: (row.potential, row.atoms, row.way)):
        most = ", ".join(f"{name} {100 * share:.0f} %" for name, share in list(row.shares.items())[: arguments.top])
        print(
            f"| {row.potential} | {row.atoms} | {row.way} | {row.ms_per_atom:.3f} | "
            f"{100 * row.inside_operations:.0f} % | {row.operations_per_call} | {most} |"
        )
    if arguments.json:
        document = {"machine": machine(), "breakdown": [asdict(row) for row in found]}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _in_process(way: str, arguments: argparse.Namespace) -> list[Breakdown]:
    command = [sys.executable, __file__, "--way", way, "--calls", str(arguments.calls)]
    command += ["--potentials", *arguments.potentials, "--sizes", *map(str, arguments.sizes)]
    environment = {**os.environ, "MLCALC_OPS": WAYS[way], "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return [Breakdown(**row) for row in json.loads(done.stdout.splitlines()[-1])]


def _measure(name: str, way: str, size: int, calls: int) -> Breakdown:
    import numpy as np
    import torch

    from mlcalc.calculators import MLCalculator

    torch.set_num_threads(1)
    atoms = crystal("Si", size, noise_ang=0.05)
    atoms.calc = MLCalculator(name, dtype="float32")
    random = np.random.default_rng(0)

    def run(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            atoms.positions += random.normal(scale=1e-3, size=atoms.positions.shape)
            atoms.get_forces()
            atoms.get_stress()
        return time.perf_counter() - start

    run(1)
    seconds = run(calls)  # without the profiler, which costs something itself
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        watched = run(1)
    events = [event for event in profile.key_averages() if event.self_cpu_time_total > 0]
    total = sum(event.self_cpu_time_total for event in events)
    shares = {event.key: event.self_cpu_time_total / total for event in events}
    return Breakdown(
        potential=name,
        way=way,
        atoms=len(atoms),
        ms_per_atom=1e3 * seconds / calls / len(atoms),
        inside_operations=1e-6 * total / watched,
        operations_per_call=sum(event.count for event in events),
        shares=dict(sorted(shares.items(), key=lambda item: -item[1])),
    )


if __name__ == "__main__":
    main()
