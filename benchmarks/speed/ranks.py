"""Message passing on one rank and on several in LAMMPS, by exchange and by halo: time, scaling, memory.

Run ``python benchmarks/speed/ranks.py``; ``--help`` lists the options. Every rank runs on one thread.

Columns: ``ms`` wall time per atom and step (LAMMPS' loop time, NVE at 300 K, median of repeats); ``speed-up`` over one
rank; ``MiB`` the most memory that a rank held (its high-water mark), and ``kB/atom`` what all ranks held beyond the
same run of one unit cell, per atom; ``estimate`` what the pair style said before that the fullest rank of a halo would
take, MiB; ``edges`` how many times the edges of one rank all ranks compute. ``cpu`` is the share of a processor that a
rank got: below 100 % the machine was busy with something else, and times are too long.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from _common import CRYSTALS, crystal, elements_of, machine

_NUMBER = r"([-+\d.eE]+)"
_LOOP = re.compile(rf"^Loop time of {_NUMBER} on \d+ procs for (\d+) steps with (\d+) atoms", re.MULTILINE)
_SHARE = re.compile(rf"^{_NUMBER}% CPU use", re.MULTILINE)
_HALO = re.compile(rf"^mlcalc: halo .* {_NUMBER} times the edges; the model takes about {_NUMBER} GiB", re.MULTILINE)


@dataclass(frozen=True)
class Cost:
    """One row, see the head of the file; None where there is no such thing."""

    mode: str
    ranks: int
    atoms: int
    ms_per_atom_and_step: float
    speed_up: float
    peak_mib_per_rank: list[float]
    kb_per_atom: float
    estimate_mib: float | None
    edges_factor: float
    cpu_share: float


HEAD = (
    f"{'mode':>9} {'ranks':>5} {'atoms':>6} {'ms':>8} {'speed-up':>8} {'MiB':>7} {'kB/atom':>8} {'estimate':>8} "
    f"{'edges':>6} {'cpu':>5}"
)


def row(cost: Cost) -> str:
    estimate = "–" if cost.estimate_mib is None else f"{cost.estimate_mib:.0f}"
    return (
        f"{cost.mode:>9} {cost.ranks:5d} {cost.atoms:6d} {cost.ms_per_atom_and_step:8.4f} {cost.speed_up:8.2f} "
        f"{max(cost.peak_mib_per_rank):7.0f} {cost.kb_per_atom:8.1f} {estimate:>8} {cost.edges_factor:6.2f} "
        f"{100 * cost.cpu_share:4.0f}%"
    )


def random_network(element: str, layers: int) -> Any:
    """Return an equivariant network with random weights: its cost does not depend on them."""
    import torch

    from mlcalc.potentials import PotentialInfo, build

    torch.manual_seed(0)
    info = PotentialInfo(elements=tuple(elements_of(element)), cutoff=4.0, layers=layers, name="random")
    config = {"architecture": "equivariant", "network": {"layers": layers, "channels": 16, "l_max": 3}, "zbl": True}
    potential = build(config, info, torch.float64)
    potential.set_energies([0.0] * len(info.elements), 0.05)
    return potential


def measure(atoms: Any, file: Path, mode: str, ranks: int, steps: int, repeats: int) -> dict[str, Any]:
    """Run LAMMPS; return its output and the peak memory of each rank, MiB."""
    from mlcalc.lammps._wheels import mpich_file
    from mlcalc.lammps.box import make_box
    from mlcalc.lammps.data import atom_types, model_lines, setup_lines, write_data
    from mlcalc.lammps.run import environment, lammps_executable

    with tempfile.TemporaryDirectory(prefix="mlcalc-ranks-") as name:
        folder = Path(name)
        box, types = make_box(atoms), atom_types(atoms)
        write_data(atoms, folder / "structure.data", types=types, box=box)
        lines = [
            *setup_lines(box, folder / "structure.data"),
            *model_lines(file, types, mode),
            "neighbor 1.0 bin",
            "velocity all create 300 1 loop geom",
            "fix move all nve",
            "thermo 1000000",
            "run 2",
            *[f"run {steps}"] * repeats,
        ]
        (folder / "in.lammps").write_text("\n".join(lines) + "\n", encoding="utf-8")
        watcher = [sys.executable, str(Path(__file__).parent / "_peak_memory.py"), str(folder)]
        command = [*watcher, str(lammps_executable()), "-in", "in.lammps", "-log", "none", "-nocite"]
        if ranks > 1:
            command = [str(mpich_file("mpirun")), "-n", str(ranks), *command]
        done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"LAMMPS failed ({mode}, {ranks} ranks): {done.stdout[-800:]}{done.stderr[-800:]}")
        peaks = [int((folder / str(rank)).read_text()) / 1024 for rank in range(ranks)]
    return {"output": done.stdout, "peaks": peaks}


def cost_of(
    run: dict[str, Any], base: list[float], mode: str, ranks: int, one: float | None, repeats: int
) -> tuple[Cost, float]:
    """Return the row, and its wall time per atom and step in ms."""
    loops = _LOOP.findall(run["output"])[-repeats:]
    n_atoms = int(loops[0][2])
    ms = float(np.median([1e3 * float(time) / int(steps) / n_atoms for time, steps, _ in loops]))
    halo = _HALO.search(run["output"])
    beyond = sum(run["peaks"]) - sum(base)
    cost = Cost(
        mode=mode,
        ranks=ranks,
        atoms=n_atoms,
        ms_per_atom_and_step=ms,
        speed_up=(one or ms) / ms,
        peak_mib_per_rank=[round(peak, 1) for peak in run["peaks"]],
        kb_per_atom=1024 * beyond / n_atoms,
        estimate_mib=1024 * float(halo[2]) if halo else None,
        edges_factor=float(halo[1]) if halo else 1.0,
        cpu_share=float(np.median([float(share) for share in _SHARE.findall(run["output"])[-repeats:]])) / 100.0,
    )
    return cost, ms


def plot(costs: list[Cost], path: Path, title: str) -> None:
    """Draw time and memory against the number of atoms."""
    from mlcalc.figures import new_figure, save_figure

    figure = new_figure(9.0, 3.6)
    axes = figure.subplots(1, 2)
    for mode, ranks in dict.fromkeys((cost.mode, cost.ranks) for cost in costs):
        chosen = [cost for cost in costs if (cost.mode, cost.ranks) == (mode, ranks)]
        style = {"marker": "o", "label": mode if ranks == 1 else f"{mode}, {ranks} ranks"}
        sizes = [cost.atoms for cost in chosen]
        axes[0].plot(sizes, [cost.ms_per_atom_and_step for cost in chosen], **style)
        axes[1].plot(sizes, [max(cost.peak_mib_per_rank) for cost in chosen], **style)
    for axis, label in zip(axes, ("ms per atom and step", "MiB, fullest rank"), strict=True):
        axis.set(xlabel="atoms", ylabel=label, xscale="log", ylim=(0, None))
    axes[0].legend(fontsize=8)
    figure.suptitle(title, fontsize=9)
    save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potential", help="name in the zoo, weights or model file; default: a random network")
    parser.add_argument("--layers", type=int, default=3, help="of the random network")
    parser.add_argument("--element", default="Si", choices=sorted(CRYSTALS))
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 512, 1728], help="numbers of atoms")
    parser.add_argument("--ranks", type=int, nargs="+", default=[2], help="beside one")
    parser.add_argument("--modes", nargs="+", default=["exchange", "halo"], choices=["exchange", "halo"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"])
    parser.add_argument("--steps", type=int, default=5, help="per repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write results there, too")
    parser.add_argument("--plot", type=Path, help="draw them there")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"

    import mlcalc
    from mlcalc.deploy import read_document
    from mlcalc.lammps import model_file

    before = machine()
    with tempfile.TemporaryDirectory(prefix="mlcalc-ranks-") as scratch:
        if args.potential:
            potential = args.potential
            if not str(potential).endswith((".pt", ".pt2")):
                potential = mlcalc.load(potential, elements=elements_of(args.element))
        else:
            potential = random_network(args.element, args.layers)
        file = model_file(potential, scratch, args.dtype)
        document = read_document(file)
        layers, width = document["info"]["layers"], document["exchange_width"]
        modes = [mode for mode in args.modes if mode == "halo" or width > 0 or layers == 1]
        name = (
            f"{args.potential or 'random network'}, {layers} layers of {document['info']['cutoff']:g} Å, {args.element}"
        )
        print(f"{name}, {document['dtype']}; {before['processor']}; load average {before['load_1min']}")
        print(HEAD, flush=True)
        unit = crystal(args.element, len(crystal_unit(args.element)))
        costs = []
        bases: dict[tuple[str, int], list[float]] = {}
        for size in args.sizes:
            atoms = crystal(args.element, size, noise_ang=0.05)
            one = None
            for mode, ranks in [("one rank", 1), *((mode, ranks) for ranks in args.ranks for mode in modes)]:
                option = "auto" if ranks == 1 else mode
                if (mode, ranks) not in bases:
                    bases[mode, ranks] = measure(unit, file, option, ranks, 1, 1)["peaks"]
                run = measure(atoms, file, option, ranks, args.steps, args.repeats)
                cost, ms = cost_of(run, bases[mode, ranks], mode, ranks, one, args.repeats)
                one = one or ms
                costs.append(cost)
                print(row(cost), flush=True)
    if args.json:
        results = {"model": name, "dtype": document["dtype"], "machine": before, "results": [asdict(c) for c in costs]}
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if args.plot:
        plot(costs, args.plot, f"{name}, {document['dtype']}")


def crystal_unit(element: str) -> Any:
    """Return the cubic cell of one of ``CRYSTALS``."""
    from ase.build import bulk

    kind, a = CRYSTALS[element]
    return bulk(elements_of(element)[0], kind, a=a, cubic=True)


if __name__ == "__main__":
    main()
