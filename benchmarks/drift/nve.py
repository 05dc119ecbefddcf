"""Drift of the total energy in NVE: the least-squares slope over 10 ps (1 fs, 300 K, 64 atoms, float64).

Run ``python benchmarks/drift/nve.py``; ``--help`` lists the options. The crystal is brought to 300 K by 1 ps of NVT
first. The target is 1e-6 eV/atom/ps.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from _common import CRYSTALS, crystal, machine
from numpy import polyfit, std

TARGET = 1e-6  # eV/atom/ps


def drift(potential: Any, args: argparse.Namespace, engine: str, folder: Path) -> dict[str, Any]:
    """Run one engine; return slope, fluctuation around it (eV/atom), mean temperature (K) and time (s)."""
    from mlcalc.workflows import md

    shared = {"engine": engine, "dtype": args.dtype, "temperature_k": args.temperature, "seed": args.seed}
    warm = md(
        crystal(args.element, args.atoms),
        potential,
        ensemble="nvt-langevin",
        steps=round(1000.0 * args.warm_ps / args.timestep),
        timestep_fs=args.timestep,
        trajectory_interval=1000,
        checkpoint_interval=1000,
        out=folder / f"{engine}-nvt",
        **shared,
    )
    run = md(
        warm.atoms,
        potential,
        ensemble="nve",
        steps=round(1000.0 * args.ps / args.timestep),
        timestep_fs=args.timestep,
        log_interval=5,
        trajectory_interval=1000,
        checkpoint_interval=100_000,
        out=folder / f"{engine}-nve",
        **shared,
    )
    time_ps, energy = run.time_fs / 1000.0, run.total_ev / len(run.atoms)
    slope, start = polyfit(time_ps, energy - energy[0], 1)
    return {
        "engine": engine,
        "drift_ev_per_atom_per_ps": float(slope),
        "fluctuation_ev_per_atom": float(std(energy - energy[0] - slope * time_ps - start)),
        "temperature_k": float(run.temperature_k.mean()),
        "wall_time_s": run.wall_time_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potential", default="mlearn", help="name in the zoo or weights file")
    parser.add_argument("--element", default="Si", choices=sorted(CRYSTALS))
    parser.add_argument("--engines", nargs="+", default=["lammps"], choices=["lammps", "ase"])
    parser.add_argument("--atoms", type=int, default=64)
    parser.add_argument("--ps", type=float, default=10.0)
    parser.add_argument("--warm-ps", type=float, default=1.0, help="NVT before, ps")
    parser.add_argument("--timestep", type=float, default=1.0, help="fs")
    parser.add_argument("--temperature", type=float, default=300.0, help="K")
    parser.add_argument("--dtype", default="float64", choices=["float32", "float64"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write results there, too")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"

    import torch

    import mlcalc

    torch.set_num_threads(1)
    potential = mlcalc.load(args.potential, elements=[args.element])
    results = []
    for engine in args.engines:
        with tempfile.TemporaryDirectory(prefix="mlcalc-drift-") as name:
            results.append(drift(potential, args, engine, Path(name)))
        r = results[-1]
        verdict = "below" if abs(r["drift_ev_per_atom_per_ps"]) < TARGET else "NOT below"
        print(
            f"{args.potential} {args.element}, {args.atoms} atoms, {args.dtype}, {engine}: "
            f"{r['drift_ev_per_atom_per_ps']:+.2e} eV/atom/ps over {args.ps:g} ps at {r['temperature_k']:.0f} K "
            f"({verdict} {TARGET:g}); fluctuation {r['fluctuation_ev_per_atom']:.1e} eV/atom; {r['wall_time_s']:.0f} s",
            flush=True,
        )
    if args.json:
        settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items() if k != "json"}
        document = {"settings": settings, "target_ev_per_atom_per_ps": TARGET, "machine": machine(), "results": results}
        args.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
