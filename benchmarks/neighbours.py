"""Neighbour lists: ms per call of vesin, matscipy (if installed), the k-d tree fallback and the Verlet list.

Run ``python benchmarks/neighbours.py``; one thread, silicon with thermal displacements, cutoff 5 Å.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable

import vesin
from ase.build import bulk

from mlcalc.graphs import VerletList, neighbor_list
from mlcalc.graphs._kdtree import kdtree_edges


def milliseconds(call: Callable[[], object], repeats: int) -> float:
    """Return the best of ``repeats`` after one warm-up."""
    call()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return 1e3 * best


def measure(cells: int, cutoff: float, skin: float, repeats: int) -> tuple[int, int, dict[str, float]]:
    """Return atoms, edges and ms per call by name for a ``cells``³ supercell."""
    atoms = bulk("Si", cubic=True).repeat(cells)
    atoms.rattle(0.05, seed=0)
    positions, cell, pbc = atoms.positions, atoms.cell.array, atoms.pbc
    finder = vesin.NeighborList(cutoff=cutoff, full_list=True, sorted=True)
    verlet = VerletList(cutoff, skin)
    calls: dict[str, Callable[[], object]] = {
        "vesin": lambda: finder.compute(points=positions, box=cell, periodic=pbc, quantities="ijS"),
        "k-d tree": lambda: kdtree_edges(positions, cell, pbc, cutoff),
        "neighbor_list": lambda: neighbor_list(positions, cell, pbc, cutoff),
        "Verlet kept": lambda: verlet.update(positions, cell, pbc),
    }
    if importlib.util.find_spec("matscipy"):
        from matscipy.neighbours import neighbour_list

        calls["matscipy"] = lambda: neighbour_list("ijS", positions=positions, cell=cell, pbc=pbc, cutoff=cutoff)
    edges = neighbor_list(positions, cell, pbc, cutoff)[0].shape[1]
    return len(atoms), edges, {name: milliseconds(call, repeats) for name, call in calls.items()}


def main() -> None:
    """Print one line per size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cutoff", type=float, default=5.0, help="Å")
    parser.add_argument("--skin", type=float, default=1.0, help="Å, of the Verlet list")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    names = ["vesin", "matscipy", "k-d tree", "neighbor_list", "Verlet kept"]
    print(f"{'atoms':>6} {'edges':>8} " + " ".join(f"{name + ' ms':>17}" for name in names))
    for cells in (2, 4, 8):
        n_atoms, n_edges, times = measure(cells, args.cutoff, args.skin, args.repeats)
        columns = [f"{times[n]:17.3f}" if n in times else f"{'-':>17}" for n in names]
        print(f"{n_atoms:6d} {n_edges:8d} " + " ".join(columns))


if __name__ == "__main__":
    main()
