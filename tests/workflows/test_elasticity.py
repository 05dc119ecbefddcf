"""Elastic constants against lattice sums, published values, derivatives of the energy, and rotations."""

import json

import numpy as np
import pytest
import spglib
from ase import Atoms
from ase.build import bulk, fcc111
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.units import GPa
from matscipy.calculators.manybody import Manybody
from matscipy.calculators.manybody.explicit_forms.stillinger_weber import (
    Stillinger_Weber_PRB_31_5262_Si,
    StillingerWeber,
)
from scipy.spatial.transform import Rotation

from mlcalc.errors import NonFiniteError, WorkflowError
from mlcalc.workflows import (
    ConvergenceWarning,
    WorkflowWarning,
    directional_young,
    elastic,
    elastic_moduli,
    plot_elastic,
    relax,
    rotate_stiffness,
    strain_modes,
)
from mlcalc.workflows._elastic_tensors import (
    fit_stiffness,
    invariant_basis,
    needed_strains,
    rotation_matrix,
    tensor_of,
    to_mandel,
    to_voigt,
)

SIGMA, EPSILON = 3.4, 0.0104
CUTOFF = 2.91 * 1.0902 * SIGMA  # between the eighth and the ninth shell of fcc
TURN = Rotation.from_rotvec([0.4, -1.1, 0.7]).as_matrix()


def cubic(c11: float, c12: float, c44: float) -> np.ndarray:
    return np.block(
        [[np.full((3, 3), c12) + (c11 - c12) * np.eye(3), np.zeros((3, 3))], [np.zeros((3, 3)), c44 * np.eye(3)]]
    )


def silicon() -> Manybody:
    return Manybody(**StillingerWeber(Stillinger_Weber_PRB_31_5262_Si))


def lattice_sum_constants(a: float) -> tuple[float, float, float]:
    """Pressure, Σ(φ'' − φ'/r) x⁴/r² and Σ(φ'' − φ'/r) x²y²/r² over 2Ω of Lennard-Jones fcc, GPa."""
    n = np.array(list(np.ndindex(9, 9, 9))) - 4
    r = 0.5 * a * n[(n.sum(axis=1) % 2 == 0) & ((n**2).sum(axis=1) > 0) & ((n**2).sum(axis=1) < 17)]
    d = np.linalg.norm(r, axis=1)
    first = 4 * EPSILON * (-12 * SIGMA**12 / d**13 + 6 * SIGMA**6 / d**7)
    second = 4 * EPSILON * (156 * SIGMA**12 / d**14 - 42 * SIGMA**6 / d**8)
    volume = a**3 / 4
    weight = (second - first / d) / d**2 / (2 * volume) / GPa
    pressure = -(first * d).sum() / (6 * volume) / GPa
    return pressure, float(weight @ r[:, 0] ** 4), float(weight @ (r[:, 0] ** 2 * r[:, 1] ** 2))


@pytest.mark.parametrize("pressure", [0.0, 0.15])
def test_lennard_jones_fcc_is_the_lattice_sum(pressure: float) -> None:
    result = elastic(
        bulk("Ar", a=5.2), LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=CUTOFF), pressure_gpa=pressure,
        stress_tolerance_gpa=1e-6,
    )  # fmt: skip
    a = np.cbrt(4 * result.atoms.get_volume())
    p, c11, c12 = lattice_sum_constants(a)
    assert p == pytest.approx(pressure, abs=1e-5)
    # Central forces: Brugger's constants obey Cauchy; stress–strain coefficients carry the pressure.
    expected = cubic(c11 - p, c12 + p, c12 - p)
    np.testing.assert_allclose(result.stiffness_gpa, expected, atol=2e-4)
    np.testing.assert_allclose(result.clamped_stiffness_gpa, expected, atol=2e-4)
    assert result.converged
    assert result.stable
    assert result.strains == ("xx", "yz")
    assert result.independent_constants == 3
    np.testing.assert_allclose(result.compliance_per_gpa @ result.stiffness_gpa, np.eye(6), atol=1e-12)


