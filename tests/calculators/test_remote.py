"""Calculators of another environment: a real one, with packages that do not go with those of this one."""

from __future__ import annotations

import ast
import copy
import json
import subprocess
import sys
import warnings
from pathlib import Path

import ase
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.emt import EMT
from ase.io import read, write
from remote_environment import ARGON, FACTORIES, LJ, OLD_ASE, clean, copper, gone

from mlcalc import MLCalculator
from mlcalc.calculators import RemoteCalculator, remote
from mlcalc.errors import (
    RemoteRestartWarning,
)

pytestmark = pytest.mark.xdist_group("remote")

# What the calculator gives without a socket in between.
DIRECT = """
import importlib, json, sys
from ase.io import read
module, name = sys.argv[1].split(":")
calc = getattr(importlib.import_module(module), name)(**json.loads(sys.argv[2]))
answers = []
for atoms in read(sys.argv[3], ":"):
    atoms.calc = calc
    try:
        stress = atoms.get_stress().tolist()
    except NotImplementedError:
        stress = None
    free = atoms.get_potential_energy(force_consistent=True)
    answers.append([atoms.get_potential_energy(), free, atoms.get_forces().tolist(), stress])
print(json.dumps(answers))
"""


def structures() -> list[Atoms]:
    triclinic = Atoms("Ar3", [[0, 0, 0], [2.9, 1.2, 0.3], [0.4, 3.1, 2.2]], pbc=True)
    triclinic.set_cell([[5.1, 0.3, -0.2], [1.4, 5.6, 0.5], [-0.8, 1.9, 6.3]])
    left_handed = triclinic.copy()
    left_handed.set_cell(triclinic.cell[[1, 0, 2]])
    slab = fcc111("Ar", (2, 2, 2), a=5.3, vacuum=6.0)
    slab.rattle(0.1, seed=3)
    return [triclinic, left_handed, slab, bulk("Ar", a=5.2), Atoms("Ar"), Atoms("Ar4", 3.7 * np.tri(4, 3, -1))]


def test_everything_is_as_in_that_environment(python: str, tmp_path: Path) -> None:
    file = tmp_path / "structures.traj"
    write(file, structures())
    direct = subprocess.run(
        [python, "-c", DIRECT, LJ, json.dumps(ARGON), str(file)], check=True, capture_output=True, env=clean()
    )
    expected = json.loads(direct.stdout)
    with MLCalculator.remote(python=python, factory=LJ, kwargs=ARGON, respawn=False) as calc:
        assert calc.versions["ase"] == OLD_ASE != ase.__version__
        assert Path(f"/proc/{calc.process_id}/cmdline").read_bytes().split(b"\0")[0].decode() == python
        stresses = 0
        for atoms, (energy, free_energy, forces, stress) in zip(read(file, ":"), expected, strict=True):
            atoms.calc = calc
            assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-10)
            assert atoms.get_potential_energy(force_consistent=True) == pytest.approx(free_energy, abs=1e-10)
            assert np.abs(atoms.get_forces() - np.array(forces)).max() < 1e-10
            if stress is None:
                with pytest.raises(PropertyNotImplementedError, match="does not give stress for this structure"):
                    atoms.get_stress()
            else:
                stresses += 1
                assert np.abs(atoms.get_stress() - stress).max() < 1e-10
                assert np.abs(np.array(stress)).max() > 1e-4
        assert 0 < stresses < len(expected)
        assert calc.restarts == []


def test_a_molecule_has_no_stress_but_all_else(python: str) -> None:
    atoms = molecule("CO")
    with RemoteCalculator(python, "ase.calculators.emt:EMT") as calc:
        atoms.calc = calc
        with pytest.raises(PropertyNotImplementedError, match="stress"):
            atoms.get_stress()
        process = calc.process_id
        forces, energies = atoms.get_forces(), atoms.get_potential_energies()
        assert energies.sum() == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
        atoms.calc = EMT()
        assert np.abs(forces - atoms.get_forces()).max() < 1e-10
        assert calc.process_id == process


