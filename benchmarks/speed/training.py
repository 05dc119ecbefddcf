"""One training step on energies, forces and stress, with compiled operators and in plain torch and e3nn.

Run ``python benchmarks/speed/training.py --json FILE``; ``--help`` lists the options.

Forward, derivative, derivative of the derivative: 64 silicon atoms, one thread. ``MLCALC_OPS=0`` is the same network
in torch and e3nn alone. The two take turns, each in a process of its own; times are the least, in processor time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from _common import crystal, machine

NETWORKS: dict[str, dict[str, Any]] = {
    "equivariant": {"architecture": "equivariant"},
    "nequip": {"architecture": "nequip", "network": {"layers": 3}},
}


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(step_ms(*arguments.worker))
        return
    rows = []
    print("| network | numbers | compiled, ms | plain, ms | ratio |\n|---|---|---|---|---|")
    for name in NETWORKS:
        for dtype in ("float32", "float64"):
            times: dict[str, list[float]] = {"1": [], "0": []}
            for _ in range(arguments.rounds):
                for switch, found in times.items():
                    environment = {**os.environ, "MLCALC_OPS": switch, "OMP_NUM_THREADS": "1"}
                    command = [sys.executable, __file__, "--worker", name, dtype]
                    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
                    found.append(float(done.stdout))
            fast, plain = min(times["1"]), min(times["0"])
            print(f"| {name} | {dtype} | {fast:.1f} | {plain:.1f} | {plain / fast:.1f} |", flush=True)
            rows.append({"network": name, "dtype": dtype, "compiled_ms": fast, "plain_ms": plain, "samples": times})
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "steps": rows}, indent=1) + "\n", encoding="utf-8")


def step_ms(name: str, dtype: str) -> float:
    """Return the least processor time of a step in ms."""
    import torch

    from mlcalc.graphs import build_graph
    from mlcalc.potentials import PotentialInfo, build
    from mlcalc.potentials.derivatives import energies_and_gradients, forces, strain_derivative
    from mlcalc.potentials.precision import parse_dtype

    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = int(NETWORKS[name].get("network", {}).get("layers", 1))
    info = PotentialInfo(elements=("Si",), cutoff=5.0, layers=layers, name=name)
    potential = build(NETWORKS[name], info, parse_dtype(dtype))
    graph = build_graph(crystal("Si", 64, noise_ang=0.1), ("Si",), 5.0).to(dtype=parse_dtype(dtype))
    optimizer = torch.optim.Adam(potential.parameters())
    best = float("inf")
    for _ in range(12):
        start = time.process_time()
        optimizer.zero_grad()
        energies, gradients = energies_and_gradients(potential, graph, create_graph=True)
        loss = energies.sum().square() + forces(gradients, graph.edge_index, graph.n_atoms).square().sum()
        loss = loss + strain_derivative(gradients, graph).square().sum()
        loss.backward()
        optimizer.step()
        best = min(best, time.process_time() - start)
    return 1e3 * best


if __name__ == "__main__":
    main()
