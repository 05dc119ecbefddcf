"""Cost of a molecular dynamics step, ms per atom, in ASE and LAMMPS on one thread; neighbour list and model apart.

Run ``python benchmarks/speed/step.py``; ``--help`` lists the options.

Columns (ms per atom and step, medians of repeats): ``total`` a whole NVE step at 300 K; ``list`` keeping the neighbour
list (ASE: ``VerletList.update``; LAMMPS: its own Neigh and Comm); ``edges`` making edges and graph of that list;
``model`` energies and gradients; ``rest`` everything else. ``rebuild`` is what one new list costs; at 300 K a crystal
needs hardly any. ``cpu`` is the share of a processor
that the run got: well below 100 % the machine was busy with something else, and times are too long.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from _common import CRYSTALS, crystal, elements_of, machine


@dataclass(frozen=True)
class StepCost:
    """Milliseconds per atom and step, see the head of the file.

    ``rebuild_ms`` is per atom and new list, ``cpu_share`` lies between 0 and 1.
    """

    engine: str
    format: str
    dtype: str
    element: str
    atoms: int
    edges_per_atom: float
    total_ms: float
    list_ms: float
    edges_ms: float
    model_ms: float
    rest_ms: float
    rebuild_ms: float
    cpu_share: float
    steps: int
    repeats: int
    skin_ang: float


HEAD = (
    f"{'engine':>7} {'format':>11} {'dtype':>8} {'atoms':>6} {'edges/atom':>10} "
    + " ".join(f"{name:>8}" for name in ("total", "list", "edges", "model", "rest", "rebuild"))
    + f" {'cpu':>5}"
)


def row(cost: StepCost) -> str:
    times = (cost.total_ms, cost.list_ms, cost.edges_ms, cost.model_ms, cost.rest_ms, cost.rebuild_ms)
    return (
        f"{cost.engine:>7} {cost.format:>11} {cost.dtype:>8} {cost.atoms:6d} {cost.edges_per_atom:10.1f} "
        + " ".join(f"{time:8.4f}" for time in times)
        + f" {100 * cost.cpu_share:4.0f}%"
    )


def model_file(potential: Any, folder: str, form: str, dtype: str, march: str | None) -> Path:
    """Return a model file, exported once."""
    from mlcalc.deploy import export

    path = Path(folder) / f"{dtype}.{'pt2' if form == 'aotinductor' else 'pt'}"
    if not path.is_file():
        export(potential, path, dtype, march=march if form == "aotinductor" else None)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potential", default="mlearn", help="name in the zoo or weights file")
    parser.add_argument("--element", default="Si", choices=sorted(CRYSTALS))
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 512, 4096], help="numbers of atoms")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float64"], choices=["float32", "float64"])
    parser.add_argument("--engines", nargs="+", default=["ase", "lammps"], choices=["ase", "lammps"])
    parser.add_argument(
        "--formats",
        nargs="+",
        default=["eager", "torchscript"],
        choices=["eager", "torchscript", "aotinductor"],
        help="eager is the network itself, in ASE only",
    )
    parser.add_argument("--march", help="processor to compile for, e.g. native; default: a portable one")
    parser.add_argument("--steps", type=int, help="per repeat; default: 25 600 atom steps, but 5 to 100 steps")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--skin", type=float, default=1.0, help="of the neighbour lists of both engines, Å")
    parser.add_argument("--json", type=Path, help="write results there, too")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of LAMMPS; torch of this process is told below

    import torch
    from _ase_step import ase_step
    from _lammps_step import lammps_step

    import mlcalc

    torch.set_num_threads(1)
    potential = mlcalc.load(args.potential, elements=elements_of(args.element))
    before = machine()
    print(f"{args.potential}, {args.element}, one thread of {before['processor']}; load average {before['load_1min']}")
    print(f"ms per atom and step\n{HEAD}", flush=True)
    costs = []
    with tempfile.TemporaryDirectory(prefix="mlcalc-speed-") as scratch:
        for engine in args.engines:
            formats = [form for form in args.formats if engine == "ase" or form != "eager"]
            for dtype, form, size in product(args.dtypes, formats, args.sizes):
                steps = args.steps or min(100, max(5, 25600 // size))
                atoms = crystal(args.element, size, noise_ang=0.05)
                if engine == "ase":
                    source = potential if form == "eager" else model_file(potential, scratch, form, dtype, args.march)
                    parts = ase_step(atoms, source, dtype, steps, args.repeats, args.skin)
                else:
                    file = model_file(potential, scratch, form, dtype, args.march)
                    parts = lammps_step(atoms, file, steps, args.repeats, args.skin)
                costs.append(
                    StepCost(
                        engine=engine,
                        format=form,
                        dtype=dtype,
                        element=args.element,
                        atoms=size,
                        steps=steps,
                        repeats=args.repeats,
                        skin_ang=args.skin,
                        **parts,
                    )
                )
                print(row(costs[-1]), flush=True)
    if args.json:
        document = {
            "potential": str(args.potential),
            "element": args.element,
            "march": args.march,
            "unit": "ms per atom and step",
            "machine": before,
            "results": [asdict(cost) for cost in costs],
        }
        args.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
