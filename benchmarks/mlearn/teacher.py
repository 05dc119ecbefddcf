"""Structures of one element labelled by a SevenNet, from which the networks of mlearn start before they see DFT.

    python benchmarks/mlearn/teacher.py Si --out teacher-Si.xyz

Strained and shaken crystals, vacancies, other lattices, slabs of random orientation, and molecular dynamics with the
teacher itself from cold to molten; with ``--relaxed N``, N slabs more that the teacher anneals and relaxes. None of
them is taken from the mlearn collection. The same seed gives the same file.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import bulk, surface
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.optimize import FIRE
from published import PUBLISHED

from mlcalc.calculators import MLCalculator

LARGEST_FORCE = 10.0  # eV/Å
MELTING_K = {"Ni": 1728, "Li": 454, "Mo": 2896, "Si": 1687}
# Atoms per cube of the edge a, by structure, for the volume that other lattices start from.
PER_CUBE = {"fcc": 4, "bcc": 2, "diamond": 8, "sc": 1}


def crystal(element: str, structure: str, scale: float = 1.0) -> Atoms:
    """Return the cubic cell of a lattice at ``scale`` times the volume per atom of the element's own crystal."""
    reference = PUBLISHED[element]
    volume = reference.lattice_constant_ang**3 / PER_CUBE[reference.crystal] * scale
    return bulk(element, structure, a=(volume * PER_CUBE[structure]) ** (1 / 3), cubic=True)


def supercell(atoms: Atoms, most: int, random: np.random.Generator) -> Atoms:
    """Repeat along random axes while there are at most so many atoms."""
    while len(atoms) * 2 <= most:
        shortest = np.argsort(atoms.cell.lengths() + random.normal(scale=0.1, size=3))[0]
        atoms = atoms.repeat(tuple(2 if axis == shortest else 1 for axis in range(3)))
    return atoms


def strained(atoms: Atoms, random: np.random.Generator, size: float) -> Atoms:
    """Apply a random symmetric strain, in place."""
    strain = random.normal(scale=size, size=(3, 3)) / 2
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain + strain.T), scale_atoms=True)
    return atoms


def shaken(atoms: Atoms, random: np.random.Generator, largest: float) -> Atoms:
    """Displace all atoms by normal numbers of a random width, in place."""
    atoms.positions += random.normal(scale=random.uniform(0, largest), size=atoms.positions.shape)
    return atoms


def slab(element: str, random: np.random.Generator, most: int = 60) -> Atoms | None:
    """Cut a slab along a random plane of low indices; None if it would hold too many atoms."""
    while True:
        plane = random.integers(-3, 4, size=3)
        if np.gcd.reduce(plane) == 1:
            break
    made = surface(
        crystal(element, PUBLISHED[element].crystal), plane, int(random.integers(2, 7)), vacuum=6.0, tol=1e-6
    )
    made.pbc = True
    return made if 4 <= len(made) <= most else None


def still(element: str, count: int, random: np.random.Generator) -> Iterator[tuple[str, Atoms]]:
    """Yield structures that are not from dynamics, by group."""
    own = PUBLISHED[element].crystal
    spacing = (crystal(element, own).get_volume() / PER_CUBE[own]) ** (1 / 3)
    for _ in range(count):
        cell = supercell(crystal(element, own, random.uniform(0.9, 1.12)), 54 if own == "bcc" else 64, random)
        yield "crystal", shaken(strained(cell, random, 0.03), random, 0.12 * spacing)
        yield "cell", shaken(strained(crystal(element, own), random, 0.06), random, 0.05 * spacing)
        vacant = supercell(crystal(element, own, random.uniform(0.95, 1.06)), 64, random)
        del vacant[int(random.integers(len(vacant)))]
        yield "vacancy", shaken(strained(vacant, random, 0.015), random, 0.1 * spacing)
        lattice = str(random.choice([name for name in PER_CUBE if name != own]))
        other = supercell(crystal(element, lattice, random.uniform(0.85, 1.25)), 32, random)
        yield lattice, shaken(strained(other, random, 0.05), random, 0.1 * spacing)
        for _ in range(2):
            if (made := slab(element, random)) is not None:
                yield "surface", shaken(made, random, 0.06 * spacing)


