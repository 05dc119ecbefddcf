"""SevenNet against the authors' calculator, side by side; the tables appear in the summary of the test run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from sevennet_upstream import NAMES, crystals, large, others, upstream

from mlcalc import MLCalculator
from mlcalc.potentials.precision import dtype_name

# energy eV/atom, forces eV/Å, stress eV/Å³
BOUNDS = np.array([1e-7, 1e-6, 1e-7])


def numbers(atoms: Atoms, calculator: Calculator) -> tuple[float, np.ndarray, np.ndarray]:
    """Return energy per atom, forces, and stress where there is one (zeros elsewhere)."""
    atoms = atoms.copy()
    atoms.calc = calculator
    forces = atoms.get_forces()
    return atoms.get_potential_energy() / len(atoms), forces, atoms.get_stress() if atoms.pbc.all() else np.zeros(6)


def reference(atoms: Atoms, calculator: Calculator, table: list[str]) -> tuple[float, np.ndarray, np.ndarray] | None:
    """Return the authors' numbers; where their calculator raises, say so in the table."""
    try:
        return numbers(atoms, calculator)
    except Exception as error:
        table.append(f"not compared: {atoms.get_chemical_formula()}, upstream raises {type(error).__name__}: {error}")
        return None


def difference(one: tuple[float, np.ndarray, np.ndarray], two: tuple[float, np.ndarray, np.ndarray]) -> np.ndarray:
    return np.array([np.abs(a - b).max() for a, b in zip(one, two, strict=True)])


def structures(folder: Path) -> dict[str, list[Atoms]]:
    return {"crystals": crystals(folder, 100), **others(), "512 atoms": [large()]}


def line(what: str, count: int, values: np.ndarray) -> str:
    return f"{what:28s} {count:4d}  " + "  ".join(f"{value:9.1e}" for value in values)


HEADER = f"{'largest difference':28s} {'n':>4s}  {'eV/atom':>9s}  {'eV/Å':>9s}  {'eV/Å³':>9s}"


@pytest.mark.parametrize("name", NAMES)
def test_float64(name: str, data_folder: Path, record_property: Callable[[str, object], None]) -> None:
    ours = MLCalculator(name, dtype="float64")
    table, worst = [f"{name}, float64, mlcalc against SevenNet's own calculator", HEADER], np.zeros(3)
    groups = structures(data_folder)
    elements = {symbol for atoms in groups["crystals"] for symbol in atoms.symbols}
    assert len(groups["crystals"]) >= 100
    assert len(elements) == 88  # every one in the data
    with upstream(name, torch.float64) as theirs:
        for group, members in groups.items():
            largest = np.zeros(3)
            for atoms in members:
                found = numbers(atoms, ours)
                if (wanted := reference(atoms, theirs, table)) is not None:
                    largest = np.maximum(largest, difference(found, wanted))
            table.append(line(group, len(members), largest))
            worst = np.maximum(worst, largest)
    record_property("table", "\n".join(table))
    assert (worst < BOUNDS).all(), "\n".join(table)


@pytest.mark.parametrize("name", NAMES)
def test_float32_within_ten_times_upstreams_noise(
    name: str, data_folder: Path, record_property: Callable[[str, object], None]
) -> None:
    """The noise is what the authors' calculator shows when all atoms are moved together."""
    ours = MLCalculator(name, dtype="float32")
    table = [f"{name}, float32, mlcalc against SevenNet's own calculator, and its noise under translation", HEADER]
    rng = np.random.default_rng(0)
    worst = np.zeros((2, 3))
    with upstream(name, torch.float32) as theirs:
        for group, members in structures(data_folder).items():
            largest = np.zeros((2, 3))
            for atoms in members:
                found = numbers(atoms, ours)
                if (wanted := reference(atoms, theirs, table)) is None:
                    continue
                largest[0] = np.maximum(largest[0], difference(found, wanted))
                for _ in range(3):
                    moved = atoms.copy()
                    moved.positions += rng.uniform(-5, 5, 3)
                    moved.wrap()
                    largest[1] = np.maximum(largest[1], difference(numbers(moved, theirs), wanted))
            table += [line(group, len(members), largest[0]), line("  noise", len(members), largest[1])]
            worst = np.maximum(worst, largest)
    record_property("table", "\n".join(table))
    assert ours.info.name == name
    assert dtype_name(ours.potential.dtype) == "float32"
    assert (worst[0] < 10 * worst[1]).all(), "\n".join(table)
