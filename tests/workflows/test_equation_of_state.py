"""Equations of state against lattice sums, each form against its own derivatives, gauges against their definitions."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, make_supercell
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.units import GPa
from scipy.integrate import quad

from mlcalc.errors import NonFiniteError, WorkflowError
from mlcalc.workflows import (
    ConvergenceWarning,
    EOSFit,
    WorkflowWarning,
    delta_gauge,
    eos,
    epsilon_gauge,
    fit_eos,
    plot_eos,
    relax,
)
from mlcalc.workflows._eos_fit import FORMS
from mlcalc.workflows._internal_freedom import free_internal_coordinates

SIGMA, EPSILON = 3.4, 0.0104
# Between the shells of fcc at r/r0 = sqrt(8) and 3, so that no shell crosses it within ±3 % of the volume.
CUTOFF = 2.91 * 1.0902 * SIGMA


def lattice_sums() -> tuple[float, float, float]:
    """Σ (r0/r)^12, Σ (r0/r)^6 and Σ 1 over fcc neighbours up to the eighth shell, nearest neighbour distance r0."""
    n = np.array([p for p in np.ndindex(9, 9, 9)]) - 4
    r2 = 0.5 * (n[n.sum(axis=1) % 2 == 0] ** 2).sum(axis=1)
    r2 = r2[(r2 > 0) & (r2 < 8.5)]
    return float((r2**-6.0).sum()), float((r2**-3.0).sum()), float(len(r2))


def lennard_jones_fcc() -> tuple[float, float, float]:
    """(V0 Å³, E0 eV, B0 eV/Å³) of E = 2ε[A12 (σ/r0)^12 − A6 (σ/r0)^6] − shift; B0 = 8 |E|/V0, B0' = 8."""
    a12, a6, count = lattice_sums()
    r0 = (2 * a12 / a6) ** (1 / 6) * SIGMA
    bound = EPSILON * a6**2 / (2 * a12)
    shift = 2 * EPSILON * count * ((SIGMA / CUTOFF) ** 12 - (SIGMA / CUTOFF) ** 6)
    volume = r0**3 / np.sqrt(2)
    return volume, -bound - shift, 8 * bound / volume


def argon(**cell: float) -> Atoms:
    return bulk("Ar", "fcc", a=np.cbrt(4 * lennard_jones_fcc()[0]), **cell)


@pytest.mark.parametrize("form", FORMS)
def test_lennard_jones_fcc_is_the_lattice_sum(form: str) -> None:
    volume, energy, modulus = lennard_jones_fcc()
    result = eos(argon(), LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=CUTOFF), strain=0.01, form=form)
    assert result.fit.form == form
    assert set(result.fits) == set(FORMS)
    assert result.minimum_inside
    assert result.settings["relax_ions"] is False
    assert result.fit.volume_ang3_per_atom == pytest.approx(volume, rel=1e-6)
    assert result.fit.energy_ev_per_atom == pytest.approx(energy, rel=1e-7)
    assert result.fit.bulk_modulus_gpa == pytest.approx(modulus / GPa, rel=1e-3)
    assert result.fit.bulk_modulus_derivative == pytest.approx(8.0, abs=0.02)


@pytest.mark.parametrize("form", FORMS)
def test_each_form_has_the_derivatives_that_its_parameters_claim(form: str) -> None:
    fit = EOSFit(form, 11.0, -3.0, 140.0, 4.7)
    v = 11.0 * (1 + 1e-3 * np.arange(-3, 4))
    slope, curvature, third = (np.polyfit(v - 11.0, fit.energy(v), 6)[::-1][k] * f for k, f in ((1, 1), (2, 2), (3, 6)))
    assert fit.energy(11.0) == pytest.approx(-3.0, abs=1e-12)
    assert slope == pytest.approx(0.0, abs=1e-6)
    assert 11.0 * curvature / GPa == pytest.approx(140.0, rel=1e-5)
    assert -1 - 11.0 * third / curvature == pytest.approx(4.7, rel=1e-3)
    back = fit_eos(np.linspace(9.5, 12.0, 9), fit.energy(np.linspace(9.5, 12.0, 9)), form)
    for name in ("volume_ang3_per_atom", "energy_ev_per_atom", "bulk_modulus_gpa", "bulk_modulus_derivative"):
        assert getattr(back, name) == pytest.approx(getattr(fit, name), rel=1e-6)
    assert back.rms_residual_mev_per_atom < 1e-4


