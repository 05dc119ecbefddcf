"""Errors and cost of potentials for silicon: the picture of docs/performance.md.

    python benchmarks/mlearn/front.py --errors S=cv-S.json ... --potentials S=mlearn-Si-S.safetensors ... --out FOLDER

Errors are those that ``cross_validate.py`` wrote, of frames a potential never saw; those of SNAP, qSNAP, NNP and MTP
are published ones on other frames (``published.py``). Cost is that of an NVE step in LAMMPS, 512 atoms, one thread, in
interleaved rounds: ours from model files in float32, SNAP and qSNAP (2Jmax 8 and 6) with random coefficients in
float64, which is what they compute in. Writes ``front.json``, ``front.png`` and a table.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "speed"))

import torch
from _common import crystal, machine
from _peer_lammps import SNAPS, measure, mlcalc_lines, snap_lines
from matplotlib.ticker import FixedLocator, NullLocator
from published import PUBLISHED

from mlcalc.figures import new_figure, save_figure

ELEMENT, ATOMS, NOISE_ANG = "Si", 512, 0.05


@dataclass(frozen=True)
class Point:
    """One potential: RMSE of energies (meV/atom) and forces (eV/Å), and ms per atom and step (None: not measured)."""

    name: str
    energy_rmse_mev_per_atom: float
    forces_rmse_ev_per_ang: float
    frames: int | None
    ms_per_atom: float | None
    published: bool


def costs(potentials: dict[str, str], form: str, rounds: int, seconds: float) -> dict[str, float]:
    """Return the median processor time of a step, ms per atom, by name."""
    with TemporaryDirectory() as name:
        folders = {key: Path(name) / str(k) for k, key in enumerate([*potentials, *SNAPS])}
        for folder in folders.values():
            folder.mkdir()
        atoms = crystal(ELEMENT, ATOMS, NOISE_ANG)
        lines = {key: mlcalc_lines(folders[key], where, "float32", form, atoms) for key, where in potentials.items()}
        lines |= {key: snap_lines(folders[key], key) for key in SNAPS}
        found: dict[str, list[float]] = {key: [] for key in lines}
        for turn in range(rounds):
            for key in lines:
                cost = measure(atoms, lines[key], seconds, folders[key], None)
                found[key].append(1e3 * cost["processor_s"] / cost["calls"] / ATOMS)
                print(f"round {turn + 1} of {rounds}: {key} {found[key][-1]:.4f} ms", flush=True)
    return {key: median(values) for key, values in found.items()}


def points(errors: dict[str, Path], cost: dict[str, float]) -> list[Point]:
    """Put errors and costs together."""
    made = []
    for name, path in errors.items():
        overall = json.loads(path.read_text())["overall"]
        values = overall["energy_rmse_mev_per_atom"], overall["forces_rmse_ev_per_ang"]
        made.append(Point(name, *values, overall["n_structures"], cost.get(name), published=False))
    for name, (energy, force) in PUBLISHED[ELEMENT].errors.items():
        made.append(Point(name, energy, force, None, cost.get(name), published=True))
    return made


def picture(found: list[Point], path: Path) -> None:
    """Draw force errors against cost; what has no cost is a line."""
    figure = new_figure(6.4, 4.4)
    axes = figure.subplots()
    for point in found:
        style = {"color": "0.45" if point.published else "C0"}
        if point.ms_per_atom is None:
            axes.axhline(point.forces_rmse_ev_per_ang, linestyle=":", **style)
            axes.annotate(
                point.name, (0.99, point.forces_rmse_ev_per_ang), xycoords=("axes fraction", "data"), ha="right"
            )
        else:
            axes.plot(point.ms_per_atom, point.forces_rmse_ev_per_ang, "s" if point.published else "o", **style)
            place = (point.ms_per_atom, point.forces_rmse_ev_per_ang)
            axes.annotate(point.name, place, xytext=(6, 4), textcoords="offset points", fontsize=9)
    axes.set(xscale="log", yscale="log", xlabel="ms per atom and step in LAMMPS, one thread", ylabel="force RMSE, eV/Å")
    axes.set_xlim(right=4 * max(point.ms_per_atom for point in found if point.ms_per_atom is not None))
    for axis, ticks in ((axes.xaxis, (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)), (axes.yaxis, (0.08, 0.1, 0.15, 0.2))):
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    save_figure(figure, path)


def main() -> None:
    """Measure, and put together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--errors", nargs="+", required=True, metavar="NAME=JSON")
    parser.add_argument("--potentials", nargs="+", required=True, metavar="NAME=POTENTIAL")
    parser.add_argument("--format", default="aotinductor", choices=["torchscript", "aotinductor"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    errors = {name: Path(path) for name, path in (item.split("=", 1) for item in arguments.errors)}
    potentials = dict(item.split("=", 1) for item in arguments.potentials)
    found = points(errors, costs(potentials, arguments.format, arguments.rounds, arguments.seconds))
    arguments.out.mkdir(parents=True, exist_ok=True)
    document = {"machine": machine(), "format": arguments.format, "points": [asdict(point) for point in found]}
    (arguments.out / "front.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    picture(found, arguments.out / "front.png")
    print("| potential | energy, meV/atom | force, eV/Å | frames | ms per atom and step |\n|---|---:|---:|---:|---:|")
    for point in found:
        cost = "–" if point.ms_per_atom is None else f"{point.ms_per_atom:.4f}"
        print(
            f"| {point.name} | {point.energy_rmse_mev_per_atom:.2f} | {point.forces_rmse_ev_per_ang:.4f} | "
            f"{point.frames or 'published'} | {cost} |"
        )


if __name__ == "__main__":
    main()
