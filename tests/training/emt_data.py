"""Labelled structures from EMT, so that tests train on exact, consistent labels."""

import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT


def emt_frames(n: int, seed: int = 0, stress: bool = True):
    rng = np.random.default_rng(seed)
    frames = []
    for k in range(n):
        atoms = bulk("Cu", cubic=True)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(scale=0.02, size=(3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(scale=0.08, size=(4, 3))
        atoms.calc = EMT()
        energy, forces, sigma = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(voigt=False)
        atoms.calc = None
        atoms.info.update(REF_energy=energy, group="hot" if k % 2 else "cold")
        atoms.arrays["REF_forces"] = forces
        if stress and k % 3:
            atoms.info["REF_stress"] = sigma
        frames.append(atoms)
    return frames
