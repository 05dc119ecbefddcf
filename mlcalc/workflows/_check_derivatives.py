"""Forces and stress against finite differences of the energy, and the noise that limits them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from mlcalc.workflows._check_context import Array, Context, Deviation, Noise, NotApplicableError, largest

# Steps of central differences, halved from one to the next: Å, and strain.
STEPS = np.array([0.04 * 0.5**k for k in range(8)])
STRAINS = np.array([0.01 * 0.5**k for k in range(8)])
# Allowed relative error of a derivative where nothing limits the differences, and where anything does.
FLOOR, CEILING = 2e-5, 1e-2
# Above these the other tolerances, which allow for noise, no longer mean much.
NOISE_LIMIT_ENERGY, NOISE_LIMIT_FORCE = 1e-4, 1e-2  # eV/atom, eV/Å
_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


@dataclass(frozen=True)
class Slope:
    """A derivative: best value, its estimated error, and central differences at each step."""

    value: float
    error: float
    differences: Array


def measure_noise(context: Context, atoms: Atoms, extent: float = 1e-3, points: int = 21) -> Noise:
    """Return the scatter about polynomials of degree 4 along a line of ``±extent`` Å, and strain, through ``atoms``.

    Over so short a way a smooth potential is a polynomial to 1e-12; what is left is rounding. Without the strain, a
    cell of one atom would show none.
    """
    way = np.linspace(-1.0, 1.0, points)
    direction = context.generator().normal(size=atoms.positions.shape)
    direction /= np.linalg.norm(direction, axis=1).max()
    strain = context.generator().normal(size=(3, 3)) / 10
    energies, forces, stresses = [], [], []
    for t in way:
        moved = atoms.copy()
        moved.positions += extent * t * direction
        if atoms.pbc.any():
            moved.set_cell(atoms.cell.array @ (np.eye(3) + extent * t * (strain + strain.T)), scale_atoms=True)
        numbers = context.numbers(moved)
        energies.append([numbers.energy])
        forces.append(numbers.forces.ravel())
        stresses.append(np.zeros(0) if numbers.stress is None else numbers.stress)
    return Noise(*(_scatter(way, np.array(values)) for values in (energies, forces, stresses)))


def _scatter(way: Array, values: Array, degree: int = 4) -> float:
    """Return the largest over columns of the rms residual, for the degrees of freedom that are left."""
    if values.size == 0:
        return 0.0
    centred = values - values.mean(axis=0)
    basis = np.polynomial.chebyshev.chebvander(way, degree)
    residual = centred - basis @ np.linalg.lstsq(basis, centred, rcond=None)[0]
    return float(np.sqrt((residual**2).sum(axis=0) / (len(way) - degree - 1)).max())


def slope(function: Callable[[float], float], steps: Sequence[float] | Array, noise: float) -> Slope:
    """Return the derivative at 0 by Ridders' method: Romberg's table of central differences, best entry.

    Ridders, Adv. Eng. Softw. 4, 75 (1982), with the noise of ``function`` in the estimate of the error. An entry that
    differences over shorter steps contradict is left out: steps across a jump can agree by chance.

    Args:
        function: of the step.
        steps: halved from one to the next.
        noise: rms noise of ``function``.
    """
    simple = np.array([(function(h) - function(-h)) / (2 * h) for h in steps])
    best, least = simple[-1], np.inf
    rounding = 2.0 * noise / (np.sqrt(2.0) * np.asarray(steps)) + 1e-12 * np.abs(simple)
    row = [simple[0]]
    for i in range(1, len(steps)):
        new = [simple[i]]
        for j in range(1, i + 1):
            power = 4.0**j
            new.append((power * new[j - 1] - row[j - 1]) / (power - 1))
            error = max(abs(new[j] - new[j - 1]), abs(new[j] - row[j - 1])) + rounding[i]
            shorter = np.abs(simple[i + 1 :] - new[j]) <= abs(simple[i] - new[j]) + 4 * rounding[i + 1 :]
            if error < least and shorter.all():
                best, least = new[j], error
        row = new
    return Slope(float(best), float(least), simple)


def _judge(what: str, value: float, found: Slope, unit: str, scale: float, noise: float) -> Deviation:
    """Return the error of a derivative with its tolerance, or without one where the energy is too rough to tell."""
    if found.error > CEILING * scale:
        return Deviation(f"{what}: not resolved", value, unit, None)
    return Deviation(what, value, unit, max(FLOOR * scale, 3 * found.error) + 3 * noise)


def _resolved(deviations: list[Deviation]) -> list[Deviation]:
    if all(item.tolerance is None for item in deviations):
        raise ValueError("the energy is too rough to be differentiated: see noise and smoothness")
    return deviations


def noise(context: Context) -> list[Deviation]:
    """Report the noise measured at the start."""
    out = []
    for name, atoms in context.structures().items():
        found = context.noise[name]
        out.append(Deviation(f"energy, {name}", found.energy / len(atoms), "eV/atom", NOISE_LIMIT_ENERGY))
        out.append(Deviation(f"forces, {name}", found.forces, "eV/Å", NOISE_LIMIT_FORCE))
    return out


def forces(context: Context) -> list[Deviation]:
    """Compare F·d with −dE/dt along lines: that of the forces themselves and random ones."""
    out = []
    curves = context.curves.setdefault("forces", {"step_ang": STEPS.tolist(), "error_ev_per_ang": {}})
    for name, atoms in context.structures().items():
        if len(atoms) == 1:
            continue
        numbers = context.numbers(atoms)
        scale = float(np.sqrt((numbers.forces**2).mean()))
        if scale == 0.0:
            continue
        generator = context.generator()
        directions = [numbers.forces, *(generator.normal(size=numbers.forces.shape) for _ in range(3))]
        worst = []
        for direction in directions:
            unit = direction / np.linalg.norm(direction)

            def along(t: float, atoms: Atoms = atoms, unit: Array = unit) -> float:
                moved = atoms.copy()
                moved.positions += t * unit
                return context.energy(moved)

            found = slope(along, STEPS, context.noise[name].energy)
            work = float((numbers.forces * unit).sum())
            wrong = abs(work + found.value)
            worst.append(_judge(f"forces, {name}", wrong, found, "eV/Å", scale, context.noise[name].forces))
            error = np.abs(found.differences + work)
            known = curves["error_ev_per_ang"].get(name)
            curves["error_ev_per_ang"][name] = (error if known is None else np.maximum(known, error)).tolist()
        out.append(max(worst, key=lambda item: item.ratio))
    if not out:
        raise NotApplicableError("no structure with forces on its atoms")
    return _resolved(out)


def stress(context: Context) -> list[Deviation]:
    """Compare the six components of the stress with dE/dε / V."""
    out = []
    periodic = {name: atoms for name, atoms in context.structures().items() if atoms.pbc.all()}
    if not periodic:
        raise NotApplicableError("no structure that is periodic in three directions")
    for name, atoms in periodic.items():
        given = context.numbers(atoms).stress
        if given is None:
            raise NotApplicableError("the calculator has no stress")
        volume, scale = atoms.get_volume(), largest(given)
        for k, (a, b) in enumerate(_VOIGT):

            def strained(h: float, a: int = a, b: int = b, atoms: Atoms = atoms) -> float:
                deformation = np.eye(3)
                deformation[a, b] += h / 2
                deformation[b, a] += h / 2
                moved = atoms.copy()
                moved.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
                return context.energy(moved)

            found = slope(strained, STRAINS, context.noise[name].energy)
            found = Slope(found.value / volume, found.error / volume, found.differences / volume)
            label = f"stress {'xyz'[a]}{'xyz'[b]}, {name}"
            wrong = abs(float(given[k]) - found.value)
            out.append(_judge(label, wrong, found, "eV/Å³", scale, context.noise[name].stress))
    return _resolved(out)
