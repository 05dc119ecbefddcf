"""Paths and barriers against known saddles, a saddle found by symmetry, and ASE's own band; refusals; resuming."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.io import read
from ase.mep import NEB
from ase.optimize import FIRE
from pymatgen.io.ase import AseAtomsAdaptor

from mlcalc.errors import NonFiniteError, WorkflowError
from mlcalc.workflows import ConvergenceWarning, WorkflowWarning, match_order, neb, plot_path, relax


class MuellerBrown(Calculator):
    """Müller & Brown, Theor. Chim. Acta 53, 75 (1979), in units of 0.01 eV, with a spring along z."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        x, y, z = self.atoms.positions[0]
        height = 0.01 * np.array([-200.0, -100.0, -170.0, 15.0])
        a, b, c = np.array([-1, -1, -6.5, 0.7]), np.array([0, 0, 11, 0.6]), np.array([-10, -10, -6.5, 0.7])
        dx, dy = x - np.array([1, 0, -0.5, -1]), y - np.array([0, 0.5, 1.5, 1])
        term = height * np.exp(a * dx**2 + b * dx * dy + c * dy**2)
        gradient = [(term * (2 * a * dx + b * dy)).sum(), (term * (b * dx + 2 * c * dy)).sum(), 2 * z]
        self.results = {"energy": term.sum() + z**2, "forces": -np.array([gradient])}


class Counting(EMT):
    """EMT that counts evaluations."""

    count = 0

    def calculate(self, *arguments, **options) -> None:
        type(self).count += 1
        super().calculate(*arguments, **options)


def hop() -> tuple[Atoms, Atoms]:
    """A vacancy in copper before and after a jump across the periodic boundary, both wrapped."""
    crystal = bulk("Cu", a=3.6, cubic=True) * (2, 2, 2)
    across = int(np.argmin(np.linalg.norm(crystal.positions - [5.4, 5.4, 0.0], axis=1)))
    initial = crystal.copy()
    final = crystal.copy()
    final.positions[across] = [7.2, 7.2, 0.0]  # the site of atom 0
    del initial[0], final[0]
    final.wrap()
    return initial, final


def test_mueller_brown_saddle() -> None:
    ends = [Atoms("H", positions=[[*xy, 0.0]]) for xy in ((-0.6, 1.4), (-0.05, 0.47))]
    result = neb(*ends, MuellerBrown(), images=9, fmax=1e-3, spring_ev_per_ang2=1.0)
    assert result.converged
    np.testing.assert_allclose(result.images[0].positions[0, :2], [-0.558, 1.442], atol=1e-3)
    np.testing.assert_allclose(result.saddle.positions[0, :2], [-0.822, 0.624], atol=1e-3)
    assert result.barrier_forward_ev == pytest.approx(1.46700 - 0.40665, abs=2e-4)
    assert result.barrier_backward_ev == pytest.approx(0.80768 - 0.40665, abs=2e-4)
    assert result.reaction_energy_ev == pytest.approx(1.46700 - 0.80768, abs=2e-4)
    assert result.barrier_fit_forward_ev == pytest.approx(result.barrier_forward_ev, abs=2e-3)
    assert result.barrier_fit_backward_ev == pytest.approx(result.barrier_backward_ev, abs=2e-3)


def test_a_minimum_on_the_way_is_told() -> None:
    ends = [Atoms("H", positions=[[*xy, 0.0]]) for xy in ((-0.558, 1.442), (0.623, 0.028))]
    with pytest.warns(WorkflowWarning, match="minimum on the way"):
        result = neb(*ends, MuellerBrown(), images=13, fmax=5e-3, spring_ev_per_ang2=2.0)
    assert result.barrier_forward_ev == pytest.approx(1.46700 - 0.40665, abs=1e-3)


def test_vacancy_jump_meets_the_saddle_that_symmetry_gives() -> None:
    initial, final = hop()
    before = initial.positions.copy(), final.positions.copy()
    result = neb(initial, AseAtomsAdaptor.get_structure(final), EMT(), images=5, fmax=0.01)
    assert result.converged
    np.testing.assert_array_equal(initial.positions, before[0])
    np.testing.assert_array_equal(final.positions, before[1])
    # Half way, a mirror plane keeps the jumping atom from falling to either side: relaxing finds the saddle.
    steps = np.linalg.norm(result.images[-1].positions - result.images[0].positions, axis=1)
    jumper = int(steps.argmax())
    assert steps[jumper] < 3.0  # across the boundary, not back through the cell
    middle = initial.copy()
    middle.positions[jumper] = [6.3, 6.3, 0.0]
    saddle = relax(middle, EMT(), fmax=1e-3)
    well = relax(initial, EMT(), fmax=1e-3)
    expected = saddle.energy_ev - well.energy_ev
    assert 0.2 < expected < 1.5
    assert result.barrier_forward_ev == pytest.approx(expected, abs=1e-3)
    assert result.barrier_backward_ev == pytest.approx(expected, abs=1e-3)
    assert result.barrier_fit_forward_ev == pytest.approx(expected, abs=5e-3)
    assert result.saddle_index == 3
    assert abs(result.reaction_energy_ev) < 1e-4
    for image, energy in zip(result.images, result.energy_ev, strict=True):
        alone = image.copy()
        alone.calc = EMT()
        assert alone.get_potential_energy() == pytest.approx(energy, abs=1e-9)
        np.testing.assert_allclose(alone.get_forces(), image.get_forces(), atol=1e-9)


