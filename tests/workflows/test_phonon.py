"""Phonons against a full Hessian, textbook limits, published data and phonopy's own commands."""

import json
import subprocess
import sys
import sysconfig
import warnings
from pathlib import Path

import numpy as np
import phonopy
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from mlcalc import MLCalculator
from mlcalc.errors import WorkflowError
from mlcalc.workflows import PhononResult, WorkflowWarning, analyse_phonons, phonons, relax
from mlcalc.workflows._phonon_plots import plot_bands, plot_thermal


def fcc_copper() -> Atoms:
    return relax(bulk("Cu"), EMT(), cell="isotropic", fmax=1e-6, stress_tolerance_gpa=1e-5).atoms


@pytest.fixture(scope="module")
def copper(tmp_path_factory: pytest.TempPathFactory) -> PhononResult:
    return phonons(fcc_copper(), EMT(), supercell=(4, 4, 4), mesh=[12, 12, 12], out=tmp_path_factory.mktemp("copper"))


def hessian_frequencies(supercell: Atoms, calculator: object, step: float) -> np.ndarray:
    """All 3N frequencies (THz, imaginary negative) of a periodic box from central differences of forces."""
    n = len(supercell)
    hessian = np.zeros((3 * n, 3 * n))
    for index in range(3 * n):
        forces = []
        for sign in (1, -1):
            moved = supercell.copy()
            moved.positions[index // 3, index % 3] += sign * step
            moved.calc = calculator
            forces.append(moved.get_forces().ravel())
        hessian[index] = (forces[1] - forces[0]) / (2 * step)
    hessian = 0.5 * (hessian + hessian.T)
    masses = np.repeat(supercell.get_masses(), 3)
    values = np.linalg.eigvalsh(hessian / np.sqrt(np.outer(masses, masses)))
    # Angular frequency in ASE units, 1/(Å √(amu/eV)), to THz.
    return np.sort(np.sign(values) * np.sqrt(np.abs(values)) / (2 * np.pi) * units.second * 1e-12)


@pytest.mark.filterwarnings("ignore::mlcalc.workflows.WorkflowWarning")
@pytest.mark.parametrize("crystal", ["fcc Cu", "B2 CuAu"])
def test_all_commensurate_frequencies_equal_those_of_the_full_hessian(crystal: str) -> None:
    atoms = fcc_copper() if crystal == "fcc Cu" else bulk("CuAu", "cesiumchloride", a=3.05)
    repeats = 3 if crystal == "fcc Cu" else 2
    result = phonons(atoms, EMT(), supercell=(repeats,) * 3, displacement=1e-3, mesh=[4, 4, 4])
    grid = np.array(list(np.ndindex(repeats, repeats, repeats))) / repeats
    by_phonopy = np.sort(np.array(result.phonopy.run_qpoints(grid).frequencies).ravel())
    direct = hessian_frequencies(atoms.repeat(repeats), EMT(), 1e-3)
    # Squares, because the three zero modes turn a force error e into a frequency of sqrt(e).
    np.testing.assert_allclose(by_phonopy * np.abs(by_phonopy), direct * np.abs(direct), atol=2e-3)


def test_a_stable_crystal_obeys_the_textbook_limits(copper: PhononResult) -> None:
    assert copper.dynamically_stable
    assert copper.converged
    assert copper.gamma_acoustic_thz < 1e-3
    assert copper.min_frequency_thz > -1e-3
    assert copper.spacegroup == "Fm-3m (225)"
    assert copper.displacements == 1
    modes = np.trapezoid(copper.dos.states_per_thz, copper.dos.frequency_thz)
    assert modes == pytest.approx(3.0, rel=0.01)
    # Dulong and Petit: Cv -> 3 k_B per atom, less the modes left out.
    expected = 3 * units.kB * (1 - copper.thermal.modes_left_out)
    assert copper.thermal.heat_capacity_ev_per_k[-1] == pytest.approx(expected, rel=0.01)
    assert copper.thermal.entropy_ev_per_k[0] == pytest.approx(0.0, abs=1e-12)


def test_thermal_properties_are_sums_over_harmonic_oscillators(copper: PhononResult) -> None:
    mesh = copper.phonopy.mesh
    energy = np.array(mesh.frequencies) * 1e12 * units._hplanck / units._e
    weights = np.repeat(np.array(mesh.weights)[:, None], 3, axis=1) / np.sum(mesh.weights)
    keep = np.array(mesh.frequencies) > 1e-2
    energy, weights = energy[keep], weights[keep]
    at = 30
    kt = units.kB * copper.thermal.temperature_k[at]
    x = energy / kt
    free = (weights * (energy / 2 + kt * np.log(-np.expm1(-x)))).sum()
    heat = (weights * units.kB * x**2 * np.exp(x) / np.expm1(x) ** 2).sum()
    entropy = (weights * units.kB * (x / np.expm1(x) - np.log(-np.expm1(-x)))).sum()
    assert copper.thermal.temperature_k[at] == 300.0
    assert copper.thermal.free_energy_ev[at] == pytest.approx(free, abs=1e-6)
    assert copper.thermal.heat_capacity_ev_per_k[at] == pytest.approx(heat, rel=1e-4)
    assert copper.thermal.entropy_ev_per_k[at] == pytest.approx(entropy, rel=1e-4)


def special_points(result: PhononResult) -> dict[str, np.ndarray]:
    points: dict[str, np.ndarray] = {}
    for (start, stop), values in zip(result.bands.labels, result.bands.frequencies_thz, strict=True):
        points[start], points[stop] = values[0], values[-1]
    return points


def test_path_labels_stay_right_for_any_choice_of_primitive_vectors(copper: PhononResult) -> None:
    other = fcc_copper()
    other.set_cell(np.array([[1, 0, 0], [1, 1, 0], [2, -1, 1]]) @ other.cell.array)
    skewed = phonons(other, EMT(), supercell=(4, 4, 4), primitive_matrix="P", mesh=[4, 4, 4])
    expected, found = special_points(copper), special_points(skewed)
    assert {"Γ", "X", "L", "W", "K"} <= set(expected) == set(found)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=2e-2, err_msg=name)
    assert copper.bands.distances_inv_ang[0][0] == 0.0


