"""Relaxation of many small cells: together, one by one in ASE, and by torch-sim with the same potential.

Run ``python benchmarks/speed/batched.py``; ``--help`` lists the options. Cells of 4 to 20 atoms of all elements of
the potential, strained and rattled; the same optimiser (FIRE, which torch-sim has too), start and criteria for all.
Wall time and processor time of the relaxations after a warm-up, the fastest of interleaved rounds. On a busy machine
only processor times of one thread mean anything.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from _common import machine
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers, reference_states
from ase.io import write

WORKER = Path(__file__).parent / "_batched_worker.py"
# method, processes, threads of each
WAYS = (
    ("one by one", 1, 1),
    ("one by one", 2, 1),
    ("batched", 1, 1),
    ("batched", 1, 2),
    ("batched", 2, 1),
    ("torch-sim", 1, 1),
    ("torch-sim", 1, 2),
    ("torch-sim", 2, 1),
)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--potential", default="mlearn", help="name or file (default: %(default)s)")
    parser.add_argument("--structures", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="float64")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--optimizer", default="FIRE", help="torch-sim is left out for any other (default: %(default)s)"
    )
    parser.add_argument("--cell", default="full", help="fixed or full (default: %(default)s)")
    parser.add_argument("--fmax", type=float, default=0.02, help="eV/Å (default: %(default)s)")
    parser.add_argument("--stress-gpa", type=float, default=0.1, help="tolerance (default: %(default)s)")
    parser.add_argument("--max-steps", type=int, default=500)
    parser.add_argument("--methods", nargs="+", default=["one by one", "batched", "torch-sim"])
    parser.add_argument("--one-thread", action="store_true", help="one process of one thread each")
    parser.add_argument("--torch-sim-python", default=sys.executable, help="an environment with mlcalc[torch-sim]")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    ways = [way for way in WAYS if way[0] in arguments.methods and (way[1:] == (1, 1) or not arguments.one_thread)]
    if arguments.optimizer != "FIRE":
        ways = [way for way in ways if way[0] != "torch-sim"]
    elif not _has_torch_sim(arguments.torch_sim_python):
        print("torch-sim is not installed: pip install 'mlcalc[torch-sim]', or name an environment: --torch-sim-python")
        ways = [way for way in ways if way[0] != "torch-sim"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cells.extxyz"
        frames = cells(arguments.potential, arguments.structures)
        write(file, frames)
        samples: dict[tuple[str, int, int], list[dict[str, Any]]] = {way: [] for way in ways}
        for turn in range(arguments.rounds):
            for way in ways:
                samples[way].append(_measure(way, file, arguments))
                print(f"round {turn + 1}: {' '.join(map(str, way))}: {samples[way][-1]['seconds']:.2f} s", flush=True)
    results = [_summary(way, found, [len(atoms) for atoms in frames], samples) for way, found in samples.items()]
    _print(results, arguments)
    if arguments.json:
        document = {
            "machine": machine(),
            "options": {k: str(v) for k, v in vars(arguments).items()},
            "atoms": sum(len(atoms) for atoms in frames),
            "results": results,
        }
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def cells(potential: str, count: int) -> list[Atoms]:
    """Return crystals of 4 to 20 atoms, strained and rattled, each of elements that go together."""
    from mlcalc.zoo import load

    info = load(potential).info
    sets = info.element_sets or (info.elements,)
    rng = np.random.default_rng(0)
    found: list[Atoms] = []
    while len(found) < count:
        elements = sets[len(found) % len(sets)]
        known = [e for e in elements if (reference_states[atomic_numbers[e]] or {}).get("symmetry") in _CRYSTALS]
        unit = bulk(known[int(rng.integers(len(known)))], cubic=bool(rng.integers(2)))
        atoms = unit.repeat(rng.integers(1, 6, 3))
        if not 4 <= len(atoms) <= 20:
            continue
        atoms.symbols[:] = rng.choice(elements, len(atoms))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.uniform(-0.04, 0.06, (3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
        found.append(atoms)
    return found


_CRYSTALS = ("fcc", "bcc", "diamond")


def _has_torch_sim(python: str) -> bool:
    return subprocess.run([python, "-c", "import torch_sim"], capture_output=True, check=False).returncode == 0


def _measure(way: tuple[str, int, int], file: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    method, processes, threads = way
    names = ("potential", "dtype", "device", "optimizer", "cell", "fmax", "stress_gpa", "max_steps")
    options = [word for name in names for word in (f"--{name.replace('_', '-')}", str(getattr(arguments, name)))]
    python = arguments.torch_sim_python if method == "torch-sim" else sys.executable
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)}
    running = [
        subprocess.Popen(
            [python, str(WORKER), method, str(file), *options, "--share", f"{k}/{processes}"],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for k in range(processes)
    ]
    outputs = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise SystemExit(f"{method} failed")
    parts = [json.loads(output.splitlines()[-1]) for output in outputs]
    whole: dict[str, Any] = {
        "seconds": max(part["seconds"] for part in parts),
        "processor_seconds": sum(part["processor_seconds"] for part in parts),
    }
    for name in ("energies", "steps", "converged"):
        whole[name] = [None] * sum(len(part[name]) for part in parts)
        for k, part in enumerate(parts):
            whole[name][k::processes] = part[name]
    return whole


def _summary(
    way: tuple[str, int, int],
    found: list[dict[str, Any]],
    sizes: list[int],
    samples: dict[tuple[str, int, int], list[dict[str, Any]]],
) -> dict[str, Any]:
    alone = [taken for other, taken in samples.items() if other[0] == "one by one"] or [found]
    reference = alone[0][0]
    row: dict[str, Any] = {"method": way[0], "processes": way[1], "threads": way[2]}
    for name in ("seconds", "processor_seconds"):
        row[name] = min(item[name] for item in found)
        row[f"speed_up_{name}"] = min(item[name] for taken in alone for item in taken) / row[name]
        row[f"all_{name}"] = [item[name] for item in found]
    steps, first = found[0]["steps"], found[0]
    both = [k for k, ok in enumerate(first["converged"]) if ok and reference["converged"][k]]
    apart = [abs(first["energies"][k] - reference["energies"][k]) / sizes[k] for k in both]
    return {
        **row,
        "converged": sum(first["converged"]),
        "steps": None if None in steps else sum(steps),
        "same_steps": None if None in steps else sum(a == b for a, b in zip(steps, reference["steps"], strict=True)),
        "largest_difference_ev_per_atom": max(apart, default=None),
        "within_1e-6_ev_per_atom": sum(value <= 1e-6 for value in apart),
    }


def _print(results: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    told = (arguments.structures, arguments.potential, arguments.optimizer, arguments.cell, arguments.dtype)
    print("\n{} cells, {}, {}, cell {}, {}\n".format(*told))
    names = ("", "processes × threads", "wall s", "×", "processor s", "×", "converged", "steps", "same steps as ASE")
    print(f"| {' | '.join(names)} | largest difference, eV/atom |")
    print(f"|---|---|{'---:|' * (len(names) - 1)}")
    for row in results:
        cells_of_row = [
            row["method"],
            f"{row['processes']} × {row['threads']}",
            *(f"{row['seconds']:.1f}", f"{row['speed_up_seconds']:.1f}"),
            *(f"{row['processor_seconds']:.1f}", f"{row['speed_up_processor_seconds']:.1f}"),
            str(row["converged"]),
            *("–" if row[name] is None else str(row[name]) for name in ("steps", "same_steps")),
            f"{row['largest_difference_ev_per_atom']:.1e}",
        ]
        print(f"| {' | '.join(cells_of_row)} |")


if __name__ == "__main__":
    main()
