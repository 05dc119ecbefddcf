"""More of the same: supercells, images beyond the next cell, separate copies, single atoms."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from mlcalc.workflows._check_context import (
    EQUAL_ENERGY,
    EQUAL_FORCE,
    NOISE_FACTOR,
    Context,
    Deviation,
    Noise,
    NotApplicableError,
    Numbers,
    largest,
)
from mlcalc.workflows._check_structures import in_box, isolated

_APART = 40.0  # Å between copies


def supercell(context: Context) -> list[Deviation]:
    """Double the crystal along its first vector."""
    if context.crystal is None:
        raise NotApplicableError("no structure that is periodic in three directions")
    return _repeated(context, "crystal", context.crystal, (2, 1, 1))


def images(context: Context) -> list[Deviation]:
    """Compare the primitive cell, whose neighbours are images several cells away, with a supercell of it."""
    if context.small is None:
        raise NotApplicableError("no structure that is periodic in three directions")
    if len(context.small) > 8:
        raise NotApplicableError(f"the primitive cell has {len(context.small)} atoms: its images are far")
    return _repeated(context, "small cell", context.small, (3, 3, 3))


def copies(context: Context) -> list[Deviation]:
    """Put two clusters far apart into one structure."""
    one = context.cluster
    second = one.copy()
    second.positions += [0.0, 0.0, _APART + float(np.ptp(one.positions[:, 2]))]
    both = in_box(one + second)
    wanted = context.numbers(one)
    expected = Numbers(2 * wanted.energy, np.tile(wanted.forces, (2, 1)), None)
    return context.differences(f"two clusters {_APART:g} Å apart", context.numbers(both), expected, _twice(context))


def isolated_atoms(context: Context) -> list[Deviation]:
    """Evaluate each element alone: finite energy, no force, no crash."""
    out = []
    for symbol in dict.fromkeys(context.cluster.get_chemical_symbols()):
        numbers = context.numbers(isolated([symbol], 0.0))
        out.append(Deviation(f"forces, one {symbol}", largest(numbers.forces), "eV/Å", EQUAL_FORCE))
    return out


def far_atoms(context: Context) -> list[Deviation]:
    """Evaluate two atoms far apart: the sum of two lone ones."""
    symbols = list(dict.fromkeys(context.cluster.get_chemical_symbols()))
    pair = [symbols[0], symbols[-1]]
    alone = sum(context.energy(isolated([symbol], 0.0)) for symbol in pair)
    numbers = context.numbers(isolated(pair, _APART))
    noise = NOISE_FACTOR * context.noise["cluster"].energy / len(context.cluster)
    what = f"{pair[0]}–{pair[1]} at {_APART:g} Å"
    return [
        Deviation(f"energy, {what}", abs(numbers.energy - alone) / 2, "eV/atom", EQUAL_ENERGY + noise),
        Deviation(f"forces, {what}", largest(numbers.forces), "eV/Å", EQUAL_FORCE),
    ]


def _twice(context: Context) -> Noise:
    noise = context.noise["cluster"]
    return Noise(2 * noise.energy, noise.forces, noise.stress)


def _repeated(context: Context, name: str, atoms: Atoms, times: tuple[int, int, int]) -> list[Deviation]:
    count = int(np.prod(times))
    wanted = context.numbers(atoms)
    expected = Numbers(count * wanted.energy, np.tile(wanted.forces, (count, 1)), wanted.stress)
    noise = context.noise[name]
    what = f"{name} × {'×'.join(map(str, times))}"
    scaled = Noise(count * noise.energy, noise.forces, noise.stress)
    return context.differences(what, context.numbers(atoms.repeat(times)), expected, scaled)
