"""Time and memory of LAMMPS against the number of atoms, on one rank and one thread.

Run ``python benchmarks/speed/scaling.py``; ``--help`` lists the options. Larger crystals take fewer steps, so that each
size costs about the same.

Columns: ``ms`` wall time per atom and step (LAMMPS' loop time, NVE at 300 K, median of repeats), and how many ``times``
that of the smallest crystal it is; ``cpu`` the share of a processor that it got, and ``cpu ms`` its product with the
wall time, which a busy machine disturbs less; ``MiB`` the most memory that LAMMPS held (its high-water mark);
``kB/atom`` by how much it grew since the size before, per atom.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from _common import CRYSTALS, crystal, elements_of, machine
from ranks import cost_of, measure


@dataclass(frozen=True)
class Size:
    """One row, see the head of the file; ``kb_per_atom`` is None for the smallest."""

    options: str
    atoms: int
    steps: int
    ms_per_atom_and_step: float
    times_the_smallest: float
    cpu_share: float
    cpu_ms_per_atom_and_step: float
    peak_mib: float
    kb_per_atom: float | None


HEAD = (
    f"{'options':>14} {'atoms':>8} {'steps':>5} {'ms':>8} {'times':>6} {'cpu':>5} {'cpu ms':>8} {'MiB':>7} "
    f"{'kB/atom':>8}"
)


def row(size: Size) -> str:
    slope = "–" if size.kb_per_atom is None else f"{size.kb_per_atom:.2f}"
    return (
        f"{size.options or '–':>14} {size.atoms:8d} {size.steps:5d} {size.ms_per_atom_and_step:8.4f} "
        f"{size.times_the_smallest:6.2f} {100 * size.cpu_share:4.0f}% {size.cpu_ms_per_atom_and_step:8.4f} "
        f"{size.peak_mib:7.0f} {slope:>8}"
    )


def sizes_of(file: Path, args: argparse.Namespace, options: str) -> list[Size]:
    """Measure and print the rows of one set of options of the pair style."""
    rows: list[Size] = []
    for atoms in sorted(args.sizes):
        steps = max(1, round(args.steps * min(args.sizes) / atoms))
        run = measure(crystal(args.element, atoms, noise_ang=0.05), file, options, 1, steps, args.repeats)
        cost, ms = cost_of(run, run["peaks"], "", 1, None, args.repeats)
        (peak,) = run["peaks"]
        size = Size(
            options=options,
            atoms=atoms,
            steps=steps,
            ms_per_atom_and_step=ms,
            times_the_smallest=ms / rows[0].ms_per_atom_and_step if rows else 1.0,
            cpu_share=cost.cpu_share,
            cpu_ms_per_atom_and_step=ms * cost.cpu_share,
            peak_mib=round(peak, 1),
            kb_per_atom=1024.0 * (peak - rows[-1].peak_mib) / (atoms - rows[-1].atoms) if rows else None,
        )
        rows.append(size)
        print(row(size), flush=True)
    return rows


def plot(sizes: list[Size], path: Path, title: str) -> None:
    """Draw time and memory against the number of atoms."""
    from mlcalc.figures import new_figure, save_figure

    figure = new_figure(9.0, 3.6)
    axes = figure.subplots(1, 2)
    for options in dict.fromkeys(size.options for size in sizes):
        chosen = [size for size in sizes if size.options == options]
        style = {"marker": "o", "label": options or "default"}
        axes[0].plot([s.atoms for s in chosen], [s.ms_per_atom_and_step for s in chosen], **style)
        axes[1].plot([s.atoms for s in chosen], [s.peak_mib for s in chosen], **style)
    for axis, label in zip(axes, ("ms per atom and step", "MiB"), strict=True):
        axis.set(xlabel="atoms", ylabel=label, xscale="log", ylim=(0, 1.1 * axis.get_ylim()[1]))
    axes[0].legend(fontsize=8)
    figure.suptitle(title, fontsize=9)
    save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potential", default="mlearn", help="name in the zoo, weights or model file")
    parser.add_argument("--element", default="Si", choices=sorted(CRYSTALS))
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 8000, 64000], help="numbers of atoms")
    parser.add_argument(
        "--options", nargs="+", default=[""], help='of pair_style mlcalc, each in quotes, e.g. "" "block no"'
    )
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"])
    parser.add_argument("--steps", type=int, default=30, help="per repeat, of the smallest crystal")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write results there, too")
    parser.add_argument("--plot", type=Path, help="draw them there")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"

    import mlcalc
    from mlcalc.deploy import read_document
    from mlcalc.lammps import model_file

    before = machine()
    with tempfile.TemporaryDirectory(prefix="mlcalc-scaling-") as scratch:
        potential = args.potential
        if not str(potential).endswith((".pt", ".pt2")):
            potential = mlcalc.load(potential, elements=elements_of(args.element))
        file = model_file(potential, scratch, args.dtype)
        document = read_document(file)
        name = f"{args.potential}, {args.element}, {document['info']['layers']} layers, {document['dtype']}"
        print(f"{name}; {before['processor']}; load average {before['load_1min']}")
        print(HEAD, flush=True)
        sizes = [size for options in args.options for size in sizes_of(file, args, options)]
    if args.json:
        results = {"model": name, "machine": before, "results": [asdict(size) for size in sizes]}
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if args.plot:
        plot(sizes, args.plot, name)


if __name__ == "__main__":
    main()