def test_stillinger_weber_silicon_has_the_published_constants() -> None:
    # Cowley, Phys. Rev. Lett. 60, 2379 (1988): C11 151.4, C12 76.4, C44 56.4 GPa; Born's C44 by matscipy's formulas.
    result = elastic(bulk("Si"), silicon())
    np.testing.assert_allclose(result.stiffness_gpa, cubic(151.4, 76.4, 56.4), atol=0.06)
    large = result.atoms.repeat(3)
    born = silicon().get_property("born_constants", large)
    from matscipy.elasticity import full_3x3x3x3_to_Voigt_6x6

    np.testing.assert_allclose(result.clamped_stiffness_gpa, full_3x3x3x3_to_Voigt_6x6(born) / GPa, atol=0.02)
    assert result.clamped_stiffness_gpa[3, 3] > result.stiffness_gpa[3, 3] + 50


@pytest.mark.parametrize("crystal", ["diamond", "hcp"])
def test_a_turned_crystal_gives_the_turned_tensor(crystal: str) -> None:
    atoms, calculator = (bulk("Si"), silicon()) if crystal == "diamond" else (bulk("Cu", "hcp", a=2.55, c=4.16), EMT())
    straight = elastic(atoms, calculator)
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ TURN.T, scale_atoms=True)
    result = elastic(turned, calculator)
    for name in ("stiffness_gpa", "clamped_stiffness_gpa"):
        np.testing.assert_allclose(getattr(result, name), rotate_stiffness(getattr(straight, name), TURN), atol=0.02)
    assert np.abs(result.stiffness_gpa - straight.stiffness_gpa).max() > 5
    assert result.moduli.shear_hill_gpa == pytest.approx(straight.moduli.shear_hill_gpa, abs=0.01)
    if crystal == "hcp":
        c = straight.stiffness_gpa
        assert straight.independent_constants == 5
        assert c[5, 5] == pytest.approx(0.5 * (c[0, 0] - c[0, 1]))
        assert straight.clamped_stiffness_gpa[5, 5] > c[5, 5] + 1
        np.testing.assert_allclose(
            rotate_stiffness(c, Rotation.from_euler("z", 17, degrees=True).as_matrix()), c, atol=1e-9
        )


@pytest.mark.parametrize("crystal", ["hcp", "diamond turned"])
def test_few_strains_give_what_all_six_give_without_symmetry(crystal: str) -> None:
    if crystal == "hcp":
        atoms, calculator = bulk("Cu", "hcp", a=2.55, c=4.16), EMT()
    else:
        atoms, calculator = bulk("Si"), silicon()
        atoms.set_cell(atoms.cell.array @ TURN.T, scale_atoms=True)
    with_symmetry = elastic(atoms, calculator)
    without = elastic(with_symmetry.atoms, calculator, symmetry=False, relax_first=False)
    assert len(with_symmetry.strains) < 6 == len(without.strains)
    assert without.independent_constants == 21
    assert without.symmetry_residual_gpa < 0.02
    np.testing.assert_allclose(with_symmetry.stiffness_gpa, without.stiffness_gpa, atol=0.02)
    np.testing.assert_allclose(with_symmetry.clamped_stiffness_gpa, without.clamped_stiffness_gpa, atol=0.02)


def test_the_choice_of_cell_does_not_matter() -> None:
    primitive = elastic(bulk("Cu"), EMT(), amplitudes=[0.002, 0.004])
    for atoms in (bulk("Cu", cubic=True), bulk("Cu").repeat((2, 1, 1)), bulk("Cu", orthorhombic=True)):
        result = elastic(atoms, EMT(), amplitudes=[0.002, 0.004])
        expected = primitive.stiffness_gpa
        if len(atoms) == 2 and abs(atoms.cell.cellpar()[3:] - 90).max() < 1e-6:  # its x lies along [110]
            expected = rotate_stiffness(expected, Rotation.from_euler("z", 45, degrees=True).as_matrix())
        np.testing.assert_allclose(result.stiffness_gpa, expected, atol=0.01)