def test_an_unstable_crystal_is_flagged_with_its_modes() -> None:
    bcc = relax(bulk("Cu", "bcc", a=2.87), EMT(), cell="isotropic", fmax=1e-6, stress_tolerance_gpa=1e-4).atoms
    with pytest.warns(WorkflowWarning, match="imaginary modes"):
        result = phonons(bcc, EMT(), supercell=(4, 4, 4), mesh=[8, 8, 8])
    assert not result.dynamically_stable
    worst = result.imaginary[0]
    assert worst.frequency_thz == result.min_frequency_thz < -0.5
    again = np.array(result.phonopy.run_qpoints([worst.qpoint]).frequencies)[0]
    assert again[worst.band] == pytest.approx(worst.frequency_thz, abs=1e-6)
    assert all(mode.frequency_thz < -0.1 for mode in result.imaginary)


def test_an_unrelaxed_structure_is_loud() -> None:
    atoms = fcc_copper().repeat((2, 1, 1))
    atoms.positions[1] += [0.1, 0.05, 0.0]
    with pytest.warns(WorkflowWarning, match="NOT relaxed"):
        result = phonons(atoms, EMT(), supercell=(1, 2, 2), mesh=[2, 2, 2], path_points=5)
    assert not result.converged


def test_supercell_follows_the_heights_of_a_skewed_cell() -> None:
    argon = bulk("Ar", a=5.26)
    result = phonons(argon, LennardJones(sigma=3.4, epsilon=0.0104, rc=6.0), min_length=7.0, mesh=[4, 4, 4])
    # Height of the primitive fcc cell: a/√3 = 3.04 Å.
    np.testing.assert_array_equal(result.supercell_matrix, 3 * np.eye(3))