@pytest.mark.parametrize("respawn", [False, True])
def test_other_elements_and_pbc_reach_the_other_side(
    python: str, respawn: bool, recwarn: pytest.WarningsRecorder
) -> None:
    warnings.simplefilter("always")
    with RemoteCalculator(python, "ase.calculators.emt:EMT", respawn=respawn) as calc:
        seen = []
        for symbol, pbc in (("Cu", True), ("Ni", True), ("Ni", (True, True, False)), ("Ni", False)):
            atoms = copper()
            atoms.symbols[:2] = symbol
            atoms.pbc = pbc
            reference = atoms.copy()
            reference.calc, atoms.calc = EMT(), calc
            assert np.abs(atoms.get_forces() - reference.get_forces()).max() < 1e-10
            atoms.rattle(0.05, seed=4)
            reference.positions = atoms.positions
            assert np.abs(atoms.get_forces() - reference.get_forces()).max() < 1e-10
            seen.append(calc.process_id)
        assert len([w for w in recwarn if w.category is RemoteRestartWarning]) == len(calc.restarts)
        assert len(set(seen)) == (4 if respawn else 1)
        assert len(calc.restarts) == (3 if respawn else 0)
        assert all("pbc" in reason for reason in calc.restarts)
        assert all(gone(process) for process in seen if process != calc.process_id)


def test_charges_moments_tags_and_info_are_sent(python: str) -> None:
    atoms = Atoms("Ar2", [[0, 0, 0], [0, 0, 4]])
    with RemoteCalculator(python, f"{FACTORIES}:Echo", respawn=False) as calc:
        atoms.calc = calc
        assert atoms.get_potential_energy() == 0
        atoms.info["charge"] = np.int64(-1)
        assert atoms.get_potential_energy() == pytest.approx(-1000)
        atoms.set_initial_magnetic_moments([0.25, 0.5])
        assert atoms.get_potential_energy() == pytest.approx(-925)
        atoms.set_tags([1, 2])
        assert atoms.get_potential_energy() == pytest.approx(-895)
        atoms.pbc = (True, True, False)
        assert atoms.get_potential_energy() == pytest.approx(-893)
        atoms.set_initial_charges([0.5, -0.25])
        assert calc.get_property("charges", atoms).tolist() == [1.0, -0.5]
        assert atoms.get_dipole_moment().tolist() == [0.1, 0.2, 0.3]
        with pytest.raises(PropertyNotImplementedError):
            atoms.get_magnetic_moments()
        atoms.info["unrelated"] = object()
        assert calc.check_state(atoms) == []


def test_the_other_side_needs_little() -> None:
    """Python 3.9, its standard library, numpy and ASE."""
    source = (Path(remote.__file__).parent / "_remote_client.py").read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 9))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - set(sys.stdlib_module_names) == {"ase", "numpy"}


def test_two_at_once_and_copies(python: str) -> None:
    """Energies of Lennard-Jones are proportional to epsilon, whoever computes them, in whatever order."""
    scales = [0.01, 0.02, 0.01]
    calculators = [RemoteCalculator(python, LJ, {**ARGON, "epsilon": epsilon}) for epsilon in scales[:2]]
    calculators.append(copy.deepcopy(calculators[0]))
    for seed in range(3):
        reduced = []
        for calc, epsilon in zip(calculators, scales, strict=True):
            atoms = bulk("Ar", a=5.2) * (2, 1, 1)
            atoms.rattle(0.1, seed=seed)
            atoms.calc = calc
            reduced.append(atoms.get_potential_energy() / epsilon)
        assert reduced == pytest.approx([reduced[0]] * 3, rel=1e-12)
    processes = [calc.process_id for calc in calculators]
    assert len(set(processes)) == 3
    calculators[0].close()
    assert gone(processes[0])
    atoms.rattle(0.1, seed=9)
    atoms.calc = calculators[2]  # has a process of its own
    assert np.isfinite(atoms.get_forces()).all()
    for calc in calculators:
        calc.close()
        calc.close()
    assert all(gone(process) for process in processes)
