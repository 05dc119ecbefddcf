"""Relaxation against analytic Lennard-Jones values, and its promises about honesty."""

from typing import Any

import ase.optimize
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.units import GPa
from pymatgen.io.ase import AseAtomsAdaptor

from mlcalc.errors import NonFiniteError, WorkflowError
from mlcalc.workflows import ConvergenceWarning, WorkflowWarning, relax

OPTIMIZERS = sorted(set(ase.optimize.__all__) - {"RestartError", "CellAwareBFGS"})


def strained_copper() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * np.array([[1, 0.5, 0], [0.5, -1, 0.3], [0, 0.3, 0.4]])), True)
    return atoms


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_dimer_finds_the_lennard_jones_minimum_with_every_optimizer(optimizer: str) -> None:
    sigma, epsilon, cutoff = 3.0, 0.5, 30.0
    dimer = Atoms("Ar2", positions=[[0, 0, 0], [3.6, 0, 0]])
    shift = 4 * epsilon * ((sigma / cutoff) ** 12 - (sigma / cutoff) ** 6)
    result = relax(dimer, LennardJones(sigma=sigma, epsilon=epsilon, rc=cutoff), fmax=1e-4, optimizer=optimizer)
    assert result.converged
    assert result.atoms.get_distance(0, 1) == pytest.approx(2 ** (1 / 6) * sigma, abs=1e-4)
    assert result.energy_ev == pytest.approx(-epsilon - shift, abs=1e-8)
    assert dimer.get_distance(0, 1) == 3.6


def test_pressure_is_met_by_the_stress() -> None:
    result = relax(bulk("Cu"), EMT(), cell="full", pressure_gpa=5.0, fmax=1e-4, stress_tolerance_gpa=1e-3)
    stress = result.atoms.get_stress() / GPa
    np.testing.assert_allclose(stress, [-5, -5, -5, 0, 0, 0], atol=1e-3)
    assert result.max_stress_residual_gpa is not None
    assert result.max_stress_residual_gpa <= 1e-3
    assert result.enthalpy_ev == pytest.approx(result.energy_ev + 5 * GPa * result.atoms.get_volume())
    assert result.atoms.get_volume() < relax(bulk("Cu"), EMT(), cell="full").atoms.get_volume()


@pytest.mark.parametrize("optimizer", ["LBFGS", "CellAwareBFGS", "FIRE"])
def test_a_strained_cell_comes_back_to_the_cubic_minimum(optimizer: str) -> None:
    reference = relax(bulk("Cu"), EMT(), cell="isotropic", stress_tolerance_gpa=1e-4)
    result = relax(strained_copper(), EMT(), cell=True, fmax=1e-3, stress_tolerance_gpa=1e-2, optimizer=optimizer)
    assert result.converged
    assert result.energy_ev / 4 == pytest.approx(reference.energy_ev, abs=1e-5)
    assert result.spacegroup_before != result.spacegroup_after
    assert result.spacegroup_after == "Fm-3m (225)"


def test_shape_keeps_volume_and_mask_keeps_the_rest() -> None:
    start = strained_copper()
    shape = relax(start, EMT(), cell="shape", fmax=1e-3)
    assert shape.atoms.get_volume() == pytest.approx(start.get_volume(), rel=1e-4)
    along_z = relax(start, EMT(), cell=[False, False, True, False, False, False], fmax=1e-3)
    assert along_z.converged
    np.testing.assert_allclose(along_z.atoms.cell.array[:, :2], start.cell.array[:, :2], atol=1e-9)


def test_symmetry_is_kept_at_a_saddle_where_free_relaxation_breaks_it() -> None:
    # Tetragonal copper between bcc and fcc: without symmetry and with a rattle it falls to fcc.
    bcc = bulk("Cu", "bcc", a=2.87, cubic=True)
    kept = relax(bcc, EMT(), cell="full", symmetry=True, fmax=1e-4)
    assert kept.spacegroup_before == kept.spacegroup_after == "Im-3m (229)"
    bcc.set_cell(bcc.cell.array * [1.0, 1.0, 1.05], scale_atoms=True)
    free = relax(bcc, EMT(), cell="full", fmax=1e-4)
    assert free.energy_ev < kept.energy_ev - 0.01
    assert free.spacegroup_after == "Fm-3m (225)"


