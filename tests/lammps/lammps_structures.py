"""Structures of every shape LAMMPS and ASE hold differently, what they must give; rewritten model files."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk

from mlcalc.graphs import build_graph
from mlcalc.potentials.base import Potential
from mlcalc.potentials.derivatives import atomic_virials, energies_and_gradients, forces, strain_derivative

ELEMENTS = ("Si", "Mo")


def _mix(atoms: Atoms, seed: int) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms.symbols[rng.permutation(len(atoms))[: len(atoms) // 3]] = "Mo"
    atoms.rattle(0.12, seed=seed)
    return atoms


def _sliver() -> Atoms:
    """Long tilts, a height well below the cutoff, atoms far outside the cell."""
    cell = np.array([[3.1, 0.0, 0.3], [8.7, 2.9, -0.2], [-10.3, 4.4, 9.0]])
    inside = np.array([[0.1, 0.2, 0.1], [0.6, 0.5, 0.45], [0.2, 0.8, 0.8]])
    return Atoms(
        "SiMoSi", positions=(inside + np.array([[3, -2, 0], [0, 0, -4], [1, 1, 1]])) @ cell, cell=cell, pbc=True
    )


def _left_handed() -> Atoms:
    atoms = _mix(bulk("Si", a=5.5).repeat((3, 2, 2)), 3)
    cell = atoms.cell.array[[1, 0, 2]] @ _rotation(4)
    atoms = Atoms(atoms.symbols, positions=atoms.positions @ _rotation(4), cell=cell, pbc=True)
    assert np.linalg.det(cell) < 0
    return atoms


def _rotation(seed: int) -> np.ndarray:
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return q * np.sign(np.linalg.det(q))


def _slab() -> Atoms:
    atoms = _mix(bulk("Si", cubic=True).repeat((2, 2, 2)), 5)
    atoms.pbc = [True, True, False]
    atoms.positions += [0.3, -7.0, 40.0]  # outside the cell along the axis without periodicity
    return atoms


def _tilted_slab() -> Atoms:
    """Periodic along a and c, which are not perpendicular; the cell vector b leans and means nothing."""
    atoms = _mix(bulk("Si", a=5.5).repeat((2, 2, 3)), 6)
    atoms.pbc = [True, False, True]
    return atoms


def _wire() -> Atoms:
    atoms = _mix(bulk("Si", cubic=True).repeat((1, 3, 1)), 7)
    atoms.pbc = [False, True, False]
    return atoms


def _molecule() -> Atoms:
    positions = np.random.default_rng(8).uniform(0, 5.0, (9, 3)) + np.array([100.0, -3.0, 0.0])
    keep = [0]
    for k in range(1, 9):
        if np.linalg.norm(positions[keep] - positions[k], axis=1).min() > 1.4:
            keep.append(k)
    return Atoms("Si" * len(keep), positions=positions[keep])


def _half_empty() -> Atoms:
    atoms = _mix(bulk("Si", cubic=True).repeat((2, 1, 1)), 9)
    cell = atoms.cell.array.copy()
    cell[2, 2] *= 5.0
    return Atoms(atoms.symbols, positions=atoms.positions, cell=cell, pbc=True)


def _isolated() -> Atoms:
    """A pair and two atoms out of reach of anything."""
    return Atoms("SiMoSiSi", positions=[[1, 1, 1], [3.2, 1, 1], [12, 12, 12], [5, 20, 9]], cell=[24, 24, 24], pbc=True)


def structures() -> dict[str, Atoms]:
    return {
        "bulk": _mix(bulk("Si", cubic=True).repeat(2), 1),
        "primitive": bulk("Si", a=5.5),
        "triclinic": _mix(bulk("Si", a=5.5).repeat((3, 3, 2)), 2),
        "sliver": _sliver(),
        "left-handed": _left_handed(),
        "slab": _slab(),
        "tilted-slab": _tilted_slab(),
        "wire": _wire(),
        "molecule": _molecule(),
        "half-empty": _half_empty(),
        "isolated": _isolated(),
        "one-atom": Atoms("Mo", positions=[[1.0, 2.0, 3.0]]),
        "one-atom-crystal": Atoms("Si", cell=[2.6, 2.7, 2.9], pbc=True),
    }


def python_route(potential: Potential, atoms: Atoms) -> dict[str, np.ndarray]:
    """Return what LAMMPS has to give: eV, eV/Å and virials (eV) in LAMMPS' sign."""
    graph = build_graph(atoms, potential.info.elements, potential.info.cutoff)
    energies, gradients = energies_and_gradients(potential, graph)
    return {
        "energies": energies.detach().numpy(),
        "forces": forces(gradients, graph.edge_index, graph.n_atoms).numpy(),
        "virial": -strain_derivative(gradients, graph)[0].numpy(),
        "virials": atomic_virials(gradients, graph).numpy(),
    }


def rewrite(source: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Copy a model file with its document changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for item in old.infolist():
            content = old.read(item)
            if item.filename.endswith("mlcalc.json"):
                document = json.loads(content)
                change(document)
                content = json.dumps(document).encode()
            new.writestr(item.filename, content)
