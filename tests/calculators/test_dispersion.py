"""D3 dispersion on top of a potential: sums, derivatives, slabs and wires, cutoffs, three bodies, settings."""

from __future__ import annotations

import copy
import itertools
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read
from ase.optimize import BFGS
from dftd3.ase import DFTD3

from mlcalc import MLCalculator
from mlcalc.calculators import Dispersion
from mlcalc.calculators.dispersion import DispersionCalculator
from mlcalc.errors import SettingsError, UnknownElementError, WorkflowError
from mlcalc.potentials import ZBL
from mlcalc.workflows import check, md

SHORT = Dispersion("d3bj", "pbe", cutoff_ang=15.0, coordination_cutoff_ang=10.0)


def silicon() -> Atoms:
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.set_cell(atoms.cell @ np.array([[1, 0.1, 0.05], [0, 1, 0.1], [0, 0, 1]]), scale_atoms=True)
    return atoms


def d3(dispersion: Dispersion = SHORT) -> DFTD3:
    cutoffs = {
        "disp2": dispersion.cutoff_ang,
        "disp3": dispersion.coordination_cutoff_ang,
        "cn": dispersion.coordination_cutoff_ang,
        "width2": dispersion.smooth_ang,
        "width3": dispersion.smooth_ang,
    }
    return DFTD3(damping="d3bj", params_tweaks={"method": "pbe", "atm": False}, realspace_cutoff=cutoffs)


@pytest.mark.parametrize("order", list(itertools.permutations(["energy", "forces", "stress"])))
def test_results_are_sums_in_whatever_order_they_are_asked_for(order: tuple[str, ...]) -> None:
    both = MLCalculator("mlearn", dtype="float64", dispersion=SHORT)
    alone = MLCalculator("mlearn", dtype="float64")
    for seed in range(2):
        atoms = silicon()
        atoms.rattle(0.05, seed=seed)
        for name in (*order, *order):
            expected = alone.get_property(name, atoms) + d3().get_property(name, atoms)
            assert both.get_property(name, atoms) == pytest.approx(expected, abs=1e-10)
        added = both.get_property("dispersion_energy", atoms)
        assert added == pytest.approx(d3().get_property("energy", atoms), abs=1e-12)
        assert added < -1.0
        assert both.results["energy"] - added == pytest.approx(alone.get_potential_energy(atoms), abs=1e-10)
        assert both.results["free_energy"] == both.results["energy"]
        assert both.get_property("extrapolation_grades", atoms).shape == (8,)
    with pytest.raises(PropertyNotImplementedError):
        both.get_property("energies", atoms)


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, True, False), (False, False, False)])
def test_forces_and_stress_are_derivatives_of_the_energy(pbc: tuple[bool, ...]) -> None:
    atoms = silicon()
    atoms.pbc = pbc
    atoms.cell[~atoms.pbc] = 0
    atoms.calc = MLCalculator("mlearn", dtype="float64", dispersion=SHORT)
    assert np.abs(calculate_numerical_forces(atoms, eps=1e-4) - atoms.get_forces()).max() < 1e-6
    if all(pbc):
        # D3's coordination number jumps by 1e-7 with each atom that comes within its cutoff.
        assert np.abs(calculate_numerical_stress(atoms, eps=1e-3) - atoms.get_stress()).max() < 2e-5
        assert np.abs(d3().get_property("stress", atoms)).max() > 1e-3
    else:
        with pytest.raises(PropertyNotImplementedError, match="three periodic axes"):
            atoms.get_stress()
        dispersion = atoms.calc.get_property("dispersion_energy", atoms)
        # The same with vacuum wider than the cutoff, or turned, or with another vector along the open axes.
        crystal = atoms.copy()
        crystal.cell[~atoms.pbc] = 60 * np.eye(3)[~atoms.pbc]
        wide = crystal.copy()
        crystal.pbc = True
        assert d3().get_property("energy", crystal) == pytest.approx(dispersion, abs=1e-9)
        wide.rotate(40, (1, 2, 3), rotate_cell=True)
        wide.positions += 7
        assert atoms.calc.get_property("dispersion_energy", wide) == pytest.approx(dispersion, abs=1e-9)


