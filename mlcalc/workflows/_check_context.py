"""What every check works with: an evaluator, structures with their noise, and the form of a finding."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from numpy.typing import NDArray

from mlcalc.errors import NonFiniteError

Array = NDArray[np.float64]

# What two evaluations of the same thing may differ by, beside NOISE_FACTOR times the measured noise.
EQUAL_ENERGY = 1e-7  # eV/atom
EQUAL_FORCE = 1e-6  # eV/Å
EQUAL_STRESS = 1e-7  # eV/Å³
NOISE_FACTOR = 10.0


class NotApplicableError(Exception):
    """A check has no meaning for this calculator or structure; the message says why."""


@dataclass(frozen=True)
class Deviation:
    """One figure of a check.

    Attributes:
        what: quantity and structure.
        value: what was found, in ``unit``.
        unit: of ``value`` and ``tolerance``.
        tolerance: largest allowed value; None where the figure is only reported.
    """

    what: str
    value: float
    unit: str
    tolerance: float | None

    @property
    def ratio(self) -> float:
        """Value over tolerance; infinite if not a number."""
        if self.tolerance is None:
            return 0.0
        if self.tolerance == 0:
            return 0.0 if self.value == 0 else float("inf")
        ratio = self.value / self.tolerance
        return ratio if np.isfinite(ratio) else float("inf")


@dataclass(frozen=True)
class Numbers:
    """What a calculator says of one structure: eV, eV/Å (N, 3), eV/Å³ (6,)."""

    energy: float
    forces: Array
    stress: Array | None


@dataclass(frozen=True)
class Noise:
    """Scatter (rms) of a calculator's numbers about smooth curves, eV, eV/Å, eV/Å³."""

    energy: float = 0.0
    forces: float = 0.0
    stress: float = 0.0


@dataclass
class Context:
    """A calculator under test and the structures it is tested on.

    Attributes:
        calculator: the calculator.
        pristine: a copy from before its first evaluation; None if it cannot be copied.
        crystal: 3-D periodic, triclinic, rattled; None if the given structure is not periodic.
        small: primitive cell, strained; None as ``crystal``.
        slab: periodic along two axes; None as ``crystal``.
        cluster: open boundaries in a large box.
        cutoff: of the potential where it says so, Å.
        reach: distance up to which the potential is searched for jumps, Å.
        seed: of all random numbers.
    """

    calculator: Any
    pristine: Any
    crystal: Atoms | None
    small: Atoms | None
    slab: Atoms | None
    cluster: Atoms
    spacing: float
    cutoff: float | None
    reach: float
    seed: int
    noise: dict[str, Noise] = field(default_factory=dict)
    curves: dict[str, Any] = field(default_factory=dict)
    evaluations: int = 0
    tick: Callable[[], None] = lambda: None

    def structures(self) -> dict[str, Atoms]:
        """Return the structures by name."""
        found = {"crystal": self.crystal, "small cell": self.small, "slab": self.slab, "cluster": self.cluster}
        return {name: atoms for name, atoms in found.items() if atoms is not None}

    def main(self) -> tuple[str, Atoms]:
        """Return the crystal, or the cluster where there is none."""
        return ("cluster", self.cluster) if self.crystal is None else ("crystal", self.crystal)

    def generator(self) -> np.random.Generator:
        """Return random numbers, the same for every check."""
        return np.random.default_rng(self.seed)

    def energy(self, atoms: Atoms) -> float:
        """Return the energy, eV, of a copy of ``atoms``, with nothing remembered from before."""
        return _energy(self._attach(atoms))

    def numbers(self, atoms: Atoms) -> Numbers:
        """Return energy, forces and, where there is one, stress, with nothing remembered from before."""
        return read_numbers(self._attach(atoms))

    def _attach(self, atoms: Atoms) -> Atoms:
        self.evaluations += 1
        self.tick()
        reset(self.calculator)
        fresh = atoms.copy()
        fresh.calc = self.calculator
        return fresh

    def fresh_calculator(self) -> Any:
        """Return a calculator that has seen nothing, or the one under test, reset, if it cannot be copied."""
        if self.pristine is not None:
            return copy.deepcopy(self.pristine)
        reset(self.calculator)
        return self.calculator

    def differences(self, what: str, found: Numbers, wanted: Numbers, noise: Noise) -> list[Deviation]:
        """Compare two evaluations that must agree within rounding."""
        n = max(len(wanted.forces), 1)
        out = [
            Deviation(
                f"energy, {what}",
                abs(found.energy - wanted.energy) / n,
                "eV/atom",
                EQUAL_ENERGY + NOISE_FACTOR * noise.energy / n,
            ),
            Deviation(
                f"forces, {what}",
                largest(found.forces - wanted.forces),
                "eV/Å",
                EQUAL_FORCE + NOISE_FACTOR * noise.forces,
            ),
        ]
        if found.stress is not None and wanted.stress is not None:
            difference = largest(found.stress - wanted.stress)
            out.append(Deviation(f"stress, {what}", difference, "eV/Å³", EQUAL_STRESS + NOISE_FACTOR * noise.stress))
        return out


def reset(calculator: Any) -> None:
    """Make a calculator forget, if it can."""
    if hasattr(calculator, "reset"):
        calculator.reset()


def read_numbers(atoms: Atoms) -> Numbers:
    """Return what the calculator of ``atoms`` says.

    Raises:
        NonFiniteError: NaN or infinity among it.
    """
    energy = _energy(atoms)
    forces = np.array(atoms.get_forces(apply_constraint=False), dtype=np.float64)
    stress = None
    if atoms.pbc.all() and atoms.cell.rank == 3:
        try:
            stress = np.array(atoms.get_stress(apply_constraint=False), dtype=np.float64)
        except (PropertyNotImplementedError, NotImplementedError):
            stress = None
    if not np.isfinite(forces).all() or (stress is not None and not np.isfinite(stress).all()):
        raise NonFiniteError(f"NaN or infinite forces or stress for {atoms.get_chemical_formula()}")
    return Numbers(energy, forces, stress)


def _energy(atoms: Atoms) -> float:
    """Return the energy that belongs to the forces: the free energy where a calculator tells them apart."""
    consistent = "free_energy" in getattr(atoms.calc, "implemented_properties", ())
    energy = float(np.asarray(atoms.get_potential_energy(force_consistent=consistent)).item())
    if not np.isfinite(energy):
        raise NonFiniteError(f"energy {energy} for {atoms.get_chemical_formula()}")
    return energy


def largest(values: Array) -> float:
    """Return the largest absolute value, 0 of nothing."""
    return float(np.abs(values).max(initial=0.0))