def test_copper_agrees_with_the_stress_and_with_pymatgen() -> None:
    from pymatgen.analysis.eos import EOS

    result = eos(bulk("Cu", a=3.6), EMT(), strain=0.04)
    relaxed = relax(bulk("Cu"), EMT(), cell="isotropic", stress_tolerance_gpa=1e-5).atoms
    volume = relaxed.get_volume()
    pressures = []
    for scale in (0.999, 1.001):
        squeezed = relaxed.copy()
        squeezed.set_cell(relaxed.cell.array * scale ** (1 / 3), scale_atoms=True)
        squeezed.calc = EMT()
        pressures.append(-squeezed.get_stress()[:3].mean())
    assert result.fit.volume_ang3_per_atom == pytest.approx(volume, rel=1e-4)
    assert result.fit.bulk_modulus_gpa == pytest.approx((pressures[0] - pressures[1]) / 0.002 / GPa, rel=0.01)
    theirs = EOS("vinet").fit(result.volume_ang3_per_atom, result.energy_ev_per_atom)
    assert result.fits["vinet"].bulk_modulus_gpa == pytest.approx(float(theirs.b0_GPa), rel=1e-4)
    assert result.fits["vinet"].volume_ang3_per_atom == pytest.approx(theirs.v0, rel=1e-6)
    assert result.fits["vinet"].bulk_modulus_derivative == pytest.approx(theirs.b1, rel=1e-3)


def test_numbers_are_per_atom_and_do_not_depend_on_the_cell() -> None:
    small = eos(bulk("Cu", a=3.6), EMT(), points=7)
    large = eos(bulk("Cu", a=3.6, cubic=True), EMT(), points=7)
    np.testing.assert_allclose(large.volume_ang3_per_atom, small.volume_ang3_per_atom, rtol=1e-12)
    np.testing.assert_allclose(large.energy_ev_per_atom, small.energy_ev_per_atom, atol=1e-10)


def test_free_internal_coordinates_are_counted() -> None:
    assert free_internal_coordinates(bulk("Cu", cubic=True)) == 0
    assert free_internal_coordinates(bulk("Si")) == 0
    assert free_internal_coordinates(make_supercell(bulk("Si"), np.diag([2, 2, 2]))) == 0
    assert free_internal_coordinates(bulk("Mg")) == 0
    wurtzite = bulk("ZnO", "wurtzite", a=3.25, c=5.2, u=0.38)
    assert free_internal_coordinates(wurtzite) == 1
    pyrite_like = bulk("Cu", cubic=True)
    pyrite_like.rattle(0.1, seed=3)
    assert free_internal_coordinates(pyrite_like) == 9
    assert free_internal_coordinates(fcc111("Cu", (1, 1, 5), vacuum=5.0, periodic=True)) == 2


def skewed() -> Atoms:
    """L1_0 CuAu doubled, with one atom off its place: ions and shape both have something to relax."""
    atoms = Atoms("Cu2Au2", cell=[3.9, 3.9, 3.7], pbc=True)
    atoms.set_scaled_positions([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.52], [0, 0.5, 0.5]])
    return atoms


def test_ions_and_shape_relax_at_each_volume_on_request() -> None:
    curves = {}
    for name, options in (
        ("none", {"relax_ions": False}),
        ("ions", {}),
        ("shape", {"relax_shape": True, "stress_tolerance_gpa": 0.01}),
    ):
        result = eos(skewed(), EMT(), points=5, strain=0.04, symprec=1e-3, **options)
        assert result.converged
        curves[name] = result
    assert curves["ions"].settings["relax_ions"] is True
    assert (curves["ions"].energy_ev_per_atom < curves["none"].energy_ev_per_atom - 1e-4).all()
    assert (curves["shape"].energy_ev_per_atom < curves["ions"].energy_ev_per_atom - 1e-4).all()
    np.testing.assert_allclose(curves["shape"].volume_ang3_per_atom, curves["none"].volume_ang3_per_atom, rtol=1e-3)
    full = relax(skewed(), EMT(), cell="full", fmax=1e-4, stress_tolerance_gpa=1e-3)
    assert curves["shape"].fit.energy_ev_per_atom == pytest.approx(full.energy_ev / 4, abs=2e-4)
    assert curves["shape"].fit.volume_ang3_per_atom == pytest.approx(full.atoms.get_volume() / 4, rel=2e-3)


