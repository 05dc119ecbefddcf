"""A pair potential that is right, and the same one broken in one way each."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from mlcalc.graphs.neighbors import edge_vectors, neighbor_list

# Morse for copper (Girifalco and Weizer 1959), times a switch that ends with zero slope and curvature.
DEPTH, STIFFNESS, DISTANCE, CUTOFF = 0.3429, 1.3588, 2.866, 4.3


class Morse(Calculator):
    """Energy, energies, forces, stress and stresses of a Morse crystal."""

    implemented_properties = ["energy", "energies", "forces", "stress", "stresses"]  # noqa: RUF012
    dtype = np.float64

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        edges, vectors = self.edges(self.atoms)
        vectors = vectors.astype(self.dtype)
        lengths = np.linalg.norm(vectors, axis=1)
        value, slope = self.pair(lengths)
        n = len(self.atoms)
        energies = np.zeros(n, dtype=self.dtype)
        np.add.at(energies, edges[0], value / 2)
        pull = (slope / lengths)[:, None] * vectors / 2  # ∂E/∂(edge vector)
        forces = np.zeros((n, 3))
        np.add.at(forces, edges[0], pull)
        np.add.at(forces, edges[1], -pull)
        self.results = {"energy": float(energies.sum()), "energies": energies, "forces": forces}
        if self.atoms.pbc.all():
            shares = np.zeros((n, 3, 3))
            np.add.at(shares, edges[0], vectors[:, :, None] * pull[:, None, :])
            self.results["stresses"] = full_3x3_to_voigt_6_stress(shares) / self.atoms.get_volume()
            self.results["stress"] = self.results["stresses"].sum(axis=0)
        elif "stress" in properties or "stresses" in properties:
            raise PropertyNotImplementedError("no stress without a periodic cell")
        self.break_it()

    def edges(self, atoms: Atoms):
        return self.images(atoms)[:2]

    def images(self, atoms: Atoms):
        index, shifts = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, CUTOFF)
        return index, edge_vectors(atoms.positions, atoms.cell.array, index, shifts), shifts

    def pair(self, r):
        decay = np.exp(-STIFFNESS * (r - DISTANCE))
        value = DEPTH * (decay**2 - 2 * decay)
        slope = -2 * DEPTH * STIFFNESS * (decay**2 - decay)
        x = 1 - (r / CUTOFF) ** 2
        return (value * x**3).astype(self.dtype), (slope * x**3 - value * 6 * x**2 * r / CUTOFF**2).astype(self.dtype)

    def break_it(self) -> None:
        """Change ``results``."""


class WrongShearSign(Morse):
    def break_it(self):
        for name in ("stress", "stresses"):
            if name in self.results:
                self.results[name][..., 3:] *= -1


class ScaledForces(Morse):
    def break_it(self):
        self.results["forces"] *= 1.001


class NearImagesOnly(Morse):
    def edges(self, atoms):
        index, vectors, shifts = self.images(atoms)
        crossed = np.floor(atoms.get_scaled_positions(wrap=False) + 1e-12)
        away = shifts + crossed[index[1]] - crossed[index[0]]  # between the wrapped atoms
        near = (np.abs(away * atoms.pbc) <= 1).all(axis=1)
        return index[:, near], vectors[near]


class NotExtensive(Morse):
    def break_it(self):
        n = len(self.atoms)
        self.results["energies"] += 1e-4 * n
        self.results["energy"] += 1e-4 * n**2


class BlindToCells(Morse):
    """Keeps results when only the cell has changed."""

    def check_state(self, atoms, tol=1e-15):
        return [change for change in super().check_state(atoms, tol) if change != "cell"]


class StalePositions(Morse):
    """Keeps results while atoms move by less than 0.01 Å."""

    def check_state(self, atoms, tol=1e-15):
        return super().check_state(atoms, 1e-2)


class FieldInSpace(Morse):
    """Adds a wave along x, with its forces."""

    def break_it(self):
        phase = 2 * np.pi * self.atoms.positions[:, 0] / 11.3
        self.results["energies"] += 1e-3 * np.sin(phase)
        self.results["energy"] = float(self.results["energies"].sum())
        self.results["forces"][:, 0] -= 1e-3 * 2 * np.pi / 11.3 * np.cos(phase)


class CutWithoutSwitch(Morse):
    def pair(self, r):
        decay = np.exp(-STIFFNESS * (r - DISTANCE))
        return DEPTH * (decay**2 - 2 * decay), -2 * DEPTH * STIFFNESS * (decay**2 - decay)


class SinglePrecision(Morse):
    dtype = np.float32


class WrapsInPlace(Morse):
    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        atoms.wrap()
        self.atoms = atoms.copy()


class ExchangedForces(Morse):
    """Gives the forces of the first two atoms to each other."""

    def break_it(self):
        self.results["forces"][:2] = self.results["forces"][:2][::-1].copy()


class NoLoneAtoms(Morse):
    def edges(self, atoms):
        index, vectors = super().edges(atoms)
        if not len(vectors):
            raise IndexError("list of neighbours is empty")
        return index, vectors


class RandomForces(Morse):
    generator = np.random.default_rng(0)

    def break_it(self):
        self.results["forces"] += self.generator.normal(scale=0.05, size=self.results["forces"].shape)


class WrongShares(Morse):
    """Per-atom values leave out a part of the whole."""

    def break_it(self):
        self.results["energies"] = self.results["energies"] - 0.01
        if "stresses" in self.results:
            self.results["stresses"] = self.results["stresses"] * 0.99


class PartialForces(Morse):
    """Forces are wrong if the stress was asked for first."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if "stress" in properties:
            self.results["forces"] *= 0.5


class Kinked(Morse):
    """Right, but the force goes to zero at the cutoff as 14 eV/Å² times the distance to it, and stays there."""

    def pair(self, r):
        value, slope = super().pair(r)
        return value - 7.0 * (r - CUTOFF) ** 2, slope - 14.0 * (r - CUTOFF)