def test_attraction_shows_in_the_stress() -> None:
    """Dispersion pulls a crystal together: tension, which ASE counts positive."""
    atoms = bulk("Si", cubic=True)
    without, with_it = (
        calc.get_property("stress", atoms)
        for calc in (MLCalculator("mlearn", dtype="float64"), MLCalculator("mlearn", dtype="float64", dispersion=SHORT))
    )
    assert (with_it - without)[:3].min() > 0.01


def test_three_bodies_repel_in_a_triangle_and_attract_in_a_line() -> None:
    """Axilrod and Teller: 1 + 3 cos cos cos is 11/8 in an equilateral triangle, -2 on a line."""
    triangle = Atoms("Si3", 4.5 * np.array([[0, 0, 0], [1, 0, 0], [0.5, np.sqrt(0.75), 0]]))
    line = Atoms("Si3", 4.5 * np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0]]))
    change = []
    for atoms in (triangle, line):
        pair, all_three = (
            Dispersion(method, "pbe").calculator().get_property("energy", atoms) for method in ("d3bj", "d3bj-atm")
        )
        change.append(all_three - pair)
    assert change[0] > 1e-5
    assert change[1] < -1e-6


@pytest.mark.parametrize(("smooth", "jump"), [(0.0, True), (2.0, False)])
def test_what_happens_at_the_cutoff(smooth: float, jump: bool) -> None:
    calc = Dispersion("d3bj", "pbe", cutoff_ang=8.0, smooth_ang=smooth).calculator()
    energies = [calc.get_property("energy", Atoms("Si2", [[0, 0, 0], [0, 0, r]])) for r in (7.999, 8.001)]
    assert energies[1] == 0
    assert (abs(energies[0]) > 5e-4) == jump
    assert abs(energies[0]) < 1e-2 if jump else abs(energies[0]) < 1e-8


def test_copies_compute_on_their_own() -> None:
    calc = MLCalculator("mlearn", dtype="float64", dispersion="d3bj")
    assert isinstance(calc, DispersionCalculator)
    atoms = silicon()
    expected = calc.get_property("energy", atoms)
    for other in (copy.deepcopy(calc), pickle.loads(pickle.dumps(calc))):
        assert other.get_property("energy", atoms) == expected
        moved = atoms.copy()
        moved.rattle(0.05, seed=2)
        assert other.get_property("energy", moved) == pytest.approx(calc.get_property("energy", moved), abs=1e-10)
        assert other.get_property("energy", moved) != expected


def test_a_failure_leaves_no_half_results() -> None:
    """After the error about stress the energy is still the sum."""
    calc = MLCalculator("mlearn", dtype="float64", dispersion=SHORT)
    atoms = Atoms("Si2", [[0, 0, 0], [0, 0, 2.3]])
    energy = calc.get_property("energy", atoms)
    with pytest.raises(PropertyNotImplementedError):
        calc.get_property("stress", atoms)
    assert calc.get_property("energy", atoms) == energy
    assert calc.get_property("dispersion_energy", atoms) < 0
    forces = calc.get_property("forces", atoms)
    with pytest.raises(PropertyNotImplementedError):
        calc.get_property("stress", atoms)
    assert calc.get_property("forces", atoms).tolist() == forces.tolist()
    assert calc.get_property("energy", atoms) == energy


@pytest.mark.parametrize("name", ["x.traj", "x.json", "x.db", "x.extxyz"])
def test_structures_with_it_go_into_files(tmp_path: Path, name: str) -> None:
    atoms = silicon()
    atoms.calc = MLCalculator("mlearn", dtype="float64", dispersion=SHORT)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    BFGS(atoms, logfile=None, trajectory=str(tmp_path / "run.traj")).run(steps=0)
    atoms.write(tmp_path / name)
    assert read(tmp_path / "run.traj").get_potential_energy() == pytest.approx(energy, abs=1e-10)
    assert read(tmp_path / name).get_potential_energy() == pytest.approx(energy, abs=1e-7)
    assert np.abs(read(tmp_path / name).get_forces() - forces).max() < 1e-7
    assert atoms.calc.export_properties()["energy"] == energy
    assert SinglePointCalculator(atoms, **atoms.calc.results).get_potential_energy(atoms) == energy


