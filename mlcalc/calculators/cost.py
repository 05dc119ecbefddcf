"""What a force call costs on this machine."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers, reference_states

from mlcalc.calculators.ase import MLCalculator
from mlcalc.potentials.base import Potential
from mlcalc.potentials.precision import dtype_name
from mlcalc.records import Record

_CRYSTALS = ("fcc", "bcc", "diamond", "hcp", "sc")


@dataclass(frozen=True)
class CallCost(Record):
    """The time of force calls on one structure.

    Attributes:
        time_per_atom_ms: fastest of the calls, per atom.
        formula: of the structure, a supercell of an element's crystal with displaced atoms.
        n_atoms: its atoms.
        n_edges: pairs within the cutoff, counted from both ends.
        dtype: of the potential.
        device: where it ran.
        threads: of torch.
    """

    time_per_atom_ms: float
    formula: str
    n_atoms: int
    n_edges: int
    dtype: str
    device: str
    threads: int


def call_cost(potential: Potential, min_atoms: int = 64, calls: int = 3, device: str = "cpu") -> CallCost:
    """Time force calls of a potential on a crystal of one of its elements, silicon if it knows that.

    Args:
        potential: any potential, in its own dtype.
        min_atoms: smallest size of the structure.
        calls: force calls; the fastest counts.
        device: where it runs.
    """
    atoms = _crystal(potential.info.elements, min_atoms)
    calculator = MLCalculator(potential, device=device, grade_warn=None)
    rng = np.random.default_rng(0)
    atoms.positions += rng.normal(scale=0.05, size=(len(atoms), 3))
    calculator.get_forces(atoms)  # builds what later calls keep
    times = []
    for _ in range(calls):
        atoms.positions += rng.normal(scale=1e-3, size=(len(atoms), 3))
        start = time.perf_counter()
        calculator.get_forces(atoms)
        times.append(time.perf_counter() - start)
    return CallCost(
        time_per_atom_ms=1e3 * min(times) / len(atoms),
        formula=atoms.get_chemical_formula(),
        n_atoms=len(atoms),
        n_edges=len(calculator.verlet.squared_lengths),
        dtype=dtype_name(calculator.potential.dtype),
        device=device,
        threads=torch.get_num_threads(),
    )


def _crystal(elements: tuple[str, ...], min_atoms: int) -> Atoms:
    """Return a supercell of silicon, or else of the first element whose crystal ASE knows."""
    known = [e for e in elements if (reference_states[atomic_numbers[e]] or {}).get("symmetry") in _CRYSTALS]
    cell = bulk("Si") if "Si" in elements else bulk(known[0]) if known else bulk(elements[0], "fcc", a=4.0)
    repeat = 1
    while len(cell) * repeat**3 < min_atoms:
        repeat += 1
    return cell.repeat(repeat)
