"""Sums over atoms that must come out: per-atom energies and stresses, total force, total torque."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError

from mlcalc.workflows._check_context import (
    EQUAL_ENERGY,
    EQUAL_FORCE,
    EQUAL_STRESS,
    NOISE_FACTOR,
    Array,
    Context,
    Deviation,
    NotApplicableError,
    largest,
    reset,
)


def atomic_energies(context: Context) -> list[Deviation]:
    """Compare the sum of ``energies`` with ``energy``."""
    out = []
    for name, atoms in context.structures().items():
        values = _property(context, atoms, "energies")
        wanted = context.energy(atoms)
        tolerance = EQUAL_ENERGY + NOISE_FACTOR * context.noise[name].energy / len(atoms)
        value = abs(float(values.sum()) - wanted) / len(atoms)
        out.append(Deviation(f"sum of energies, {name}", value, "eV/atom", tolerance))
    return out


def atomic_stresses(context: Context) -> list[Deviation]:
    """Compare the sum of ``stresses`` with ``stress``."""
    out = []
    for name, atoms in context.structures().items():
        if not atoms.pbc.all():
            continue
        wanted = context.numbers(atoms).stress
        if wanted is None:
            raise NotApplicableError("the calculator has no stress")
        values = _property(context, atoms, "stresses")
        tolerance = EQUAL_STRESS + NOISE_FACTOR * context.noise[name].stress
        if values.shape != (len(atoms), 6):
            raise ValueError(f"stresses of {len(atoms)} atoms have the shape {values.shape}, not (N, 6)")
        value = largest(values.sum(axis=0) - wanted)
        out.append(Deviation(f"sum of stresses, {name}", value, "eV/Å³", tolerance))
    if not out:
        raise NotApplicableError("no structure that is periodic in three directions")
    return out


def net_force(context: Context) -> list[Deviation]:
    """Sum the forces: without a field from outside, nothing pushes all atoms."""
    out = []
    for name, atoms in context.structures().items():
        total = largest(context.numbers(atoms).forces.sum(axis=0)) / len(atoms)
        tolerance = EQUAL_FORCE + NOISE_FACTOR * context.noise[name].forces
        out.append(Deviation(f"net force per atom, {name}", total, "eV/Å", tolerance))
    return out


def net_torque(context: Context) -> list[Deviation]:
    """Sum the torques about the centre of what is not periodic."""
    atoms = context.cluster
    arms = atoms.positions - atoms.positions.mean(axis=0)
    torque = np.cross(arms, context.numbers(atoms).forces).sum(axis=0)
    size = float(np.linalg.norm(arms, axis=1).max())
    tolerance = (EQUAL_FORCE + NOISE_FACTOR * context.noise["cluster"].forces) * max(size, 1.0)
    return [Deviation("net torque per atom, cluster", largest(torque) / len(atoms), "eV", tolerance)]


def _property(context: Context, atoms: Atoms, name: str) -> Array:
    if name not in getattr(context.calculator, "implemented_properties", ()):
        raise NotApplicableError(f"the calculator has no {name}")
    reset(context.calculator)
    context.evaluations += 1
    try:
        values = context.calculator.get_property(name, atoms.copy())
    except (PropertyNotImplementedError, NotImplementedError):
        raise NotApplicableError(f"{name} are among implemented_properties, but not given as it is set up") from None
    return np.array(values, dtype=np.float64)