def adatom() -> tuple[Atoms, Atoms]:
    """Gold on a small copper surface, in the two kinds of hollow; the lower layer fixed."""
    ends = []
    for position in ("fcc", "hcp"):
        slab = fcc111("Cu", (2, 2, 2), a=3.6, vacuum=6.0)
        add_adsorbate(slab, "Au", 2.2, position)
        slab.set_constraint(FixAtoms(mask=slab.get_tags() == 2))
        ends.append(slab)
    return ends[0], ends[1]


def test_one_shared_calculator_equals_one_for_each_image_in_ase() -> None:
    initial, final = adatom()
    Counting.count = 0
    result = neb(initial, final, Counting(), images=3, fmax=0.02)
    count = Counting.count
    assert result.converged
    fixed = initial.constraints[0].index
    for image in result.images:
        np.testing.assert_array_equal(image.positions[fixed], initial.positions[fixed])
    # Ends: relaxation and one more; then every image once a step and once at the start.
    ends = 2 + sum(relax(item, EMT(), fmax=0.02 / 3).steps + 1 for item in (initial, final))
    assert count <= ends + 3 * (result.steps + 1)

    images = [relax(initial, EMT(), fmax=1e-3).atoms, *(initial.copy() for _ in range(3))]
    images += [relax(final, EMT(), fmax=1e-3).atoms]
    for image in images[1:-1]:
        image.calc = EMT()
    chain = NEB(images, k=0.5, climb=True, method="improvedtangent")
    chain.interpolate(mic=True, apply_constraint=True)
    FIRE(chain, logfile=None).run(fmax=0.005, steps=500)
    energies = [image.get_potential_energy() for image in images]
    assert result.barrier_forward_ev == pytest.approx(max(energies) - energies[0], abs=1e-3)
    assert result.reaction_energy_ev == pytest.approx(energies[-1] - energies[0], abs=1e-4)
    assert abs(result.reaction_energy_ev) > 1e-3


def test_killed_searches_go_on_and_others_are_refused(tmp_path: Path) -> None:
    ends = adatom()
    whole = neb(*ends, EMT(), images=3, fmax=0.02)

    def kill(step: int, force: float) -> None:
        if step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        neb(*ends, EMT(), images=3, fmax=0.02, out=tmp_path, progress=kill)
    seen: list[int] = []
    result = neb(*ends, EMT(), images=3, fmax=0.02, out=tmp_path, progress=lambda step, force: seen.append(step))
    assert result.resumed_from == seen[0] == 6
    assert result.converged
    assert result.barrier_forward_ev == pytest.approx(whole.barrier_forward_ev, abs=1e-3)
    again = neb(*ends, EMT(), images=3, fmax=0.02, out=tmp_path)
    assert again.steps == again.resumed_from == result.steps
    np.testing.assert_array_equal(again.energy_ev, result.energy_ev)
    path = read(tmp_path / "path.extxyz", ":")
    np.testing.assert_allclose([image.get_potential_energy() for image in path], result.energy_ev)
    assert len(read(tmp_path / "bands.traj", ":")) % 5 == 0
    with pytest.raises(WorkflowError, match=r"another run \(different: spring_ev_per_ang2\)"):
        neb(*ends, EMT(), images=3, fmax=0.02, out=tmp_path, spring_ev_per_ang2=0.7)
    bands = (tmp_path / "bands.traj").read_bytes()
    (tmp_path / "bands.traj").write_bytes(bands[:100])
    with pytest.raises(WorkflowError, match=r"bands.traj is damaged .*delete it"):
        neb(*ends, EMT(), images=3, fmax=0.02, out=tmp_path)
    fresh = neb(*ends, EMT(), images=3, fmax=0.02, out=tmp_path, spring_ev_per_ang2=0.7, resume=False)
    assert fresh.resumed_from == 0
    assert plot_path(result, tmp_path / "path.png").stat().st_size > 5000


