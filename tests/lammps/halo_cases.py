"""What the tests of halos share: a crystal, networks without the operator, inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from lammps_structures import ELEMENTS
from plain_networks import Plain

from mlcalc.lammps.box import make_box
from mlcalc.lammps.data import atom_types, setup_lines, write_data
from mlcalc.lammps.run import run_input

CUTOFF = 4.0
TOLERANCE = 1e-10  # eV, eV/Å, in float64


def long(repeats: int = 6) -> Atoms:
    """A crystal longer than any halo here, so that hops count."""
    atoms = bulk("Si", cubic=True).repeat((1, 2, repeats))
    atoms.rattle(0.15, seed=4)
    atoms.symbols[np.random.default_rng(4).permutation(len(atoms))[: len(atoms) // 3]] = "Mo"
    return atoms


def plain(layers: int, exchanges: bool = False, cutoff: float = CUTOFF, channels: int = 6) -> Plain:
    torch.manual_seed(layers)
    return Plain(layers, cutoff, channels, exchanges).double().eval()


def run_lines(atoms: Atoms, pair_lines: list[str], folder: Path, ranks: int, *more: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    box = make_box(atoms)
    write_data(atoms, folder / "structure.data", types=atom_types(atoms, ELEMENTS), box=box)
    lines = [*setup_lines(box, folder / "structure.data", processors="1 1 *"), *pair_lines, *more]
    return run_input("\n".join(lines) + "\n", folder, ranks, timeout_s=120).output


def pair(file: Path | str, options: str = "") -> list[str]:
    return [f"pair_style mlcalc {options}", f"pair_coeff * * {file} {' '.join(ELEMENTS)}"]
