"""A solid whose Grüneisen parameter is exact: QHA and mode Grüneisen parameters against closed formulas."""

import json

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc111
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.neighborlist import neighbor_list
from scipy.optimize import minimize_scalar

from mlcalc.errors import WorkflowError
from mlcalc.workflows import QHAResult, WorkflowWarning, gruneisen, plot_gruneisen, plot_qha, qha, relax

POWER = 12
GAMMA = (POWER + 2) / 6  # ω ∝ r^-(n + 2)/2 and V ∝ r³, for every mode alike
V0, ENERGY = 20.0, 0.5  # Å³ and eV per atom: the volume without vibrations and the repulsion there
SHELLS = 12 + 6 * 2 ** (-POWER / 2)  # two shells of fcc
SUPERCELL = {"supercell": (2, 2, 2), "min_length": 0.0}


class SoftSpheres(Calculator):
    """φ = (d/r)^12 over two shells of fcc, and −c/V per atom, which holds the crystal together without any force."""

    implemented_properties = ("energy", "forces")
    calls = 0
    stop_after = 10**9

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        SoftSpheres.calls += 1
        if SoftSpheres.calls > SoftSpheres.stop_after:
            raise KeyboardInterrupt
        volume = atoms.get_volume() / len(atoms)
        nearest = (np.sqrt(2) * volume) ** (1 / 3)
        first, vectors, r = neighbor_list("iDd", atoms, 1.55 * nearest)
        scale = 2 * ENERGY * V0**4 / SHELLS * (np.sqrt(2) ** 4)
        pair = scale / r**POWER
        forces = np.zeros((len(atoms), 3))
        np.add.at(forces, first, -POWER * (pair / r**2)[:, None] * vectors)
        self.results = {"energy": 0.5 * pair.sum() - len(atoms) * 4 * ENERGY * V0 / volume, "forces": forces}


def crystal() -> Atoms:
    return bulk("Ar", "fcc", a=(4 * V0) ** (1 / 3))


@pytest.fixture(scope="module")
def solid(tmp_path_factory: pytest.TempPathFactory) -> QHAResult:
    return qha(
        crystal(), SoftSpheres(), volume_scales=np.linspace(0.97, 1.05, 9), max_temperature_k=300, mesh=[6, 6, 6],
        out=tmp_path_factory.mktemp("qha"), **SUPERCELL,
    )  # fmt: skip


class Exact:
    """E(V) and a spectrum that scales as (V0/V)^γ: frequencies at V0 from the mesh, all else by formula."""

    def __init__(self, result: QHAResult) -> None:
        middle = int(np.argmin(np.abs(result.used_volume_ang3_per_atom - V0)))
        grid = result.phonons[middle].phonopy.mesh
        frequency, weight = np.array(grid.frequencies), np.repeat(np.array(grid.weights)[:, None], 3, axis=1)
        keep = frequency > 1e-3
        volume = result.used_volume_ang3_per_atom[middle]
        self.quantum = frequency[keep] * 1e12 * units._hplanck / units._e * (volume / V0) ** GAMMA
        self.weight = weight[keep] / weight[:, 0].sum()

    @staticmethod
    def energy(v: float) -> float:
        return ENERGY * ((V0 / v) ** 4 - 4 * V0 / v)

    def free(self, v: float, t: float) -> float:
        e = self.quantum * (V0 / v) ** GAMMA
        thermal = units.kB * t * np.log(-np.expm1(-e / (units.kB * t))) if t > 0 else 0.0
        return self.energy(v) + float(self.weight @ (0.5 * e + thermal))

    def volume(self, t: float) -> float:
        return float(minimize_scalar(lambda v: self.free(v, t), bounds=(18, 23), method="bounded",
                                     options={"xatol": 1e-10}).x)  # fmt: skip

    def capacity(self, v: float, t: float) -> float:
        half = 0.5 * self.quantum * (V0 / v) ** GAMMA / (units.kB * t)
        return float(self.weight @ (half / np.sinh(half)) ** 2) * units.kB

    def modulus(self, t: float) -> float:
        v, h = self.volume(t), 0.01
        return v * (self.free(v + h, t) - 2 * self.free(v, t) + self.free(v - h, t)) / h**2


