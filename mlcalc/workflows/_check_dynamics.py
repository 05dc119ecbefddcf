"""Energy in dynamics at constant energy: its drift, and that its fluctuation falls with the square of the time step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet

from mlcalc.workflows._check_context import Array, Context, Deviation, NotApplicableError, reset

TEMPERATURE_K = 300.0
_STEPS = 150  # of the longer time step
_PER_PERIOD = 40  # steps in a period of the fastest vibration
_DRIFT = 1e-5  # eV/atom/ps that is allowed whatever the fluctuation
_ORDER = 0.5  # allowed deviation from the second order of velocity Verlet


@dataclass(frozen=True)
class _Run:
    time_ps: Array
    total: Array  # eV, relative to the start

    @property
    def slope(self) -> float:
        """Of a straight line, eV/ps."""
        return float(np.polyfit(self.time_ps, self.total, 1)[0])

    @property
    def fluctuation(self) -> float:
        """Standard deviation about that line, eV."""
        return float(np.std(self.total - np.polyval(np.polyfit(self.time_ps, self.total, 1), self.time_ps)))


def dynamics(context: Context) -> list[Deviation]:
    """Run velocity Verlet twice over the same time, with one time step and with half of it."""
    name, atoms = context.main()
    if len(atoms) < 2:
        raise NotApplicableError("one atom does not vibrate")
    start = atoms.copy()
    generator = context.generator()
    thermalize_momenta(start, temperature_K=TEMPERATURE_K, rng=generator)
    Stationary(start)
    timestep = 2 * np.pi / (_PER_PERIOD * _fastest(context, atoms))
    long, short = _run(context, start, timestep, _STEPS), _run(context, start, timestep / 2, 2 * _STEPS)
    n, noise = len(atoms), context.noise[name].energy
    context.curves["nve"] = {
        f"{dt / units.fs:.3g} fs": {"time_ps": run.time_ps.tolist(), "total_ev_per_atom": (run.total / n).tolist()}
        for dt, run in ((timestep, long), (timestep / 2, short))
    }
    duration = float(short.time_ps[-1])
    # A line through so short a run is only as good as the fluctuation allows.
    tolerance = _DRIFT + (3 * short.fluctuation + 10 * noise) / (n * duration)
    label = f"{name}, {duration * 1000:.0f} fs in steps of {timestep / 2 / units.fs:.2f} fs"
    out = [Deviation(f"drift, {label}", abs(short.slope) / n, "eV/atom/ps", tolerance)]
    out.append(Deviation(f"fluctuation, {label}", short.fluctuation / n, "eV/atom", None))
    if short.fluctuation > 10 * noise + 1e-12 * n:
        order = float(np.log2(long.fluctuation / short.fluctuation))
        out.append(Deviation(f"order of fluctuation ({order:.2f}) less 2", abs(order - 2), "", _ORDER))
    return out


def _fastest(context: Context, atoms: Atoms, displacement: float = 0.01, iterations: int = 8) -> float:
    """Return the highest vibrational frequency by power iteration, in radians per ASE unit of time."""
    root = np.sqrt(atoms.get_masses())[:, None]
    mode = context.generator().normal(size=atoms.positions.shape)
    square = 0.0
    for _ in range(iterations):
        mode /= np.linalg.norm(mode)
        step = mode / root
        step *= displacement / np.linalg.norm(step, axis=1).max()
        forward, back = atoms.copy(), atoms.copy()
        forward.positions += step
        back.positions -= step
        gradient = (context.numbers(back).forces - context.numbers(forward).forces) / 2
        image = gradient / root * (np.linalg.norm(mode / root, axis=1).max() / displacement)
        square = float((mode * image).sum())
        mode = image
        if not np.linalg.norm(mode) > 0:
            raise NotApplicableError("no forces between the atoms")
    square = max(square, float(np.linalg.norm(mode)))
    return float(np.sqrt(square))


def _run(context: Context, start: Atoms, timestep: float, steps: int) -> _Run:
    reset(context.calculator)
    atoms = start.copy()
    atoms.calc = context.calculator
    dynamics = VelocityVerlet(atoms, timestep)
    total = []

    def record() -> None:
        context.evaluations += 1
        context.tick()
        total.append(atoms.get_potential_energy() + atoms.get_kinetic_energy())

    dynamics.attach(record)
    dynamics.run(steps)
    values = np.array(total)
    times = np.array([k * timestep / (1000 * units.fs) for k in range(len(total))])
    return _Run(times, values - values[0])