def test_what_did_not_converge_is_loud() -> None:
    ends = adatom()
    with pytest.warns(ConvergenceWarning, match="NOT converged after 2 steps"):
        result = neb(*ends, EMT(), images=3, fmax=0.01, max_steps=2)
    assert not result.converged
    assert result.max_force_ev_per_ang > 0.01
    with pytest.warns(WorkflowWarning, match="end points are NOT relaxed"):
        result = neb(*ends, EMT(), images=3, fmax=0.02, relax_ends=False)
    assert not result.converged
    assert not result.ends_relaxed


def test_a_path_downhill_has_no_saddle() -> None:
    ends = [Atoms("H", positions=[[*xy, 0.0]]) for xy in ((-0.70, 1.10), (-0.558, 1.442))]
    with pytest.warns(WorkflowWarning, match="no saddle"):
        result = neb(*ends, MuellerBrown(), images=3, max_steps=0, relax_ends=False)
    assert result.saddle_index == 0
    assert result.barrier_forward_ev == 0.0


def test_nan_is_an_error() -> None:
    class Broken(EMT):
        def calculate(self, *arguments, **options) -> None:
            super().calculate(*arguments, **options)
            self.results["forces"] = self.results["forces"] * np.nan

    with pytest.raises(NonFiniteError):
        neb(*adatom(), Broken(), images=1, relax_ends=False)


def test_order_is_found_where_a_vacancy_shifts_the_numbers() -> None:
    crystal = bulk("Cu", a=3.6, cubic=True) * (2, 2, 2)
    initial, final = crystal.copy(), crystal.copy()
    del initial[0], final[9]
    with pytest.raises(WorkflowError, match=r"numbered differently.*order='match'"):
        neb(initial, final, EMT())
    matched = match_order(initial, final)
    moved = np.linalg.norm(matched.positions - initial.positions, axis=1) > 1e-6
    assert moved.sum() == 1
    mixed = Atoms("CuAu", positions=[[0, 0, 0], [0, 0, 2.5]])
    with pytest.raises(WorkflowError, match="atom 0 is Cu in the initial and Au in the final"):
        neb(mixed, mixed[[1, 0]], EMT())


def test_ends_that_no_path_can_join_are_refused() -> None:
    initial, final = hop()
    larger = final.copy()
    larger.set_cell(larger.cell.array * 1.01, scale_atoms=True)
    turned = final.copy()
    turned.rotate(30, "z", rotate_cell=True)
    gold = final.copy()
    gold.symbols[3] = "Au"
    shifted = final.copy()
    shifted.positions += 0.8
    moved = initial.copy()
    moved.positions += 0.8
    held = final.copy()
    held.set_constraint(FixAtoms([2]))
    pinned, away = adatom()
    away.positions[0] += 0.3
    ethanol = molecule("CH3CH2OH")
    rotated = ethanol.copy()
    rotated.rotate(70, "y")
    for first, last, message in [
        (initial, larger, "differ in their cells, by up to 0.072"),
        (initial, turned, "one is rotated"),
        (initial, gold, "different atoms.*Au 0 and 1, Cu 31 and 30"),
        (initial, final[1:], "Cu 31 and 30"),
        (initial, initial, "are the same structure"),
        (initial, moved, "the same structure, shifted"),
        (initial, shifted, "shifted against each other: 30 of 31"),
        (initial, held, r"atoms \[2\] are fixed in one"),
        (pinned, away, r"atoms \[0\] are fixed, but lie elsewhere"),
        (ethanol, rotated, "rotated or moved as a whole"),
    ]:
        with pytest.raises(WorkflowError, match=message):
            neb(first, last, EMT())
    near = initial.copy()
    near.positions[5] += 0.15  # falls back when it relaxes
    with pytest.raises(WorkflowError, match="same structure once relaxed"):
        neb(initial, near, EMT())
    for options, message in [
        ({"images": 0}, "images must be"),
        ({"optimizer": "BFGSLineSearch"}, "unknown optimizer"),
        ({"interpolation": "spline"}, "unknown interpolation"),
        ({"fmax": 0.0}, "fmax"),
        ({"order": "any"}, "unknown order"),
    ]:
        with pytest.raises(WorkflowError, match=message):
            neb(initial, final, EMT(), **options)


def test_atoms_that_meet_on_the_straight_way_are_refused() -> None:
    initial = Atoms("CuCuAu", positions=[[0, 0, 0], [2.5, 0, 0], [1.25, 2.2, 0]], cell=[12] * 3, pbc=True)
    final = initial[[1, 0, 2]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(WorkflowError, match="on the straight way atoms come within 0 Å"):
            neb(initial, final, EMT(), order="keep", images=1, relax_ends=False)
