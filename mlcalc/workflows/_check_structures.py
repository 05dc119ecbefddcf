"""Structures to test a calculator on: crystal, small cell, slab and cluster of its elements, shaken but sane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers, covalent_radii
from ase.neighborlist import neighbor_list

from mlcalc.errors import WorkflowError

_ANIONS = {"N", "O", "F", "S", "Cl", "Se", "Br", "Te", "I"}
_ATOMS = 16  # in the crystal
_CLUSTER = 8
_BOX = 24.0  # empty space around what is not periodic, Å: beyond the reach of short-ranged potentials
# All six components of the stress are to be there, and different.
_STRAIN = np.array([[0.02, 0.03, -0.02], [0.03, -0.01, 0.025], [-0.02, 0.025, 0.015]])


@dataclass(frozen=True)
class Structures:
    """Structures by kind (None: not applicable), and the distance of nearest neighbours before shaking, Å."""

    crystal: Atoms | None
    small: Atoms | None
    slab: Atoms | None
    cluster: Atoms
    spacing: float


def default_structures(elements: tuple[str, ...], rattle: float, seed: int) -> Structures:
    """Return structures of the given elements.

    One element takes its own crystal if ASE knows one of an easy lattice, else fcc by covalent radius; two of which one
    is an anion take rock salt; other mixtures the lattice of the first, with the elements in turn.

    Raises:
        WorkflowError: not a chemical element.
    """
    unknown = [symbol for symbol in elements if symbol not in atomic_numbers or symbol == "X"]
    if unknown or not elements:
        raise WorkflowError(f"elements {', '.join(elements) or '(none)'}: {', '.join(unknown) or 'none'} not known")
    return derive(_crystal(elements), rattle, seed)


def derive(unit: Atoms, rattle: float, seed: int) -> Structures:
    """Return structures cut from a given one; what is not 3-D periodic stands for itself alone."""
    unit = unit.copy()
    unit.set_constraint()
    unit.set_momenta(None)
    if not (unit.pbc.all() and unit.cell.rank == 3):
        if unit.pbc.any():
            raise WorkflowError("give a structure periodic in three directions or in none; slabs are cut from crystals")
        return Structures(None, None, None, _shake(in_box(unit), rattle, seed), _spacing(unit))
    small = unit.copy()
    crystal = unit.copy()
    while len(crystal) < _ATOMS:
        times = [1, 1, 1]
        times[int(np.argmin(crystal.cell.lengths()))] = 2
        crystal = crystal.repeat(times)
    slab = crystal.copy()
    slab.pbc = (True, True, False)
    slab.center(vacuum=_BOX / 2, axis=2)
    strain = np.eye(3) + _STRAIN
    strained = crystal.copy()
    strained.set_cell(crystal.cell.array @ strain, scale_atoms=True)
    if len(small) > 2:
        small = _primitive(small)
    small.set_cell(small.cell.array @ strain, scale_atoms=True)
    return Structures(
        crystal=_shake(strained, rattle, seed),
        small=_shake(small, rattle, seed + 1),
        slab=_shake(slab, rattle, seed + 2),
        cluster=_shake(_cut(unit), rattle, seed + 3),
        spacing=_spacing(unit),
    )


def isolated(symbols: list[str], distance: float) -> Atoms:
    """Return atoms on a line, ``distance`` Å apart, with open boundaries in a box."""
    return in_box(Atoms(symbols, positions=[[0.0, 0.0, distance * k] for k in range(len(symbols))]))


def _crystal(elements: tuple[str, ...]) -> Atoms:
    radii = {symbol: float(covalent_radii[atomic_numbers[symbol]]) for symbol in elements}
    if len(elements) == 2 and len(_ANIONS & set(elements)) == 1:
        cation, anion = sorted(elements, key=lambda symbol: symbol in _ANIONS)
        return bulk(cation + anion, "rocksalt", a=2 * 1.03 * sum(radii.values()), cubic=True)
    first = elements[0]
    try:
        unit = bulk(first, cubic=True)
    except (ValueError, RuntimeError, NotImplementedError, KeyError):
        try:
            unit = bulk(first)
        except (ValueError, RuntimeError, NotImplementedError, KeyError):
            unit = bulk(first, "fcc", a=2.2 * 2**0.5 * radii[first], cubic=True)
    if len(elements) == 1:
        return unit
    while len(unit) < max(_ATOMS, len(elements)):
        unit = unit.repeat([2 if k == int(np.argmin(unit.cell.lengths())) else 1 for k in range(3)])
    unit.set_cell(unit.cell.array * (sum(radii.values()) / len(radii) / radii[first]), scale_atoms=True)
    unit.symbols = [elements[k % len(elements)] for k in range(len(unit))]
    return unit


def _primitive(atoms: Atoms) -> Atoms:
    """Return the primitive cell found by spglib, or the cell as it is."""
    import spglib

    found = spglib.find_primitive((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=1e-3)
    if found is None:
        return atoms
    cell, scaled, numbers = found
    return Atoms(numbers, scaled_positions=scaled, cell=cell, pbc=True)


def _cut(unit: Atoms) -> Atoms:
    """Return the atoms of a crystal nearest to a point off its sites."""
    large = unit.copy()
    while min(large.cell.lengths()) < 10.0:
        large = large.repeat([2 if length < 10.0 else 1 for length in large.cell.lengths()])
    centre = large.cell.array.sum(axis=0) / 2 + [0.31, 0.17, 0.23]
    order = np.argsort(np.linalg.norm(large.positions - centre, axis=1), kind="stable")
    return in_box(large[np.sort(order[:_CLUSTER])])


def in_box(atoms: Atoms) -> Atoms:
    """Return a copy with open boundaries, in a box that leaves space on all sides."""
    box = atoms.copy()
    box.pbc = False
    box.center(vacuum=_BOX / 2)
    return box


def _shake(atoms: Atoms, rattle: float, seed: int) -> Atoms:
    shaken = atoms.copy()
    shaken.positions += np.random.default_rng(seed).normal(scale=rattle, size=shaken.positions.shape)
    return shaken


def _spacing(atoms: Atoms) -> float:
    """Return the shortest distance, Å."""
    for reach in (4.0, 8.0, 16.0):
        distances = neighbor_list("d", atoms, reach)
        if len(distances):
            return float(distances.min())
    return 3.0
