"""Compute electron densities with PySCF, and print which atoms are found in them.

PySCF is not a dependency: run this in an environment that has it beside mlcalc. The first line wrote the file that the
tests read (minutes); the second shows what is left in a density of valence electrons.

python benchmarks/crystals/dft_density.py BN 3.615 --points 23 --out bn.cube
python benchmarks/crystals/dft_density.py BN 3.615 --pseudopotentials --out bn-valence.cube
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase.build import bulk

from mlcalc.crystals import DensityGrid, density_peaks, read_density


def compute(symbols: str, a: float, points: int, pseudopotentials: bool, out: Path) -> None:
    """Write the LDA density of a zincblende crystal, eight atoms, Γ only, off any symmetric place in the cell."""
    from pyscf.pbc import dft, gto
    from pyscf.tools import cubegen

    atoms = bulk(symbols, "zincblende", a=a, cubic=True)
    atoms.translate([0.31, 0.17, 3.45])
    atoms.wrap()
    cell = gto.Cell()
    cell.a, cell.unit = atoms.cell.array, "A"
    cell.atom = list(zip(atoms.get_chemical_symbols(), atoms.positions, strict=True))
    cell.basis = "gth-szv" if pseudopotentials else "sto-3g"
    if pseudopotentials:
        cell.pseudo, cell.mesh = "gth-pade", [31] * 3
    cell.build()
    field = dft.RKS(cell) if pseudopotentials else dft.RKS(cell).density_fit()
    field.xc, field.max_cycle = "lda,vwn", 30
    field.kernel()
    if not field.converged:
        raise SystemExit("the self-consistent field did not converge")
    cubegen.density(cell, str(out), field.make_rdm1(), nx=points, ny=points, nz=points)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("symbols", help="of a zincblende crystal, e.g. BN")
    parser.add_argument("a", type=float, help="lattice constant, Å")
    parser.add_argument("--points", type=int, default=20, help="of the grid along each axis")
    parser.add_argument("--pseudopotentials", action="store_true")
    parser.add_argument("--out", type=Path, required=True, help="cube file; one that is there is read, not computed")
    given = parser.parse_args()
    if not given.out.exists():
        compute(given.symbols, given.a, given.points, given.pseudopotentials, given.out)
    grid = read_density(given.out)
    assert grid.atoms is not None
    print("| blurred by, Å | peaks | of | farthest from an atom, Å |")
    print("|---:|---:|---|---:|")
    for blur in (0.0, 0.2, 0.4):
        positions, _ = density_peaks(DensityGrid(grid.blurred(blur), grid.cell, grid.origin), least=0.1)
        steps = np.linalg.solve(grid.cell.T, (positions[:, None] - grid.atoms.positions).reshape(-1, 3).T).T
        distances = np.linalg.norm((steps - np.round(steps)) @ grid.cell, axis=1).reshape(len(positions), -1)
        nearest = distances.argmin(axis=1)
        found = ", ".join(sorted({grid.atoms[int(k)].symbol for k in nearest}))
        print(f"| {blur:g} | {len(positions)} of {len(grid.atoms)} | {found} | {distances.min(axis=1).max():.3f} |")


if __name__ == "__main__":
    main()