def test_the_model_is_what_it_says() -> None:
    for scale in (0.95, 1.0, 1.05):
        atoms = crystal()
        atoms.set_cell(atoms.cell.array * scale ** (1 / 3), scale_atoms=True)
        atoms.calc = SoftSpheres()
        assert atoms.get_potential_energy() == pytest.approx(Exact.energy(V0 * scale), rel=1e-10)
    shaken = crystal().repeat(2)
    shaken.rattle(0.05, seed=1)
    shaken.calc = SoftSpheres()
    numeric = []
    for axis in range(3):
        energies = []
        for step in (1e-4, -1e-4):
            moved = shaken.copy()
            moved.positions[3, axis] += step
            moved.calc = SoftSpheres()
            energies.append(moved.get_potential_energy())
        numeric.append((energies[1] - energies[0]) / 2e-4)
    np.testing.assert_allclose(shaken.get_forces()[3], numeric, atol=1e-6)


def test_a_mesh_given_as_a_length_is_the_same_at_all_volumes() -> None:
    meshes = {}
    for length in (20.0, 21.0, 22.0):
        result = qha(crystal(), SoftSpheres(), points=5, strain=0.09, mesh=length, max_temperature_k=20, **SUPERCELL)
        meshes[length] = {tuple(item.phonopy.mesh.mesh_numbers) for item in result.phonons}
    assert all(len(found) == 1 for found in meshes.values()), meshes


@pytest.mark.parametrize("step", [0.01, 0.002])
def test_every_mode_of_an_inverse_power_solid_has_the_same_exact_parameter(step: float) -> None:
    result = gruneisen(crystal(), SoftSpheres(), volume_step=step, mesh=(6, 6, 6), displacement=0.002, **SUPERCELL)
    # ω² ∝ V^-2γ, with the central difference that the step makes of it.
    expected = ((1 - step) ** (-2 * GAMMA) - (1 + step) ** (-2 * GAMMA)) / (4 * step)
    assert expected == pytest.approx(GAMMA, abs=5 * GAMMA**3 * step**2)
    counted = np.isfinite(result.gruneisen)
    assert (~counted).sum() == 3  # acoustic modes at Γ
    np.testing.assert_allclose(result.gruneisen[counted], expected, rtol=1e-3)
    assert result.mean == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(result.thermodynamic, expected, rtol=1e-4)
    assert result.dynamically_stable
    assert result.converged
    modulus = (20 - 8) * ENERGY / V0  # V E'' of ENERGY·((V0/V)^4 − 4 V0/V)
    assert result.bulk_modulus_gpa * units.GPa == pytest.approx(modulus, rel=2e-3)
    np.testing.assert_allclose(  # phonopy's own sum
        result.heat_capacity_v_ev_per_k_per_atom, result.phonons[1].thermal.heat_capacity_ev_per_k[1:], rtol=2e-5
    )
    np.testing.assert_allclose(
        result.thermal_expansion_per_k,
        expected * result.heat_capacity_v_ev_per_k_per_atom / (V0 * result.bulk_modulus_gpa * units.GPa),
        rtol=1e-3,
    )


def test_volume_gibbs_energy_and_bulk_modulus_are_the_exact_ones(solid: QHAResult) -> None:
    exact = Exact(solid)
    assert solid.temperature_k[0] == 0
    assert solid.temperature_k[-1] == 300
    assert solid.trusted_below_k == 300
    for index in (0, 5, 10, 20, 30):
        t = solid.temperature_k[index]
        volume = exact.volume(t)
        assert solid.volume_ang3_per_atom[index] == pytest.approx(volume, rel=2e-4)
        assert solid.gibbs_ev_per_atom[index] == pytest.approx(exact.free(volume, t), abs=2e-5)
        assert solid.bulk_modulus_gpa[index] * units.GPa == pytest.approx(exact.modulus(t), rel=0.01)
    assert solid.volume_ang3_per_atom[0] > V0 * 1.0005  # zero-point motion
    assert solid.static.fit.volume_ang3_per_atom == pytest.approx(V0, rel=1e-4)


