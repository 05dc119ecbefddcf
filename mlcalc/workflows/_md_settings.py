"""Options of a molecular dynamics run, checked once for both engines, and the state it starts from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase import Atoms, units

from mlcalc.errors import WorkflowError
from mlcalc.workflows._structures import require_periodic

ENSEMBLES = ("nve", "nvt-langevin", "nvt-bussi", "npt-mtk")
ENGINES = ("ase", "lammps")
NPT_CELLS = ("isotropic", "full")


@dataclass(frozen=True)
class MDSettings:
    """Everything that decides a trajectory; names and units as in ``mlcalc.workflows.md``."""

    ensemble: str
    temperature_k: float
    pressure_gpa: float
    timestep_fs: float
    steps: int
    tau_fs: float
    barostat_tau_fs: float
    npt_cell: str
    seed: int
    engine: str
    ranks: int
    log_interval: int
    trajectory_interval: int
    checkpoint_interval: int

    def __post_init__(self) -> None:
        """Check values against each other; every error names the option."""
        _choice("ensemble", self.ensemble, ENSEMBLES)
        _choice("engine", self.engine, ENGINES)
        _choice("npt_cell", self.npt_cell, NPT_CELLS)
        for name in ("timestep_fs", "tau_fs", "barostat_tau_fs"):
            if not getattr(self, name) > 0:
                raise WorkflowError(f"{name} must be positive, got {getattr(self, name)!r}")
        for name in ("log_interval", "trajectory_interval", "checkpoint_interval", "ranks"):
            if getattr(self, name) < 1:
                raise WorkflowError(f"{name} must be at least 1, got {getattr(self, name)!r}")
        if self.steps < 0:
            raise WorkflowError(f"steps must not be negative, got {self.steps}")
        if not self.temperature_k >= 0 or (self.ensemble != "nve" and self.temperature_k == 0):
            raise WorkflowError(f"temperature_k must be positive, got {self.temperature_k!r}")
        if self.trajectory_interval % self.log_interval:
            raise WorkflowError(
                f"trajectory_interval ({self.trajectory_interval}) must be a multiple of log_interval "
                f"({self.log_interval}), so that every frame has its line in the log"
            )
        if self.pressure_gpa != 0.0 and self.ensemble != "npt-mtk":
            raise WorkflowError(f"pressure_gpa needs ensemble='npt-mtk'; {self.ensemble!r} keeps the cell")
        if self.ranks > 1 and self.engine == "ase":
            raise WorkflowError("engine='ase' runs in one process; ranks need engine='lammps'")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)

    def identity(self) -> dict[str, Any]:
        """Return what must not change between a run and its continuation."""
        values = asdict(self)
        for name in ("steps", "ranks"):
            del values[name]
        return values


def _choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise WorkflowError(f"unknown {name} {value!r}: choose from {', '.join(known)}")


def check_structure(atoms: Atoms, settings: MDSettings) -> None:
    """Raise WorkflowError for a structure that the ensemble or engine cannot take."""
    if settings.ensemble == "npt-mtk":
        require_periodic(atoms, "ensemble 'npt-mtk'")
        if atoms.constraints:
            raise WorkflowError(
                "ensemble 'npt-mtk' does not work with constraints: remove them or use another ensemble"
            )
        if len(atoms) < 2:
            raise WorkflowError("ensemble 'npt-mtk' needs at least two atoms")
    if settings.engine == "lammps" and atoms.constraints:
        raise WorkflowError("engine='lammps' does not take ASE constraints: remove them or use engine='ase'")


def degrees_of_freedom(atoms: Atoms) -> int:
    """Return 3N − 3, as all engines here keep the total momentum; 3 for one atom; fewer with constraints."""
    if atoms.constraints:
        return int(atoms.get_number_of_degrees_of_freedom())
    return max(3 * len(atoms) - 3, 3)


def draw_momenta(atoms: Atoms, settings: MDSettings) -> None:
    """Give atoms at rest Maxwell-Boltzmann momenta at exactly ``temperature_k`` and no total momentum.

    Momenta that are already there stay, but for a total momentum that a thermostat would act on.
    """
    momenta = atoms.get_momenta()
    if not momenta.any():
        if settings.temperature_k == 0.0:
            return
        generator = np.random.default_rng([settings.seed, 0])
        masses = atoms.get_masses()[:, None]
        momenta = generator.standard_normal((len(atoms), 3)) * np.sqrt(masses * units.kB * settings.temperature_k)
        atoms.set_momenta(momenta)
        if len(atoms) > 1 and not atoms.constraints:
            _stop(atoms)
        kinetic = atoms.get_kinetic_energy()
        if kinetic > 0:
            target = 0.5 * degrees_of_freedom(atoms) * units.kB * settings.temperature_k
            atoms.set_momenta(atoms.get_momenta() * np.sqrt(target / kinetic))
    elif settings.ensemble != "nve" and len(atoms) > 1 and not atoms.constraints:
        _stop(atoms)


def _stop(atoms: Atoms) -> None:
    velocity = atoms.get_momenta().sum(axis=0) / atoms.get_masses().sum()
    atoms.set_momenta(atoms.get_momenta() - atoms.get_masses()[:, None] * velocity)