def test_a_space_group_that_changed_although_it_was_to_be_kept_is_told() -> None:
    stretched = bulk("Cu", cubic=True)
    stretched.set_cell(stretched.cell.array * [1.0, 1.0, 1.03], scale_atoms=True)
    with pytest.warns(WorkflowWarning, match=r"I4/mmm \(139\).*Fm-3m \(225\) afterwards"):
        relax(stretched, EMT(), cell="full", symmetry=True, fmax=1e-4, stress_tolerance_gpa=1e-4)


class Leap(ase.optimize.BFGS):
    """Steps far beyond what symmetry projection is good for."""

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, alpha=0.01, maxstep=100.0, **options)


def test_a_step_too_large_for_the_symmetry_is_a_clear_error() -> None:
    with pytest.raises(WorkflowError, match="the symmetry cannot be kept at step 0: FixSymmetry adjust_cell"):
        relax(bulk("Cu", a=3.0), EMT(), cell="full", symmetry=True, optimizer=f"{__name__}:Leap")


def test_non_convergence_is_loud_and_recorded() -> None:
    with pytest.warns(ConvergenceWarning, match=r"NOT converged after 1 steps"):
        result = relax(strained_copper(), EMT(), max_steps=1, fmax=1e-6)
    assert not result.converged
    assert result.max_force_ev_per_ang > 1e-6


def test_pymatgen_structure_gives_the_same_as_atoms() -> None:
    from pymatgen.io.ase import AseAtomsAdaptor

    atoms = strained_copper()
    same = relax(AseAtomsAdaptor.get_structure(atoms), EMT(), fmax=1e-3)
    assert same.energy_ev == pytest.approx(relax(atoms, EMT(), fmax=1e-3).energy_ev, abs=1e-9)


def test_input_keeps_its_state_and_constraints_hold() -> None:
    from ase.constraints import FixAtoms

    atoms = strained_copper()
    atoms.set_constraint(FixAtoms([0]))
    before = atoms.copy()
    result = relax(atoms, EMT(), fmax=1e-3)
    assert atoms == before
    assert atoms.calc is None
    np.testing.assert_array_equal(result.atoms.positions[0], before.positions[0])
    assert result.atoms.constraints


def test_to_dict_survives_json_and_files_are_written(tmp_path) -> None:
    import json

    result = relax(
        strained_copper(), EMT(), trajectory=tmp_path / "r.traj", log=tmp_path / "r.log", cell=True, fmax=0.05
    )
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert document["atoms"]["symbols"] == ["Cu"] * 4
    assert len(ase.io.read(tmp_path / "r.traj", ":")) == result.steps + 1
    assert (tmp_path / "r.log").read_text().count("\n") >= result.steps


class Broken(Calculator):
    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        forces = np.zeros((len(atoms), 3))
        forces[1, 2] = np.nan
        self.results = {"energy": 0.0, "forces": forces}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "sideways"}, "sideways"),
        ({"pressure_gpa": 1.0}, "give cell='full'"),
        ({"optimizer": "Simplex"}, "Simplex"),
        ({"optimizer": "CellAwareBFGS"}, "CellAwareBFGS"),
        ({"cell": [True]}, "six booleans"),
    ],
)
def test_bad_options_are_named(options: dict, message: str) -> None:
    with pytest.raises(WorkflowError, match=message):
        relax(bulk("Cu"), EMT(), **options)


def test_bad_structures_and_calculators_are_named() -> None:
    with pytest.raises(WorkflowError, match="periodic in three directions"):
        relax(molecule("H2O"), EMT(), cell=True)
    with pytest.raises(WorkflowError, match="no atoms"):
        relax(Atoms(), EMT())
    with pytest.raises(WorkflowError, match="got str"):
        relax("Cu.cif", EMT())
    with pytest.raises(NonFiniteError, match=r"atoms \[1\]"):
        relax(molecule("H2O"), Broken())


class ByPymatgen(EMT):
    """Takes its structure to pymatgen and back, as CHGNet's calculator does."""

    def calculate(self, atoms: Any = None, *arguments: Any, **keywords: Any) -> None:
        AseAtomsAdaptor.get_structure(atoms)
        super().calculate(atoms, *arguments, **keywords)


def test_symmetry_is_no_reason_for_warnings_of_calculators(recwarn: pytest.WarningsRecorder) -> None:
    bcc = bulk("Cu", "bcc", a=2.9)
    kept = relax(bcc, ByPymatgen(), cell="full", symmetry=True, fmax=1e-3)
    assert kept.converged
    assert [str(w.message) for w in recwarn] == []