def test_expansion_obeys_the_thermodynamic_identity(solid: QHAResult) -> None:
    exact = Exact(solid)
    for index in (5, 10, 20, 30):
        t = solid.temperature_k[index]
        volume = exact.volume(t)
        capacity = exact.capacity(volume, t)
        alpha = GAMMA * capacity / (volume * exact.modulus(t))
        assert solid.thermal_expansion_per_k[index] == pytest.approx(alpha, rel=0.01)
        assert solid.gruneisen[index] == pytest.approx(GAMMA, rel=0.02)
        expected = capacity + alpha**2 * exact.modulus(t) * volume * t
        assert solid.heat_capacity_p_ev_per_k_per_atom[index] == pytest.approx(expected, rel=0.01)
    assert solid.thermal_expansion_per_k[0] == 0


def test_pressure_moves_the_minimum_of_the_gibbs_energy(solid: QHAResult) -> None:
    exact, pressure = Exact(solid), 1.5
    squeezed = qha(
        crystal(), SoftSpheres(), volume_scales=np.linspace(0.93, 1.05, 9), max_temperature_k=100, mesh=[6, 6, 6],
        pressure_gpa=pressure, **SUPERCELL,
    )  # fmt: skip

    def gibbs(v: float) -> float:
        return exact.free(v, 100.0) + pressure * units.GPa * v

    volume = minimize_scalar(gibbs, bounds=(18, 21), method="bounded", options={"xatol": 1e-9}).x
    assert squeezed.volume_ang3_per_atom[-1] == pytest.approx(volume, rel=3e-4)
    assert squeezed.gibbs_ev_per_atom[-1] == pytest.approx(gibbs(volume), abs=3e-5)
    assert volume < exact.volume(100.0) - 0.1


def test_copper_expands_as_its_mode_parameters_say() -> None:
    atoms = relax(bulk("Cu"), EMT(), cell="isotropic", fmax=1e-6, stress_tolerance_gpa=1e-4).atoms
    options = {"supercell": (3, 3, 3)}
    curve = qha(
        atoms, EMT(), strain=0.04, points=7, max_temperature_k=60, temperature_step_k=5, mesh=[8, 8, 8], **options
    )
    at = int(np.flatnonzero(curve.temperature_k == 50)[0])
    # γ C_V/(V B) at the volume of that temperature.
    scale = curve.volume_ang3_per_atom[at] / atoms.get_volume()
    atoms.set_cell(atoms.cell.array * scale ** (1 / 3), scale_atoms=True)
    modes = gruneisen(atoms, EMT(), mesh=(8, 8, 8), temperatures=(50.0, 50.0, 10.0), **options)
    assert curve.thermal_expansion_per_k[at] == pytest.approx(modes.thermal_expansion_per_k[0], rel=0.03)


def test_a_minimum_outside_is_loud() -> None:
    with pytest.warns(WorkflowWarning, match=r"leaves those sampled.*above \d+ K"):
        result = qha(crystal(), SoftSpheres(), strain=0.015, points=5, max_temperature_k=300, mesh=[4, 4, 4],
                     **SUPERCELL)  # fmt: skip
    assert result.trusted_below_k is not None
    assert 0 < result.trusted_below_k < 300


@pytest.mark.filterwarnings("ignore::mlcalc.workflows.WorkflowWarning")
def test_imaginary_modes_stop_or_exclude() -> None:
    bcc = bulk("Cu", "bcc", a=2.87)
    with pytest.raises(WorkflowError, match="only 0 of 5 volumes are without imaginary modes"):
        qha(bcc, EMT(), strain=0.02, points=5, supercell=(3, 3, 3), mesh=[4, 4, 4])
    with pytest.warns(WorkflowWarning, match="LEFT OUT of all means"):
        result = gruneisen(bcc, EMT(), supercell=(3, 3, 3), mesh=(4, 4, 4))
    assert not result.dynamically_stable
    assert np.isnan(result.gruneisen[result.frequency_thz < 0]).all()


