"""One potential in ASE and in LAMMPS: the same single point, then the same dynamics."""

import numpy as np
from ase.build import bulk

from mlcalc import MLCalculator, load
from mlcalc.lammps import model_file, run_static
from mlcalc.workflows import md

potential = load("mlearn", elements=["Si"])
atoms = bulk("Si", a=5.47, cubic=True) * (2, 2, 2)
atoms.rattle(0.05, seed=1)

atoms.calc = MLCalculator(potential, dtype="float64")
lammps = run_static(atoms, model_file(potential, "."), ranks=2)
print("energy difference, eV/atom: ", abs(lammps.energy - atoms.get_potential_energy()) / len(atoms))
print("largest force difference, eV/Å:", np.abs(lammps.forces - atoms.get_forces()).max())

for engine, ranks in (("ase", 1), ("lammps", 2)):
    run = md(atoms, potential, engine=engine, ranks=ranks, ensemble="nvt-bussi", steps=100, out=f"md_{engine}")
    print(f"{engine}: {run.temperature_k[-1]:.0f} K after {run.time_fs[-1]:.0f} fs, {run.wall_time_s:.1f} s")
