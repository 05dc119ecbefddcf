"""Relaxations of many structures together, against ASE's own of each alone: same optimiser, criteria and steps."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixCartesian, Hookean
from ase.units import GPa

from mlcalc.calculators import BatchedCalculator, MLCalculator
from mlcalc.errors import WorkflowError
from mlcalc.potentials import ZBL
from mlcalc.potentials.base import Potential, PotentialInfo
from mlcalc.workflows import ConvergenceWarning, RelaxResult, WorkflowWarning, relax, relax_many

CRITERIA = {"fmax": 0.01, "stress_tolerance_gpa": 0.05, "max_steps": 120}


@pytest.fixture(scope="module")
def single() -> MLCalculator:
    return MLCalculator("mlearn", dtype="float64", grade_warn=None)


@pytest.fixture(scope="module")
def batched() -> BatchedCalculator:
    return BatchedCalculator("mlearn", grade_warn=None)


def disturbed(atoms: Atoms, seed: int, strain: float = 0.03, noise: float = 0.08) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain * rng.uniform(-1, 1, (3, 3))), scale_atoms=True)
    atoms.rattle(noise, seed=seed)
    return atoms


def crystals() -> list[Atoms]:
    """Four elements, 1 to 8 atoms; a needle whose vectors are nearly parallel; atoms far outside the cell."""
    sliver = bulk("Ni", "fcc", a=3.6)
    cell = sliver.cell.array
    sliver = Atoms("Ni", cell=[cell[0], cell[1] + 4 * cell[0], cell[2] + 3 * cell[1]], pbc=True)
    outside = disturbed(bulk("Si", cubic=True), 5)
    outside.positions += np.array([31.0, -47.0, 3.0])
    return [
        disturbed(bulk("Si", cubic=True), 1),
        bulk("Mo", a=3.3),
        disturbed(sliver, 2),
        disturbed(bulk("Ni", cubic=True), 3),
        disturbed(bulk("Li").repeat((2, 1, 1)), 4),
        outside,
    ]


def anything() -> list[Atoms]:
    """Crystals, a slab, a wire, a cluster, one atom alone."""
    slab = fcc111("Ni", (1, 1, 3), a=3.5, vacuum=6.0)
    slab.rattle(0.05, seed=1)
    wire = Atoms("Mo2", positions=[[0, 0, 0], [0.2, 0.1, 1.3]], cell=[0, 0, 2.7], pbc=[False, False, True])
    cluster = Atoms("Si4", positions=np.array([[1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]]) * 0.9)
    cluster.rattle(0.1, seed=2)
    return [
        slab,
        disturbed(bulk("Si", cubic=True), 1),
        wire,
        Atoms("Li"),
        cluster,
        disturbed(bulk("Ni", cubic=True), 3),
    ]


def compare(many: list[RelaxResult], structures: list[Atoms], calculator: MLCalculator, **options) -> None:
    assert len(many) == len(structures)
    for result, structure in zip(many, structures, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            alone = relax(structure, calculator, **options)
        assert result.error is None
        assert result.steps == alone.steps
        assert result.converged == alone.converged
        assert result.atoms.get_chemical_symbols() == structure.get_chemical_symbols()
        assert result.energy_ev == pytest.approx(alone.energy_ev, abs=1e-8 * len(structure))
        assert result.initial_energy_ev == pytest.approx(alone.initial_energy_ev, abs=1e-9)
        assert result.enthalpy_ev == pytest.approx(alone.enthalpy_ev, abs=1e-8 * len(structure))
        assert result.max_force_ev_per_ang == pytest.approx(alone.max_force_ev_per_ang, abs=1e-6)
        np.testing.assert_allclose(result.atoms.positions, alone.atoms.positions, atol=1e-5)
        np.testing.assert_allclose(result.atoms.cell.array, alone.atoms.cell.array, atol=1e-5)
        assert result.spacegroup_before == alone.spacegroup_before
        if alone.max_stress_residual_gpa is not None:
            assert result.max_stress_residual_gpa == pytest.approx(alone.max_stress_residual_gpa, abs=1e-4)
            np.testing.assert_allclose(result.atoms.get_stress(), alone.atoms.get_stress(), atol=1e-6)
        assert {**result.settings, "calculator": ""} == {**alone.settings, "calculator": ""}


@pytest.mark.parametrize("optimizer", ["FIRE", "LBFGS", "BFGS"])
def test_fixed_cells_of_every_kind_in_one_batch(optimizer: str, single, batched) -> None:
    options = {**CRITERIA, "optimizer": optimizer}
    compare(relax(anything(), batched, **options), anything(), single, **options)


@pytest.mark.parametrize(
    ("optimizer", "cell", "pressure"),
    [
        ("FIRE", "full", 0.0),
        ("LBFGS", "full", 0.0),
        ("BFGS", "full", 10.0),
        ("FIRE", "full", 20.0),
        ("LBFGS", "full", -1.0),
        ("LBFGS", "isotropic", 5.0),
        ("FIRE", "shape", 0.0),
        ("LBFGS", (True, False, True, False, False, True), 1.0),
    ],
)
def test_cells_relax_as_under_frechet_cell_filter(optimizer: str, cell, pressure: float, single, batched) -> None:
    options = {**CRITERIA, "optimizer": optimizer, "cell": cell, "pressure_gpa": pressure}
    compare(relax(crystals(), batched, **options), crystals(), single, **options)


def test_pressure_is_met_by_the_stress_of_each(batched) -> None:
    options = {"cell": "full", "pressure_gpa": 8.0, "stress_tolerance_gpa": 0.01, "optimizer": "LBFGS"}
    for result in relax(crystals(), batched, **options):
        assert result.converged
        np.testing.assert_allclose(result.atoms.get_stress() / GPa, [-8, -8, -8, 0, 0, 0], atol=0.01)


def test_constraints_hold_as_in_ase(single, batched) -> None:
    def held() -> list[Atoms]:
        fixed, lines, sprung, free = (disturbed(bulk("Si", cubic=True), seed) for seed in range(4))
        fixed.set_constraint(FixAtoms([0, 3]))
        lines.set_constraint(FixCartesian([1, 2], mask=(True, False, True)))
        sprung.set_constraint(Hookean(0, 1, k=5.0, rt=1.0))
        return [fixed, free, lines, sprung]

    for optimizer in ("FIRE", "LBFGS"):
        options = {**CRITERIA, "optimizer": optimizer}
        results = relax(held(), batched, **options)
        compare(results, held(), single, **options)
        np.testing.assert_array_equal(results[0].atoms.positions[[0, 3]], held()[0].positions[[0, 3]])
        assert results[0].atoms.constraints
    options = {**CRITERIA, "optimizer": "FIRE", "cell": "full"}
    compare(relax(held()[:2], batched, **options), held()[:2], single, **options)


def test_space_groups_are_kept(single, batched) -> None:
    tetragonal = bulk("Ni", cubic=True)
    tetragonal.set_cell(tetragonal.cell.array * [1.0, 1.0, 1.05], scale_atoms=True)
    displaced = bulk("Si", cubic=True)
    displaced.set_cell(displaced.cell.array * [0.98, 1.0, 1.03], scale_atoms=True)
    structures = [bulk("Mo", "fcc", a=3.9, cubic=True), tetragonal, displaced]
    options = {**CRITERIA, "optimizer": "LBFGS", "cell": "full", "symmetry": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WorkflowWarning)
        results = relax(structures, batched, **options)
        compare(results, structures, single, **options)
    assert results[0].spacegroup_after == "Fm-3m (225)"  # a saddle for molybdenum
    assert not any("FixSymmetry" in str(item) for item in results[0].atoms.constraints)


def test_who_is_done_leaves_and_the_next_one_joins(single) -> None:
    """Room for about two structures: eighteen pass through, results in their order, each as if alone."""
    structures = [disturbed(atoms, seed, 0.02) for seed in range(3) for atoms in crystals()]
    calculator = BatchedCalculator("mlearn", max_edges=500, grade_warn=None)
    landed: list[int] = []
    seen: dict[int, list[int]] = {}
    options = {**CRITERIA, "optimizer": "LBFGS", "cell": "full"}
    results = relax_many(
        structures,
        calculator,
        progress=lambda number, step, force: seen.setdefault(number, []).append(step),
        finished=lambda number, result: landed.append(number),
        **options,
    )
    compare(results, structures, single, **options)
    assert sorted(landed) == list(range(18))
    assert landed != sorted(landed)
    for number, result in enumerate(results):
        assert seen[number] == list(range(result.steps + 1))


def test_a_structure_that_fails_leaves_the_others_alone(single, batched) -> None:
    overlapping = bulk("Si", cubic=True)
    overlapping.positions[1] = overlapping.positions[0] + 0.01
    nan = bulk("Si")
    nan.positions[1, 2] = np.nan
    flat = bulk("Ni")
    flat.cell[2] = flat.cell[1]
    good = crystals()[:3]
    mixed = [good[0], overlapping, bulk("Cu"), nan, good[1], molecule("H2O"), "Si.cif", flat, Atoms(), good[2]]
    mixed.append(bulk("Si", a=5.43) * (1, 1, 1))
    mixed[-1].symbols[:] = ["Si", "Ni"]  # known, but not together
    options = {**CRITERIA, "optimizer": "FIRE", "cell": "full"}
    with pytest.warns(WorkflowWarning, match="8 of 11 structures FAILED: 1"):
        results = relax(mixed, batched, **options)
    compare([results[0], results[4], results[9]], good, single, **options)
    errors = [(k, result.error.split(":")[0]) for k, result in enumerate(results) if result.error]
    assert errors == [
        (1, "OverlapError"),
        (2, "UnknownElementError"),
        (3, "NonFiniteError"),
        (5, "WorkflowError"),
        (6, "WorkflowError"),
        (7, "WorkflowError"),
        (8, "WorkflowError"),
        (10, "UnknownElementError"),
    ]
    assert not results[1].converged
    assert np.isnan(results[1].energy_ev)
    assert results[1].to_dict()["energy_ev"] is None


def test_non_convergence_is_told_for_each(batched) -> None:
    with pytest.warns(ConvergenceWarning, match=r"2 of 3 structures NOT converged: 0 \(Si8\), 2 \(Ni4\)"):
        results = relax([crystals()[0], bulk("Mo"), crystals()[3]], batched, max_steps=3, optimizer="LBFGS")
    assert [result.steps for result in results] == [3, 0, 3]
    assert [result.converged for result in results] == [False, True, False]


class Falls(Potential):
    """Nuclear repulsion that gives NaN as soon as an atom has no neighbour within 1.5 Å."""

    def __init__(self) -> None:
        super().__init__()
        self.info = PotentialInfo(("Si",), 4.0, 1, name="falls")
        self.config = {}
        self.zbl = ZBL(("Si",), dtype=torch.float64)

    def forward(self, species, edge_index, edge_vectors, extra=None):
        energies = self.zbl(species, edge_index, edge_vectors, extra)
        length = torch.linalg.norm(edge_vectors, dim=1)
        near = torch.zeros_like(energies).index_add(0, edge_index[0], (length < 1.5).to(length.dtype))
        return torch.where((near == 0) & (energies > 0), torch.nan, energies)


def test_a_structure_that_becomes_nan_on_its_way_is_told_with_its_last_sound_state() -> None:
    """Atoms push each other apart: the pair at 1 Å leaves the range after some steps, the one at rest stays."""
    pair, far = Atoms("Si2", positions=[[0, 0, 0], [0, 0, 1.0]]), Atoms("Si2", positions=[[0, 0, 0], [0, 0, 9.0]])
    with pytest.warns(WorkflowWarning, match=r"1 of 2 structures FAILED: 0 \(Si2\); the first: NonFiniteError"):
        broken, whole = relax([pair, far], BatchedCalculator(Falls()), optimizer="FIRE", max_steps=300)
    assert broken.steps == 2  # FIRE moves all atoms together by 0.2 Å at first: 1.0, 1.28, 1.57 Å apart
    assert np.isfinite(broken.atoms.positions).all()
    assert broken.initial_energy_ev > 0.0
    assert whole.converged
    assert whole.energy_ev == 0.0


def test_any_ase_calculator_works_through_the_list_one_by_one() -> None:
    structures = [bulk("Cu", a=3.7), bulk("Si"), bulk("Au", a=4.2, cubic=True)]  # EMT knows no silicon
    calls = []
    with pytest.warns(WorkflowWarning, match=r"1 of 3 structures FAILED: 1 \(Si2\)"):
        results = relax(structures, EMT(), cell="full", progress=lambda *told: calls.append(told))
    for k in (0, 2):
        assert results[k].to_dict() | {"wall_time_s": 0} == (
            relax(structures[k], EMT(), cell="full").to_dict() | {"wall_time_s": 0}
        )
    assert {number for number, _, _ in calls} == {0, 2}


def test_what_has_no_batched_form_goes_one_by_one_or_is_named(single, batched) -> None:
    structures = [crystals()[0], bulk("Mo")]
    options = {**CRITERIA, "optimizer": "GPMin"}
    compare(relax(structures, single, **options), structures, single, **options)
    with pytest.raises(WorkflowError, match="'GPMin' has no batched form: choose BFGS, FIRE, LBFGS"):
        relax(structures, batched, optimizer="GPMin")
    with pytest.raises(WorkflowError, match="give \\[atoms\\]"):
        relax(structures[0], batched)
    with pytest.raises(WorkflowError, match="give cell='full'"):
        relax(structures, batched, pressure_gpa=1.0)
    with pytest.raises(WorkflowError, match="unknown optimizer 'Simplex'"):
        relax(structures, batched, optimizer="Simplex")
    with pytest.raises(WorkflowError, match="files of one structure"):
        relax(structures, batched, log="x.log")
    assert relax([], batched) == []


def test_an_mlcalculator_is_batched_with_its_own_type_of_numbers() -> None:
    structures = crystals()[:4]
    calculator = MLCalculator("mlearn", dtype="float32", grade_warn=None)
    results = relax(structures, calculator, optimizer="LBFGS", cell="full")
    for result, structure in zip(results, structures, strict=True):
        alone = relax(structure, calculator, optimizer="LBFGS", cell="full")
        assert result.energy_ev == pytest.approx(alone.energy_ev, abs=2e-5 * len(structure))