def alloy() -> Atoms:
    """Eight atoms on an hcp lattice, coloured so that only a mirror is left, which lies askew to the axes."""
    atoms = bulk("Cu", "hcp", a=2.75, c=4.4).repeat((2, 1, 2))
    atoms.set_chemical_symbols(["Cu", "Au", "Cu", "Au", "Pd", "Ag", "Ag", "Cu"])
    atoms.set_cell(atoms.cell.array @ TURN.T, scale_atoms=True)
    return atoms


def test_constants_of_low_symmetry_are_second_derivatives_of_the_energy() -> None:
    result = elastic(alloy(), EMT(), amplitudes=(0.002, 0.004), fmax=1e-5, stress_tolerance_gpa=1e-4)
    assert result.spacegroup == "Pm (6)"
    assert result.independent_constants == 13
    assert len(result.strains) < 6
    assert (np.abs(result.stiffness_gpa) > 0.01).all()
    atoms, h = result.atoms, 2e-3
    random = np.random.default_rng(5)
    for trial in range(3):
        direction = random.normal(size=6)
        direction /= np.linalg.norm(direction)
        for kind, tensor in (("clamped", result.clamped_stiffness_gpa), ("relaxed", result.stiffness_gpa)):
            if kind == "relaxed" and trial:
                continue
            energies = []
            for step in (-2, -1, 0, 1, 2):
                strained = atoms.copy()
                strained.set_cell(atoms.cell.array @ (np.eye(3) + step * h * tensor_of(direction)), scale_atoms=True)
                strained.calc = EMT()
                if kind == "relaxed":
                    strained = relax(strained, EMT(), fmax=1e-4).atoms
                energies.append(strained.get_potential_energy())
            curvature = np.dot([-1, 16, -30, 16, -1], energies) / (12 * h**2)
            expected = direction @ to_mandel(tensor) @ direction
            assert curvature / atoms.get_volume() / GPa == pytest.approx(expected, rel=3e-3)
    assert np.abs(result.clamped_stiffness_gpa - result.stiffness_gpa).max() > 1.0


CONSTANTS = {1: 21, 2: 21, 3: 13, 14: 13, 16: 9, 62: 9, 75: 7, 88: 7, 89: 6, 141: 6, 143: 7, 148: 7, 149: 6, 166: 6}
CONSTANTS |= {168: 5, 177: 5, 194: 5, 195: 3, 205: 3, 207: 3, 227: 3}


@pytest.mark.parametrize("number", CONSTANTS)
def test_each_crystal_class_has_its_number_of_constants_and_enough_strains(number: int) -> None:
    # Nye, Physical Properties of Crystals (1957), table 9.
    hall = next(h for h in range(1, 531) if spglib.get_spacegroup_type(h).number == number)
    hexagonal = 143 <= number < 195
    columns = np.array([[1, -0.5, 0], [0, np.sqrt(0.75), 0], [0, 0, 1.6]]) if hexagonal else np.eye(3)
    found = np.unique(spglib.get_symmetry_from_database(hall)["rotations"], axis=0)
    rotations = [TURN @ columns @ w @ np.linalg.inv(columns) @ TURN.T for w in found]
    basis = invariant_basis(rotations)
    assert len(basis) == CONSTANTS[number]
    strains = needed_strains(basis)
    truth = np.einsum("k,kab->ab", np.random.default_rng(number).normal(size=len(basis)), basis)
    for rotation in rotations:
        np.testing.assert_allclose(rotate_stiffness(to_voigt(truth), rotation), to_voigt(truth), atol=1e-12)
    fitted, missed = fit_stiffness(basis, strains, truth[:, list(strains)].T)
    np.testing.assert_allclose(fitted, truth, atol=1e-11)
    assert missed < 1e-11