class Ragged(EMT):
    """EMT with 5 meV that come and go with the volume."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results["energy"] += 0.005 * np.sign(np.sin(1e4 * atoms.get_volume()))


def test_an_extrapolated_minimum_and_a_ragged_curve_are_loud() -> None:
    with pytest.warns(WorkflowWarning, match="OUTSIDE the volumes sampled"):
        result = eos(bulk("Cu", a=3.45), EMT(), strain=0.05)
    assert not result.minimum_inside
    with pytest.warns(WorkflowWarning, match="not a smooth curve"):
        eos(bulk("Cu"), Ragged())


def test_a_relaxation_that_does_not_converge_is_loud() -> None:
    with pytest.warns(ConvergenceWarning):
        result = eos(skewed(), EMT(), points=5, max_steps=1, fmax=1e-5)
    assert not result.converged


class Counting(EMT):
    calls = 0
    stop_after = 10**9

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        Counting.calls += 1
        if Counting.calls > Counting.stop_after:
            raise KeyboardInterrupt
        super().calculate(atoms, properties, system_changes)


def test_a_killed_run_goes_on_and_another_is_refused(tmp_path) -> None:
    whole = eos(bulk("Cu"), Counting())
    Counting.calls, Counting.stop_after = 0, 4
    with pytest.raises(KeyboardInterrupt):
        eos(bulk("Cu"), Counting(), out=tmp_path)
    Counting.calls, Counting.stop_after = 0, 10**9
    seen: list[tuple[int, int]] = []
    result = eos(bulk("Cu"), Counting(), out=tmp_path, progress=lambda *done: seen.append(done))
    assert Counting.calls == 11 - 4
    assert seen[0] == (5, 11)
    np.testing.assert_allclose(result.energy_ev_per_atom, whole.energy_ev_per_atom, atol=1e-11)
    with pytest.raises(WorkflowError, match=r"another run \(different: volume_scales\)"):
        eos(bulk("Cu"), Counting(), out=tmp_path, strain=0.05)
    with pytest.raises(WorkflowError, match=r"another run \(different: structure\)"):
        eos(bulk("Cu", a=3.62), Counting(), out=tmp_path)


def test_delta_and_epsilon_are_the_integrals_of_their_papers() -> None:
    a, b = EOSFit("birch_murnaghan", 11.9, -3.0, 140.0, 5.0), EOSFit("birch_murnaghan", 12.1, 5.0, 130.0, 4.6)
    low, high = 0.94 * 12.0, 1.06 * 12.0

    def mean(function) -> float:
        return quad(function, low, high, epsabs=1e-14, epsrel=1e-12)[0] / (high - low)

    def ea(v: float) -> float:
        return float(a.energy(v)) + 3.0

    def eb(v: float) -> float:
        return float(b.energy(v)) - 5.0

    square = mean(lambda v: (ea(v) - eb(v)) ** 2)
    assert delta_gauge(a, b) == pytest.approx(1000 * np.sqrt(square), rel=1e-9)
    assert delta_gauge(a, b) == delta_gauge(b, a)
    assert delta_gauge(a, a) == 0.0
    # Same shape, V0 apart by d: E_a - E_b is nearly B d (V - V0)/V0, and its mean square over ±6 % is (B d 0.06)²/3.
    near = EOSFit("birch_murnaghan", 11.9012, -3.0, 140.0, 5.0)
    assert delta_gauge(a, near) == pytest.approx(1000 * 140 * GPa * 0.0012 * 0.06 / np.sqrt(3), rel=0.02)
    ma, mb = mean(ea), mean(eb)
    spread = np.sqrt(mean(lambda v: (ea(v) - ma) ** 2) * mean(lambda v: (eb(v) - mb) ** 2))
    assert epsilon_gauge(a, b) == pytest.approx(np.sqrt(square / spread), rel=1e-9)


class NoNumber(Calculator):
    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": float("nan"), "forces": np.zeros((len(atoms), 3))}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "hooke"}, "'hooke': choose from birch_murnaghan"),
        ({"points": 4}, "at least 5 points"),
        ({"strain": 0.0}, "between 0 and 0.9"),
        ({"volume_scales": [1, 1, 1, 1, 1.1]}, "five or more different"),
        ({"relax_shape": True, "relax_ions": False}, "relax_shape relaxes the ions too"),
    ],
)
def test_bad_options_are_named_before_any_work(options: dict, message: str) -> None:
    with pytest.raises(WorkflowError, match=message):
        eos(bulk("Cu"), NoNumber(), **options)


def test_bad_structures_and_energies_are_named() -> None:
    with pytest.raises(WorkflowError, match="periodic in three directions"):
        eos(fcc111("Cu", (1, 1, 3), vacuum=5.0), EMT())
    with pytest.raises(NonFiniteError, match="energy nan"):
        eos(bulk("Cu"), NoNumber())
    with pytest.raises(WorkflowError, match="point to no minimum"):
        fit_eos([1, 2, 3, 4, 5], [5.0, 4.0, 3.0, 2.0, 1.0], "vinet")
    from ase.constraints import FixAtoms

    fixed = bulk("Cu")
    fixed.set_constraint(FixAtoms([0]))
    with pytest.warns(WorkflowWarning, match="FixAtoms left out"):
        eos(fixed, EMT(), points=5)


def test_results_become_json_and_a_picture(tmp_path) -> None:
    result = eos(bulk("Cu"), EMT(), points=5)
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert document["fit"]["form"] == "birch_murnaghan"
    assert len(document["structures"]) == 5
    assert plot_eos(result, tmp_path / "eos.png", "Cu").stat().st_size > 1000
