"""SevenNet against the authors' calculator, side by side; the tables appear in the summary of the test run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from sevennet_upstream import NAMES, crystals, large, others, shaken, upstream

from mlcalc import MLCalculator
from mlcalc.potentials.precision import dtype_name

Numbers = tuple[float, np.ndarray, np.ndarray]  # energy per atom, forces, stress
# energy eV/atom, forces eV/Å, stress eV/Å³
BOUNDS = np.array([1e-7, 1e-6, 1e-7])


def numbers(atoms: Atoms, calculator: Calculator) -> Numbers:
    """Return energy per atom, forces, and stress where there is one (zeros elsewhere)."""
    atoms = atoms.copy()
    atoms.calc = calculator
    forces = atoms.get_forces()
    return atoms.get_potential_energy() / len(atoms), forces, atoms.get_stress() if atoms.pbc.all() else np.zeros(6)


def reference(atoms: Atoms, calculator: Calculator, table: list[str]) -> Numbers | None:
    """Return the authors' numbers; where their calculator raises, say so in the table."""
    try:
        return numbers(atoms, calculator)
    except Exception as error:
        table.append(f"not compared: {atoms.get_chemical_formula()}, upstream raises {type(error).__name__}: {error}")
        return None


def difference(one: Numbers, two: Numbers) -> np.ndarray:
    return np.array([np.abs(a - b).max() for a, b in zip(one, two, strict=True)])


def structures(folder: Path) -> dict[str, list[Atoms]]:
    found = others()
    found["crystals"] = crystals(folder, 100) + found["crystals"]
    return {**found, "512 atoms": [large()]}


def last_digit(wanted: Numbers, n_atoms: int) -> np.ndarray:
    """Return the spacing of float32 numbers at the total energy (per atom), the largest force and stress."""
    energy, forces, stress = wanted
    largest = np.array([energy * n_atoms, np.abs(forces).max(), np.abs(stress).max()], dtype=np.float32)
    return np.spacing(np.abs(largest)) / [n_atoms, 1, 1]


def noise(atoms: Atoms, calculator: Calculator, wanted: Numbers, rng: np.random.Generator) -> list[np.ndarray]:
    """Return by how much a calculator's numbers differ when atoms are moved together and listed in another order."""
    found = []
    for _ in range(3):
        order = rng.permutation(len(atoms))
        moved = atoms[order]
        moved.positions += rng.uniform(-5, 5, 3)
        moved.wrap()
        energy, forces, stress = numbers(moved, calculator)
        found.append(difference((energy, forces[np.argsort(order)], stress), wanted))
    return found


def line(what: str, count: int, values: np.ndarray) -> str:
    return f"{what:28s} {count:4d}  " + "  ".join(f"{value:9.1e}" for value in values)


HEADER = f"{'largest difference':28s} {'n':>4s}  {'eV/atom':>9s}  {'eV/Å':>9s}  {'eV/Å³':>9s}"


@pytest.mark.parametrize("name", NAMES)
def test_one_crystal(name: str) -> None:
    """What every checkout can compare, without reference data."""
    atoms = shaken(bulk("NaCl", "rocksalt", a=5.6), 0)
    found = numbers(atoms, MLCalculator(name, dtype="float64"))
    with upstream(name, torch.float64) as theirs:
        wanted = numbers(atoms, theirs)
    assert (difference(found, wanted) < BOUNDS).all()
    assert np.abs(wanted[1]).max() > 0.1


@pytest.mark.parametrize("name", NAMES)
def test_float64(name: str, data_folder: Path, record_property: Callable[[str, object], None]) -> None:
    ours = MLCalculator(name, dtype="float64")
    table, worst = [f"{name}, float64, mlcalc against SevenNet's own calculator", HEADER], np.zeros(3)
    elements: set[str] = set()
    compared = []
    with upstream(name, torch.float64) as theirs:
        for group, members in structures(data_folder).items():
            differences = []
            for atoms in members:
                found = numbers(atoms, ours)
                if (wanted := reference(atoms, theirs, table)) is not None:
                    differences.append(difference(found, wanted))
                    elements |= set(atoms.symbols)
            compared.append(len(differences))
            table.append(line(group, len(differences), np.max(differences, axis=0)))
            worst = np.maximum(worst, np.max(differences, axis=0))
    record_property("table", "\n".join(table))
    assert (worst < BOUNDS).all(), "\n".join(table)
    assert compared == [103, 10, 3, 1]
    assert len(elements) == 88  # every one in the data


@pytest.mark.parametrize("name", NAMES)
def test_float32_within_ten_times_upstreams_noise(
    name: str, data_folder: Path, record_property: Callable[[str, object], None]
) -> None:
    """The noise is what the authors' calculator shows when atoms are moved together and listed in another order.

    Or in float64, or its last digit, where that changes nothing.
    """
    ours = MLCalculator(name, dtype="float32")
    table = [f"{name}, float32, mlcalc against SevenNet's own calculator, and its noise, moved and reordered", HEADER]
    rng = np.random.default_rng(0)
    too_much = []
    with upstream(name, torch.float64) as exact:
        # Of the largest alone, where moving atoms hides what sums over so many edges lose.
        rounded = {"512 atoms": numbers(large(), exact)}
    with upstream(name, torch.float32) as theirs:
        for group, members in structures(data_folder).items():
            differences, noises, digit = [], [], np.zeros(3)
            for atoms in members:
                found = numbers(atoms, ours)
                if (wanted := reference(atoms, theirs, table)) is None:
                    continue
                differences.append(difference(found, wanted))
                digit = np.maximum(digit, last_digit(wanted, len(atoms)))
                if group in rounded:
                    noises.append(difference(rounded[group], wanted))
                noises += noise(atoms, theirs, wanted, rng)
            largest, bound = np.max(differences, axis=0), np.maximum(np.max(noises, axis=0), digit)
            table += [line(group, len(differences), largest), line("  noise", len(noises), np.max(noises, axis=0))]
            too_much += [group] if (largest > 10 * bound).any() else []
    record_property("table", "\n".join(table))
    assert dtype_name(ours.potential.dtype) == "float32"
    assert not too_much, "\n".join(table)