class SoftensWhenStretched(SoftSpheres):
    """Pushes atoms off their places beyond 1.05 times the volume."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        if atoms.get_volume() / len(atoms) > 1.05 * V0:
            self.results["forces"] = -self.results["forces"]


def test_a_volume_with_imaginary_modes_is_left_out_loudly() -> None:
    with pytest.warns(WorkflowWarning) as caught:
        result = qha(
            crystal(), SoftensWhenStretched(), volume_scales=[0.97, 0.99, 1.0, 1.01, 1.03, 1.04, 1.06, 1.08],
            max_temperature_k=100, mesh=[4, 4, 4], **SUPERCELL,
        )  # fmt: skip
    text = "\n".join(str(item.message) for item in caught)
    assert "at 1.0600 times the volume" in text
    assert "2 of 8 volumes have imaginary modes and are LEFT OUT: 21.200, 21.600" in text
    np.testing.assert_allclose(result.excluded_volume_ang3_per_atom, [21.2, 21.6])
    assert len(result.used_volume_ang3_per_atom) == len(result.phonons) == 6
    assert result.volume_ang3_per_atom[-1] == pytest.approx(Exact(result).volume(100.0), rel=5e-4)


def test_a_killed_run_goes_on_volume_by_volume(tmp_path) -> None:
    options = {"strain": 0.03, "points": 5, "max_temperature_k": 100, "mesh": [4, 4, 4], **SUPERCELL}
    SoftSpheres.calls = 0
    whole = qha(crystal(), SoftSpheres(), **options)
    total, SoftSpheres.calls = SoftSpheres.calls, 0
    SoftSpheres.stop_after = total - 3
    with pytest.raises(KeyboardInterrupt):
        qha(crystal(), SoftSpheres(), out=tmp_path, **options)
    SoftSpheres.calls, SoftSpheres.stop_after = 0, 10**9
    result = qha(crystal(), SoftSpheres(), out=tmp_path, **options)
    assert SoftSpheres.calls < total - 5
    np.testing.assert_allclose(result.volume_ang3_per_atom, whole.volume_ang3_per_atom, rtol=1e-9)
    assert len(list(tmp_path.glob("volume-*/phonopy_params.yaml"))) == 5
    with pytest.raises(WorkflowError, match="another"):
        qha(crystal(), SoftSpheres(), out=tmp_path, **{**options, "displacement": 0.02})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "hooke"}, "choose from vinet"),
        ({"form": "poirier_tarantola"}, "choose from vinet"),
        ({"points": 4}, "at least 5 points"),
        ({"max_temperature_k": 0.0}, "must be positive"),
        ({"supercell": (0, 1, 1)}, "three positive integers"),
    ],
)
def test_bad_options_are_named(options: dict, message: str) -> None:
    with pytest.raises(WorkflowError, match=message):
        qha(bulk("Cu"), EMT(), **options)


def test_bad_options_of_gruneisen_are_named() -> None:
    for options, message in (
        ({"volume_step": 0.0}, "between 0 and"),
        ({"temperatures": (0.0, 10.0, 1.0)}, "above 0 K"),
        ({"mesh": (0, 1, 1)}, "three positive integers"),
    ):
        with pytest.raises(WorkflowError, match=message):
            gruneisen(bulk("Cu"), EMT(), **options)
    with pytest.raises(WorkflowError, match="periodic in three directions"):
        gruneisen(fcc111("Cu", (1, 1, 3), vacuum=5.0), EMT())


def test_results_become_json_and_pictures(solid: QHAResult, tmp_path) -> None:
    document = json.loads(json.dumps(solid.to_dict(), allow_nan=False))
    assert document["gruneisen"][0] is None
    assert "phonons" not in document
    assert plot_qha(solid, tmp_path / "qha.png").stat().st_size > 1000
    modes = gruneisen(crystal(), SoftSpheres(), mesh=(3, 3, 3), **SUPERCELL)
    json.dumps(modes.to_dict(), allow_nan=False)
    assert plot_gruneisen(modes, tmp_path / "g.png").stat().st_size > 1000