def relaxing(
    element: str, teacher: MLCalculator, count: int, random: np.random.Generator
) -> Iterator[tuple[str, Atoms]]:
    """Yield slabs after a little hot dynamics and on their way from there to a relaxed surface."""
    while count:
        if (atoms := slab(element, random, 40)) is None:
            continue
        count -= 1
        if len(atoms) <= 20 and random.random() < 0.5:  # room for reconstructions
            first, second, _ = atoms.cell.lengths()
            atoms = atoms.repeat((1, 2, 1) if first > second else (2, 1, 1))
        strained(atoms, random, 0.01)
        shaken(atoms, random, 0.1)
        atoms.calc = teacher
        temperature = MELTING_K[element]
        MaxwellBoltzmannDistribution(atoms, temperature_K=1.2 * temperature, rng=random)
        Langevin(atoms, 2 * units.fs, temperature_K=0.6 * temperature, friction=0.02 / units.fs, rng=random).run(40)
        yield "surface", atoms.copy()
        relaxation = FIRE(atoms, logfile=None)
        for _ in relaxation.irun(fmax=0.05, steps=60):
            if relaxation.nsteps == 12:
                yield "surface", atoms.copy()
        yield "surface", atoms.copy()


def dynamics(
    element: str, teacher: MLCalculator, steps: int, random: np.random.Generator
) -> Iterator[tuple[str, Atoms]]:
    """Yield every twentieth step of short runs at several temperatures and volumes."""
    own = PUBLISHED[element].crystal
    for share in (0.3, 0.6, 0.9, 1.3, 2.0):
        for scale in (0.95, 1.03, 1.1):
            atoms = supercell(crystal(element, own, scale), 64, random)
            if share > 0.8 and scale > 1.0:
                del atoms[0]
            atoms.calc = teacher
            temperature = share * MELTING_K[element]
            MaxwellBoltzmannDistribution(atoms, temperature_K=2 * temperature, rng=random)
            step = 2.0 if element != "Li" else 1.5
            run = Langevin(atoms, step * units.fs, temperature_K=temperature, friction=0.02 / units.fs, rng=random)
            for _ in run.irun(steps):
                if run.nsteps and run.nsteps % 20 == 0:
                    yield "dynamics", atoms.copy()


def main() -> None:
    """Make and label the structures of one element."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("element", choices=list(PUBLISHED))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--teacher", default="sevennet-0", help="potential that labels (default: %(default)s)")
    parser.add_argument("--count", type=int, default=80, help="of each kind (default: %(default)s)")
    parser.add_argument("--relaxed", type=int, default=0, help="slabs that are relaxed (default: none)")
    parser.add_argument("--steps", type=int, default=160, help="of each of 15 runs (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random = np.random.default_rng(arguments.seed)
    teacher = MLCalculator(arguments.teacher, dtype="float32")
    frames, dropped = [], 0
    made = [*still(arguments.element, arguments.count, random)]
    made += relaxing(arguments.element, teacher, arguments.relaxed, random)
    for group, atoms in [*made, *dynamics(arguments.element, teacher, arguments.steps, random)]:
        labelled = atoms.copy()
        labelled.calc = teacher
        forces = labelled.get_forces()
        labels = {"energy": labelled.get_potential_energy(), "forces": forces, "stress": labelled.get_stress()}
        if np.abs(forces).max() > LARGEST_FORCE:
            dropped += 1
            continue
        labelled.info = {"group": group}
        labelled.calc = SinglePointCalculator(labelled, **labels)
        frames.append(labelled)
    write(arguments.out, frames)
    print(f"{len(frames)} structures, {sum(map(len, frames))} atoms; {dropped} left out, with too large forces")


if __name__ == "__main__":
    main()
