"""Cost of SevenNet's own weights: its authors' calculator beside mlcalc, in one process, in interleaved rounds.

Run ``python benchmarks/speed/foundation.py --out FOLDER``; ``--help`` lists the options. It writes ``foundation.json``,
``foundation.png`` and ``foundation.md`` there.

Silicon in the diamond structure with Gaussian displacements of 0.05 Å, float32, one thread. ASE: forces, energy and
stress of one call, all atoms moved by 0.001 Å at random between calls. LAMMPS: one step of NVE with a TorchScript file.
Times are processor times.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from _common import crystal, machine
from _lammps_step import lammps_step
from _peer_summary import Sample, plot, summarise, table


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="sevennet-0", help="comma-separated names (default: %(default)s)")
    parser.add_argument("--sizes", default="8,512", help="numbers of atoms (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="at least so long per sample (default: %(default)s)")
    parser.add_argument("--no-lammps", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    import numpy as np
    import torch
    from sevenn.calculator import SevenNetCalculator

    from mlcalc.calculators import MLCalculator
    from mlcalc.deploy import export
    from mlcalc.zoo import load

    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    samples: list[Sample] = []
    for model in arguments.models.split(","):
        keyword = {"sevennet-0": "7net-0", "sevennet-l3i5": "7net-l3i5"}[model]
        peers: dict[str, Any] = {
            f"sevenn {model}": SevenNetCalculator(keyword, device="cpu"),
            f"mlcalc {model}": MLCalculator(model, dtype="float32"),
            f"mlcalc {model}, no tables": MLCalculator(model, dtype="float32", tables=False),
        }
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.pt"
            if not arguments.no_lammps:
                export(load(model), file, "float32")
            for size in (int(word) for word in arguments.sizes.split(",")):
                for turn in range(arguments.rounds):
                    for name, calculator in peers.items():
                        atoms = crystal("Si", size, noise_ang=0.05)
                        samples.append(_ase(turn, name, atoms, calculator, arguments.seconds, np))
                    if not arguments.no_lammps:
                        samples.append(_lammps(turn, f"mlcalc {model}", crystal("Si", size, noise_ang=0.05), file))
                    print(f"{model}, {size} atoms: round {turn + 1} of {arguments.rounds}", flush=True)
    costs = summarise(samples, tuple(f"mlcalc {model}" for model in arguments.models.split(",")))
    text = table(costs)
    print(text)
    (arguments.out / "foundation.md").write_text(text + "\n", encoding="utf-8")
    document = {"machine": machine(), "costs": [asdict(c) for c in costs], "samples": [asdict(s) for s in samples]}
    (arguments.out / "foundation.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    plot(costs, arguments.out / "foundation.png")


def _ase(turn: int, name: str, atoms: Any, calculator: Any, seconds: float, np: Any) -> Sample:
    random = np.random.default_rng(turn)
    atoms.calc = calculator

    def call() -> None:
        atoms.positions += random.normal(scale=1e-3, size=atoms.positions.shape)
        atoms.get_forces()  # as dynamics does; mlcalc computes what is asked, so an energy first would be a call more
        atoms.get_potential_energy()
        atoms.get_stress()

    call()
    calls, wall, processor = 0, time.perf_counter(), time.process_time()
    while calls == 0 or time.perf_counter() - wall < seconds:
        call()
        calls += 1
    return Sample(
        *(turn, "ase", name, "float32", len(atoms), calls), time.perf_counter() - wall, time.process_time() - processor
    )


def _lammps(turn: int, name: str, atoms: Any, file: Path) -> Sample:
    steps = max(5, 4000 // len(atoms))
    found = lammps_step(atoms, file, steps, 1, 1.0)
    wall = found["total_ms"] * 1e-3 * steps * len(atoms)
    return Sample(turn, "lammps", name, "float32", len(atoms), steps, wall, wall * found["cpu_share"])


if __name__ == "__main__":
    main()