def test_rotation_matrices_are_orthogonal_and_multiply() -> None:
    other = Rotation.from_euler("xyz", [10, 50, -80], degrees=True).as_matrix()
    np.testing.assert_allclose(rotation_matrix(TURN) @ rotation_matrix(TURN).T, np.eye(6), atol=1e-14)
    np.testing.assert_allclose(
        rotation_matrix(TURN) @ rotation_matrix(other), rotation_matrix(TURN @ other), atol=1e-14
    )


def test_moduli_of_a_cubic_crystal_are_the_textbook_ones() -> None:
    c11, c12, c44 = 168.0, 121.0, 75.0
    tensor, turned = cubic(c11, c12, c44), rotate_stiffness(cubic(c11, c12, c44), TURN)
    bulk_modulus, voigt = (c11 + 2 * c12) / 3, (c11 - c12 + 3 * c44) / 5
    reuss = 5 * (c11 - c12) * c44 / (4 * c44 + 3 * (c11 - c12))
    for moduli in (elastic_moduli(tensor), elastic_moduli(turned)):
        assert moduli.bulk_voigt_gpa == pytest.approx(bulk_modulus)
        assert moduli.bulk_reuss_gpa == pytest.approx(bulk_modulus)
        assert moduli.shear_voigt_gpa == pytest.approx(voigt)
        assert moduli.shear_reuss_gpa == pytest.approx(reuss)
        hill = 0.5 * (voigt + reuss)
        assert moduli.young_gpa == pytest.approx(9 * bulk_modulus * hill / (3 * bulk_modulus + hill))
        assert moduli.young_gpa == pytest.approx(2 * hill * (1 + moduli.poisson))
        assert moduli.universal_anisotropy == pytest.approx(5 * voigt / reuss - 5)
    along = directional_young(turned, (TURN @ np.array([[1, 0, 0], [1, 1, 1], [1, 1, 0]]).T).T)
    e100 = (c11 - c12) * (c11 + 2 * c12) / (c11 + c12)
    e111 = 3 * c44 * (c11 + 2 * c12) / (c11 + 2 * c12 + c44)
    assert along[:2] == pytest.approx([e100, e111])
    assert 4 / along[2] == pytest.approx(1 / e100 + 3 / e111)
    values = [mode.stiffness_gpa for mode in strain_modes(turned)]
    assert values == pytest.approx(sorted([3 * bulk_modulus, *[c11 - c12] * 2, *[2 * c44] * 3]))


def test_an_unstable_crystal_names_its_mode(tmp_path) -> None:
    with pytest.warns(WorkflowWarning, match=r"elastically UNSTABLE: stiffness -\d.*(xx|yy|zz)"):
        result = elastic(bulk("Cu", "bcc", a=2.87), EMT())
    assert not result.stable
    c = result.stiffness_gpa
    assert result.modes[0].stiffness_gpa == pytest.approx(c[0, 0] - c[0, 1])
    assert result.modes[1].stiffness_gpa == pytest.approx(c[0, 0] - c[0, 1])
    assert np.trace(result.modes[0].strain) == pytest.approx(0.0, abs=1e-9)
    assert np.linalg.norm(result.modes[0].strain) == pytest.approx(1.0)
    assert "yz" not in result.modes[0].describe()
    assert plot_elastic(result, tmp_path / "unstable.png").stat().st_size > 1000


def test_stress_and_forces_left_in_the_reference_are_loud() -> None:
    with pytest.warns(WorkflowWarning, match="under a stress of up to"):
        result = elastic(bulk("Cu", a=3.55), EMT(), relax_first=False, amplitudes=[0.004])
    assert not result.converged
    compressed = bulk("Cu", a=3.55)
    compressed.calc = EMT()
    np.testing.assert_allclose(result.residual_stress_gpa, compressed.get_stress() / GPa)
    with pytest.warns(WorkflowWarning, match="NOT relaxed: forces up to"):
        elastic(alloy(), EMT(), relax_first=False, amplitudes=[0.004], stress_tolerance_gpa=100.0)