def test_lammps_does_not_drop_it(tmp_path: Path) -> None:
    calc = MLCalculator("mlearn", dtype="float64", dispersion=SHORT)
    with pytest.raises(WorkflowError, match=r"without the dispersion \(d3bj\).*engine='ase'.*hybrid/overlay"):
        md(silicon(), calc, engine="lammps", steps=1, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (skipped,) = check(calc, silicon(), only=["LAMMPS"]).checks
    assert "a pair style of its own" in skipped.explanation


class Mine(MLCalculator):
    pass


class MineWithDispersion(DispersionCalculator):
    pass


def test_which_class_it_makes() -> None:
    with pytest.raises(SettingsError, match="Mine takes no dispersion: derive it from DispersionCalculator"):
        Mine("mlearn", dispersion="d3bj")
    assert type(Mine("mlearn")) is Mine
    for kind, options in (
        (MineWithDispersion, {"dispersion": "d3zero", "dispersion_functional": "pbesol"}),
        (DispersionCalculator, {"dispersion": "d3zero", "dispersion_functional": "pbesol"}),
        (DispersionCalculator, {"dispersion_functional": "pbesol"}),
    ):
        calc = kind("mlearn", **options)
        assert type(calc) is kind
        assert calc.parameters["dispersion"] == options.get("dispersion", "d3bj")
        assert calc.parameters["dispersion_functional"] == "pbesol"


def zbl(energy_scale: str, elements: tuple[str, ...] = ("Si",)) -> ZBL:
    potential = ZBL(elements)
    potential.info = replace(potential.info, energy_scale=energy_scale)
    return potential


def test_settings() -> None:
    for scale, functional in (("PBE and PBE+U (VASP, 520 eV)", "pbe"), ("r2SCAN, VASP", "r2scan")):
        calc = MLCalculator(zbl(scale), dispersion="D3BJ")
        assert calc.dispersion.functional == functional
    for scale in ("as labelled", "unknown"):
        with pytest.warns(UserWarning, match="does not say which functional"):
            assert MLCalculator(zbl(scale), dispersion="d3bj").dispersion.functional == "pbe"
    assert MLCalculator(zbl("TPSS"), dispersion="d3bj", dispersion_functional="tpss").dispersion.functional == "tpss"
    assert MLCalculator(zbl("TPSS"), dispersion=Dispersion("d3bj", "tpss")).dispersion.functional == "tpss"
    assert MLCalculator(zbl("PBE"), dispersion="d3zero", dispersion_functional="PBEsol").dispersion == Dispersion(
        "d3zero", "pbesol"
    )
    for scale, options, words in (
        ("PBE-D3(BJ), VASP", {"dispersion": "d3bj"}, "count twice"),
        ("B97M-V (Q-Chem)", {"dispersion": "d3bj"}, "count twice"),
        ("wB97X-D, def2-TZVP", {"dispersion": "d3bj"}, "count twice"),
        ("TPSS", {"dispersion": "d3bj"}, "'TPSS' names none that is known: give dispersion_functional"),
        ("PBE for Si, r2SCAN for Mo", {"dispersion": "d3bj"}, "names pbe, r2scan: give dispersion_functional"),
        ("PBE", {"dispersion": "d5"}, "'d5' is not known: d3bj, d3bj-atm"),
        ("PBE", {"dispersion": "d3bj", "dispersion_functional": "nonsense"}, "no d3bj parameters"),
        ("PBE", {"dispersion_functional": "pbe"}, "without dispersion"),
    ):
        with pytest.raises(SettingsError, match=words):
            MLCalculator(zbl(scale), **options)
    heavy = MLCalculator(zbl("PBE", ("Og",)), dispersion="d3bj")
    with pytest.raises(UnknownElementError, match=r"no parameters for atoms 0 and 1|no parameters for atoms 0, 1"):
        heavy.get_property("energy", Atoms("Og2", [[0, 0, 0], [0, 0, 3]]))
