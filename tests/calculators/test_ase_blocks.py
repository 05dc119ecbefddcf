"""Structures of many atoms are evaluated in parts: the same numbers for any size of the parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from mlcalc import MLCalculator
from mlcalc.calculators import _blocks
from mlcalc.deploy import export
from mlcalc.potentials.base import Potential, PotentialInfo
from mlcalc.potentials.registry import build

PROPERTIES = ("energy", "energies", "forces", "stress", "stresses")


def network(layers: int, seed: int = 1) -> Potential:
    torch.manual_seed(seed)
    info = PotentialInfo(elements=("Si", "Mo"), cutoff=3.8, layers=layers, name=f"layers-{layers}")
    settings = {"layers": layers, "channels": 4, "l_max": 2}
    potential = build({"architecture": "equivariant", "network": settings, "zbl": False}, info, torch.float64)
    potential.set_energies([-1.0, -2.0], 0.7)
    return potential.eval()


def results(
    source: object, block: int, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...] = PROPERTIES
) -> dict[str, np.ndarray]:
    atoms = bulk("Si", cubic=True).repeat((2, 2, 1))
    atoms.rattle(0.1, seed=2)
    if not isinstance(source, str):
        atoms.symbols[::3] = "Mo"
    monkeypatch.setattr(_blocks, "BLOCK", block)
    calculator = MLCalculator(source, dtype="float64")
    return {name: np.asarray(calculator.get_property(name, atoms)) for name in names}


@pytest.mark.parametrize("block", [1, 5, 31, 32])
@pytest.mark.parametrize("layers", [1, 3])
def test_same_numbers_for_any_block(layers: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network of three layers looks farther than the edges of a block and is left whole."""
    potential = network(layers)
    assert _blocks.is_separable(potential) == (layers == 1)
    whole, parts = (results(potential, size, monkeypatch) for size in (1000, block))
    for name in PROPERTIES:
        assert np.abs(parts[name] - whole[name]).max() < 1e-11, name
    assert np.abs(whole["forces"]).max() > 1e-2


@pytest.mark.filterwarnings("ignore:.*extrapolat")
def test_committees_grades_and_energies_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    names = (*PROPERTIES, "force_deviation", "energies_std")
    whole, parts = (results([network(1, 1), network(1, 2)], size, monkeypatch, names) for size in (1000, 7))
    for name in names:
        assert np.abs(parts[name] - whole[name]).max() < 1e-11, name
    assert whole["force_deviation"].min() > 1e-3
    for names in (("energy", "extrapolation_grades"), ("forces", "extrapolation_grades")):
        whole, parts = (results("mlearn", size, monkeypatch, names) for size in (1000, 7))
        for name in names:
            assert np.abs(parts[name] - whole[name]).max() < 1e-10, name
        assert whole["extrapolation_grades"].shape == (32,)


def test_a_scripted_file_and_atoms_without_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(network(1), tmp_path / "one.pt")
    whole, parts = (results(tmp_path / "one.pt", size, monkeypatch) for size in (1000, 6))
    for name in PROPERTIES:
        assert np.abs(parts[name] - whole[name]).max() < 1e-11, name
    atoms = molecule("Si2H6")
    atoms.symbols[:] = "Si"
    atoms.positions *= 10.0
    monkeypatch.setattr(_blocks, "BLOCK", 3)
    apart = MLCalculator(network(1)).get_property("energies", atoms)
    assert apart == pytest.approx([apart[0]] * len(atoms))


def test_the_network_sees_a_block_and_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them once; atoms of the block come first and are the centres."""
    monkeypatch.setattr(_blocks, "BLOCK", 4)
    atoms = bulk("Si", cubic=True).repeat(4)
    calculator = MLCalculator(network(1))
    seen: list[tuple[int, int, int]] = []
    calculator.potential.register_forward_hook(
        lambda module, args, output: seen.append((len(args[0]), len(output), int(args[1][0].max())))
    )
    calculator.get_property("forces", atoms)
    assert len(seen) == len(atoms) // 4
    for nodes, owned, last in seen:
        assert (owned, last) == (4, 3)
        assert 4 + 4 <= nodes <= 4 + 4 * 4  # four neighbours within 3.8 Å, some of them in the block
