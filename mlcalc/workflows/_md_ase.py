"""The ASE engine: integrators whose whole state goes through a checkpoint bit for bit.

A run that was killed and one that was not must do the same arithmetic. Positions, momenta, thermostat chains and the
random generator are stored as they are. What cannot be stored is the calculator's hidden state (a neighbour list with
its skin, which fixes the order of sums), so *every* run resets its calculator at every checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixCom
from ase.io.extxyz import write_extxyz
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT, NoseHooverChainThermostat
from ase.md.verlet import VelocityVerlet

from mlcalc.errors import NonFiniteError, WorkflowError
from mlcalc.files import write_atomic
from mlcalc.workflows._md_record import COLUMNS, format_row
from mlcalc.workflows._md_settings import MDSettings, degrees_of_freedom
from mlcalc.workflows._steps import read_archive

CHECKPOINT = "checkpoint.npz"

Integrator = VelocityVerlet | Langevin | IsotropicMTKNPT | MTKNPT

# Private state of ASE's chains (3.29), by the object that holds it.
_CHAIN_STATE = {"_thermostat": ("_eta", "_p_eta"), "_barostat": ("_xi", "_p_xi")}
_CELL_STATE: dict[type, tuple[str, ...]] = {
    IsotropicMTKNPT: ("_eps", "_p_eps", "_cell0", "_volume0"),
    MTKNPT: ("_h", "_p_g"),
}


def build_dynamics(atoms: Atoms, settings: MDSettings, generator: np.random.Generator) -> Integrator:
    """Return the integrator for ``settings``; the total momentum is kept at zero, so that Nf = 3N − 3 throughout.

    Args:
        atoms: with calculator and momenta.
        settings: checked options.
        generator: random numbers for stochastic thermostats.
    """
    timestep = settings.timestep_fs * units.fs
    tau = settings.tau_fs * units.fs
    if settings.ensemble == "nve":
        return VelocityVerlet(atoms, timestep)
    if settings.ensemble == "nvt-langevin":
        if not atoms.constraints and len(atoms) > 1:
            atoms.set_constraint(FixCom())
        return Langevin(
            atoms, timestep, temperature_K=settings.temperature_k, friction=1.0 / tau, fixcm=False, rng=generator
        )
    if settings.ensemble == "nvt-bussi":
        bussi = Bussi(atoms, timestep, temperature_K=settings.temperature_k, taut=tau, rng=generator)
        # ASE counts 3N; rescaling keeps the total momentum, so the centre of mass takes no heat.
        bussi.ndof = degrees_of_freedom(atoms)
        bussi.target_kinetic_energy = 0.5 * bussi.temp * bussi.ndof
        return bussi
    kind = IsotropicMTKNPT if settings.npt_cell == "isotropic" else MTKNPT
    dynamics = kind(
        atoms,
        timestep,
        temperature_K=settings.temperature_k,
        pressure_au=settings.pressure_gpa * units.GPa,
        tdamp=tau,
        pdamp=settings.barostat_tau_fs * units.fs,
    )
    # Martyna, Tobias & Klein, J. Chem. Phys. 101, 4177 (1994): Nf is the number of degrees of freedom that move. ASE
    # takes 3N, which at zero total momentum heats a small cell by N/(N − 1).
    internal = len(atoms) - 1
    dynamics._num_atoms_global = internal
    dynamics._thermostat = NoseHooverChainThermostat(
        num_atoms_global=internal, masses=dynamics.masses, temperature_K=settings.temperature_k, tdamp=tau
    )
    return dynamics


def dynamics_state(dynamics: Integrator) -> dict[str, np.ndarray]:
    """Return every array that the next step depends on, but for the calculator and the random generator."""
    state = {
        "positions": dynamics.atoms.get_positions(),
        "momenta": dynamics.atoms.get_momenta(),
        "cell": dynamics.atoms.cell.array.copy(),
    }
    if type(dynamics) in _CELL_STATE:
        for name in _CELL_STATE[type(dynamics)]:
            state[f"cell.{name}"] = np.array(getattr(dynamics, name))
        for part, names in _CHAIN_STATE.items():
            for name in names:
                state[f"{part}.{name}"] = np.array(getattr(getattr(dynamics, part), name))
    elif isinstance(dynamics, Bussi):
        state["transferred_energy"] = np.array(dynamics.transferred_energy)
    return state


def restore_state(dynamics: Integrator, state: dict[str, np.ndarray]) -> None:
    """Put back what ``dynamics_state`` returned; ``dynamics`` was built with the same settings."""
    atoms = dynamics.atoms
    atoms.set_cell(state["cell"], scale_atoms=False)
    atoms.set_positions(state["positions"], apply_constraint=False)
    atoms.set_momenta(state["momenta"], apply_constraint=False)
    if type(dynamics) in _CELL_STATE:
        for name in _CELL_STATE[type(dynamics)]:
            value = state[f"cell.{name}"]
            setattr(dynamics, name, value.copy() if value.ndim else float(value))
        for part, names in _CHAIN_STATE.items():
            for name in names:
                setattr(getattr(dynamics, part), name, state[f"{part}.{name}"].copy())
        vars(dynamics).update(_q=atoms.get_positions(), _p=atoms.get_momenta())
    elif isinstance(dynamics, Bussi):
        dynamics.transferred_energy = float(state["transferred_energy"])


def run_ase(
    atoms: Atoms,
    settings: MDSettings,
    folder: Path,
    identity: dict[str, Any],
    progress: Callable[[int, int], None] | None,
) -> int:
    """Run up to ``settings.steps``, from the checkpoint in ``folder`` where there is one; return the step begun at.

    Writes ``log.csv``, ``trajectory.extxyz`` and ``checkpoint.npz``; ``atoms`` ends in the final state.

    Raises:
        NonFiniteError: energy or forces became NaN or infinite.
        WorkflowError: log or trajectory are shorter than the checkpoint says.
    """
    generator = np.random.default_rng([settings.seed, 1])
    dynamics = build_dynamics(atoms, settings, generator)
    dof = degrees_of_freedom(atoms)
    log_path, trajectory_path, checkpoint = folder / "log.csv", folder / "trajectory.extxyz", folder / CHECKPOINT
    begin = 0
    if checkpoint.exists():
        state, meta = read_archive(checkpoint, "meta")
        begin = int(meta["step"])
        restore_state(dynamics, state)
        generator.bit_generator.state = meta["random"]
        _truncate(log_path, meta["log_bytes"])
        _truncate(trajectory_path, meta["trajectory_bytes"])
    else:
        write_atomic(log_path, (",".join(COLUMNS) + "\n").encode())
        write_atomic(trajectory_path, b"")

    with open(log_path, "ab") as log, open(trajectory_path, "ab") as trajectory:

        def record(step: int) -> None:
            if step % settings.log_interval == 0:
                log.write(format_row(_sample(atoms, step, settings.timestep_fs, dof)).encode())
            if step % settings.trajectory_interval == 0:
                trajectory.write(_frame(atoms, step, settings.timestep_fs))

        def save(step: int) -> None:
            meta = {
                "format": 1,
                "step": step,
                "identity": identity,
                "random": generator.bit_generator.state,
                "log_bytes": _flush(log),
                "trajectory_bytes": _flush(trajectory),
            }
            buffer = BytesIO()
            np.savez(buffer, allow_pickle=False, meta=np.array(json.dumps(meta)), **dynamics_state(dynamics))
            write_atomic(checkpoint, buffer.getvalue())
            _forget(atoms.calc)

        if begin == 0 and not checkpoint.exists():
            record(0)
            save(0)
        for step in range(begin + 1, settings.steps + 1):
            try:
                dynamics.step()
            except np.linalg.LinAlgError as error:
                raise NonFiniteError(
                    f"the barostat broke at step {step} ({error}): the cell is stiffer than it can follow. Try a "
                    "larger barostat_tau_fs or a smaller timestep_fs, or relax the cell first."
                ) from error
            record(step)
            if step % settings.checkpoint_interval == 0 or step == settings.steps:
                save(step)
            if progress is not None:
                progress(step, settings.steps)
    return begin


def _forget(calculator: Any) -> None:
    """Make a calculator start anew, its neighbour list included."""
    for item in (calculator, getattr(calculator, "verlet", None)):
        reset = getattr(item, "reset", None)
        if reset is not None:
            reset()


def read_identity(folder: Path) -> tuple[int, dict[str, Any]] | None:
    """Return (step, identity) of the checkpoint in ``folder``, or None."""
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    meta = read_archive(path, "meta")[1]
    return int(meta["step"]), meta["identity"]


def _sample(atoms: Atoms, step: int, timestep_fs: float, dof: int) -> tuple[float, ...]:
    potential = float(atoms.get_potential_energy())
    kinetic = float(atoms.get_kinetic_energy())
    if not (np.isfinite(potential) and np.isfinite(kinetic)):
        raise NonFiniteError(
            f"MD broke at step {step}: potential energy {potential} eV, kinetic energy {kinetic} eV. "
            "Try a smaller timestep, or relax the structure first."
        )
    periodic = bool(atoms.pbc.all()) and atoms.cell.rank == 3
    volume = float(atoms.get_volume()) if periodic else float("nan")
    pressure = float("nan")
    if periodic:
        with contextlib.suppress(PropertyNotImplementedError):
            stress = atoms.get_stress(apply_constraint=False)
            pressure = float((-stress[:3].mean() + 2.0 * kinetic / (3.0 * volume)) / units.GPa)
    temperature = 2.0 * kinetic / (dof * units.kB)
    return (step, step * timestep_fs, temperature, potential, kinetic, potential + kinetic, pressure, volume)


def _frame(atoms: Atoms, step: int, timestep_fs: float) -> bytes:
    frame = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc, momenta=atoms.get_momenta())
    frame.info.update(step=step, time_fs=step * timestep_fs)
    frame.calc = SinglePointCalculator(
        frame, energy=atoms.get_potential_energy(), forces=atoms.get_forces(apply_constraint=False)
    )
    text = StringIO()
    write_extxyz(text, [frame])
    return text.getvalue().encode()


def _flush(file: BinaryIO) -> int:
    file.flush()
    os.fsync(file.fileno())
    return file.tell()


def _truncate(path: Path, length: int) -> None:
    """Cut what a killed run wrote after its last checkpoint."""
    if not path.exists() or path.stat().st_size < length:
        raise WorkflowError(f"{path} is missing or shorter than its checkpoint says: start again with resume=False")
    os.truncate(path, length)
