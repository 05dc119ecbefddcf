"""Comparing LAMMPS with any ASE calculator on one structure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from mlcalc.lammps.data import ModelFiles
from mlcalc.lammps.run import run_static

# What two routes through the same float64 network may differ by (issue of rounding only); float32 loses 8 digits.
TOLERANCES = {"float64": (1e-9, 1e-8, 1e-9), "float32": (1e-5, 1e-3, 1e-5)}


@dataclass(frozen=True)
class Comparison:
    """Largest differences between LAMMPS and an ASE calculator.

    Attributes:
        ranks: MPI processes LAMMPS ran on.
        n_atoms: atoms of the structure.
        energy_ev_per_atom: |ΔE| / N.
        forces_ev_per_ang: max |ΔF|.
        stress_ev_per_ang3: max |Δσ|, None unless the structure is periodic along three axes.
        largest_force_ev_per_ang: max |F|, to judge the difference by.
        passed: whether all are within ``TOLERANCES`` of the dtype.
        wall_time_s: time LAMMPS took, its start included.
    """

    ranks: int
    n_atoms: int
    energy_ev_per_atom: float
    forces_ev_per_ang: float
    stress_ev_per_ang3: float | None
    largest_force_ev_per_ang: float
    passed: bool
    wall_time_s: float

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)


def compare(
    atoms: Atoms,
    calculator: Calculator,
    model_file: ModelFiles,
    ranks: int = 1,
    dtype: str = "float64",
    in_process: bool = False,
) -> Comparison:
    """Evaluate a structure in LAMMPS and by an ASE calculator.

    Args:
        atoms: any structure; not changed.
        calculator: gives what LAMMPS shall give.
        model_file: the same potential as a ``.pt`` file; of a committee, a list.
        ranks: MPI processes.
        dtype: whose tolerances to apply, ``float32`` or ``float64``.
        in_process: run LAMMPS inside this Python process (one rank only).

    Raises:
        LammpsError: LAMMPS is missing or stopped with an error.
        PluginError: the plugin cannot be built.
    """
    found = run_static(atoms, model_file, ranks=ranks, in_process=in_process)
    wanted = atoms.copy()
    wanted.calc = calculator
    forces = wanted.get_forces()
    energy = abs(found.energy - wanted.get_potential_energy()) / len(atoms)
    force = float(np.abs(found.forces - forces).max())
    stress = None if found.stress is None else float(np.abs(found.stress - wanted.get_stress()).max())
    limits = TOLERANCES[dtype]
    return Comparison(
        ranks=ranks,
        n_atoms=len(atoms),
        energy_ev_per_atom=float(energy),
        forces_ev_per_ang=force,
        stress_ev_per_ang3=stress,
        largest_force_ev_per_ang=float(np.abs(forces).max()),
        passed=energy <= limits[0] and force <= limits[1] and (stress is None or stress <= limits[2]),
        wall_time_s=found.wall_time_s,
    )