def test_relaxations_that_fail_are_loud() -> None:
    with (
        pytest.raises(WorkflowError, match="the reference does not relax: after 1 steps"),
        pytest.warns(ConvergenceWarning),
    ):
        elastic(alloy(), EMT(), max_steps=1)
    with pytest.warns(ConvergenceWarning):
        result = elastic(bulk("Si"), silicon(), amplitudes=[0.01], relax_first=False, max_steps=1,
                         stress_tolerance_gpa=1.0)  # fmt: skip
    assert not result.converged


class Asymmetric(EMT):
    """EMT with a stress that breaks the symmetry of the crystal."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results["stress"] = self.results["stress"] * np.array([1, 1.2, 1, 1, 1, 1])


def test_stresses_that_do_not_fit_the_symmetry_are_loud() -> None:
    with pytest.warns(WorkflowWarning, match="do not have the symmetry"):
        elastic(bulk("Cu", a=3.59), Asymmetric(), relax_first=False, stress_tolerance_gpa=10.0)


class Stopping(EMT):
    calls = 0
    stop_after = 10**9

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        Stopping.calls += 1
        if Stopping.calls > Stopping.stop_after:
            raise KeyboardInterrupt
        super().calculate(atoms, properties, system_changes)


def test_a_killed_run_goes_on_and_another_is_refused(tmp_path) -> None:
    whole = elastic(bulk("Cu"), Stopping())
    total, Stopping.stop_after = Stopping.calls, Stopping.calls - 6
    Stopping.calls = 0
    with pytest.raises(KeyboardInterrupt):
        elastic(bulk("Cu"), Stopping(), out=tmp_path)
    Stopping.calls, Stopping.stop_after = 0, 10**9
    seen: list[tuple[int, int]] = []
    result = elastic(bulk("Cu"), Stopping(), out=tmp_path, progress=lambda *done: seen.append(done))
    assert Stopping.calls < total / 2
    assert seen[0][0] > 1
    assert seen[-1] == (12, 12)
    np.testing.assert_allclose(result.stiffness_gpa, whole.stiffness_gpa, atol=1e-6)
    with pytest.raises(WorkflowError, match=r"another run \(different: amplitudes\)"):
        elastic(bulk("Cu"), Stopping(), out=tmp_path, amplitudes=[0.01])


class NoStress(Calculator):
    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3))}


class NaNStress(NoStress):
    implemented_properties = ("energy", "forces", "stress")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results["stress"] = np.full(6, np.nan)


def test_bad_input_is_named() -> None:
    with pytest.raises(WorkflowError, match="periodic in three directions"):
        elastic(fcc111("Cu", (1, 1, 3), vacuum=5.0), EMT())
    for amplitudes in ([], [0.0], [0.002, 0.002], [0.5]):
        with pytest.raises(WorkflowError, match="strains between 0 and"):
            elastic(bulk("Cu"), EMT(), amplitudes=amplitudes)
    with pytest.raises(WorkflowError, match="this one has none"):
        elastic(bulk("Cu"), NoStress())
    with pytest.raises(NonFiniteError, match="NaN or infinite stress for the structure as given"):
        elastic(bulk("Cu"), NaNStress())


def test_results_become_json_and_a_picture(tmp_path) -> None:
    result = elastic(bulk("Cu"), EMT(), amplitudes=[0.004])
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert document["modes"][0]["stiffness_gpa"] > 0
    assert document["moduli"]["bulk_hill_gpa"] == pytest.approx(result.moduli.bulk_hill_gpa)
    assert plot_elastic(result, tmp_path / "elastic.png", "Cu").stat().st_size > 1000