def test_phonopy_goes_on_from_the_files(copper: PhononResult) -> None:
    folder = copper.files["phonopy_params.yaml"].parent
    again = phonopy.load(copper.files["phonopy_params.yaml"], primitive_matrix="auto")
    q = [[0.5, 0.5, 0.0], [0.1, 0.2, 0.3]]
    np.testing.assert_allclose(again.run_qpoints(q).frequencies, copper.phonopy.run_qpoints(q).frequencies, atol=1e-4)
    command = Path(sysconfig.get_path("scripts")) / "phonopy"
    subprocess.run(
        [sys.executable, command, "phonopy_params.yaml", "--mp", "4", "4", "4", "-t"],
        cwd=folder, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    assert (folder / "thermal_properties.yaml").exists()


def test_a_killed_calculation_goes_on_and_foreign_forces_are_refused(tmp_path: Path) -> None:
    atoms = relax(bulk("CuAu", "cesiumchloride", a=3.05), EMT(), cell="isotropic", fmax=1e-6).atoms
    options = {"supercell": (2, 2, 2), "mesh": [2, 2, 2], "path_points": 5, "imaginary_tolerance_thz": 99.0}

    class Killed(Exception):
        pass

    def kill(done: int, total: int) -> None:
        if done == 1:
            raise Killed

    with pytest.raises(Killed):
        phonons(atoms, EMT(), out=tmp_path, progress=kill, **options)
    with np.load(tmp_path / "displacement_forces.npz") as archive:
        kept = archive["forces"]
    assert len(kept) == 1
    seen: list[int] = []
    result = phonons(atoms, EMT(), out=tmp_path, progress=lambda done, total: seen.append(done), **options)
    assert seen == [2]
    whole = phonons(atoms, EMT(), **options)
    # What was kept is used to the last bit; sums in another call may be rounded differently.
    np.testing.assert_array_equal(result.phonopy.forces[0], kept[0] - kept[0].mean(axis=0))
    np.testing.assert_allclose(result.phonopy.forces, whole.phonopy.forces, rtol=0, atol=1e-12)
    with pytest.raises(WorkflowError, match=r"displacement_forces.npz belongs to another run \(different: structure"):
        phonons(fcc_copper(), EMT(), out=tmp_path, **options)


def test_results_survive_json_and_are_drawn(copper: PhononResult, tmp_path: Path) -> None:
    import matplotlib

    backend = matplotlib.rcParams["backend"]
    document = json.loads(json.dumps(copper.to_dict(), allow_nan=False))
    assert document["dynamically_stable"] is True
    assert document["bands"]["labels"][0] == ["Γ", "X"]
    assert plot_bands(copper, tmp_path / "bands.png").stat().st_size > 10_000
    assert plot_thermal(copper, tmp_path / "thermal.png").stat().st_size > 10_000
    assert matplotlib.rcParams["backend"] == backend


@pytest.mark.parametrize(("name", "highest"), [("NaCl", 7.375), ("MgO", 19.948)])
def test_published_force_sets_give_the_published_highest_frequency(
    name: str, highest: float, tmp_path: Path, data_folder: Path
) -> None:
    folder = data_folder / "phonons" / name
    loaded = phonopy.load(
        folder / "phonopy_disp.yaml",
        force_sets_filename=folder / "FORCE_SETS",
        born_filename=folder / "BORN",
        primitive_matrix="auto",
    )
    analysis = analyse_phonons(loaded, mesh=[10, 10, 10], gamma_centered=False)
    assert analysis.max_frequency_thz == pytest.approx(highest, abs=6e-4)
    assert not analysis.imaginary
    assert plot_bands(analysis, tmp_path / "bands.png", name).exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"supercell": (2, 2)}, "three positive integers"), ({"displacement": 0.0}, "displacement must be positive")],
)
def test_bad_options_are_named(options: dict, message: str) -> None:
    with pytest.raises(WorkflowError, match=message):
        phonons(bulk("Cu"), EMT(), **options)


def test_molecules_are_refused() -> None:
    with pytest.raises(WorkflowError, match="periodic in three directions"):
        phonons(Atoms("Cu"), EMT())


def test_single_precision_is_loud() -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for dtype in ("float32", "float64"):
            phonons(bulk("Si", a=5.469), MLCalculator("mlearn", dtype=dtype), supercell=(1, 1, 1))
    assert sum("need a float64 calculator: this one is float32" in str(one.message) for one in said) == 1
