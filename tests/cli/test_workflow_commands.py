"""mlcalc relax, md, phonons from the command line: files, configuration, errors."""

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.emt import EMT

from mlcalc.deploy import export
from mlcalc.potentials.base import PotentialInfo
from mlcalc.potentials.registry import build
from mlcalc.workflows import elastic, relax

EMT_OPTION = ["--calculator", "ase.calculators.emt:EMT"]


@pytest.fixture
def copper(tmp_path: Path) -> Path:
    path = tmp_path / "copper.extxyz"
    atoms = bulk("Cu", a=3.65)
    ase.io.write(path, atoms)
    return path


def test_relax_writes_what_the_function_returns(mlcalc, copper: Path, tmp_path: Path) -> None:
    second = tmp_path / "gold.cif"
    ase.io.write(second, bulk("Au", a=4.2, cubic=True))
    status, stdout, _ = mlcalc(
        "relax", copper, second, *EMT_OPTION, "--out", tmp_path / "o", "--cell", "full", "--pressure-gpa", 2
    )
    assert status == 0
    frames = ase.io.read(tmp_path / "o/relaxed.extxyz", ":")
    expected = relax(ase.io.read(copper), EMT(), cell="full", pressure_gpa=2.0)
    assert frames[0].get_potential_energy() == pytest.approx(expected.energy_ev, abs=1e-7)
    document = json.loads((tmp_path / "o/relax.json").read_text())
    assert list(document) == ["copper", "gold"]
    assert document["copper"]["converged"] is True
    assert document["copper"]["settings"]["pressure_gpa"] == 2.0
    assert (tmp_path / "o/relax.png").stat().st_size > 1000
    assert "Fm-3m (225)" in stdout.replace("\n", " ") or "Fm-3m" in stdout


def test_relax_skips_what_is_done_and_repeats_what_changed(mlcalc, copper: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    call = ["relax", copper, *EMT_OPTION, "--out", out]
    assert "done before" not in mlcalc(*call)[1]
    first = (out / "relaxed.extxyz").read_bytes()
    second = tmp_path / "silver.extxyz"
    ase.io.write(second, bulk("Ag"))
    _, stdout, _ = mlcalc(*call, second)
    assert "copper: done before" in stdout
    assert "silver: done before" not in stdout
    assert (out / "relaxed.extxyz").read_bytes().startswith(first)
    assert list(json.loads((out / "relax.json").read_text())) == ["copper", "silver"]
    assert "done before" not in mlcalc(*call, "--fmax", "0.02")[1]
    record = out / "parts" / "copper.json"
    record.write_bytes(record.read_bytes()[:200])  # damaged
    status, stdout, _ = mlcalc(*call, "--fmax", "0.02")
    assert status == 0
    assert "done before" not in stdout


def test_configuration_file_sets_options_and_the_command_line_wins(mlcalc, copper: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("calculator: ase.calculators.emt:EMT\ncell: isotropic\nmax-steps: 3\nfmax: 0.5\n")
    status, _, stderr = mlcalc("relax", copper, "--config", config, "--out", tmp_path / "o", "--max-steps", 77)
    assert status == 0, stderr
    settings = json.loads((tmp_path / "o/relax.json").read_text())["copper"]["settings"]
    assert (settings["cell"], settings["max_steps"], settings["fmax"]) == ("isotropic", 77, 0.5)
    config.write_text("fmaxx: 0.5\n")
    status, _, stderr = mlcalc("relax", copper, "--config", config)
    assert status == 1
    assert "unknown option fmaxx" in stderr
    assert "stress_tolerance_gpa" in stderr


def test_non_convergence_shows(mlcalc, copper: Path, tmp_path: Path) -> None:
    status, stdout, stderr = mlcalc(
        "relax", copper, *EMT_OPTION, "--out", tmp_path / "o", "--cell", "full", "--max-steps", 1
    )
    assert status == 0
    assert "NO" in stdout
    assert "NOT converged after 1 steps" in stderr


def test_md_writes_records_and_goes_on(mlcalc, copper: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    common = [copper, *EMT_OPTION, "--out", out, "--supercell", "2x2x2", "--ensemble", "nvt-bussi"]
    assert mlcalc("md", *common, "--steps", 20)[0] == 0
    status, stdout, _ = mlcalc("md", *common, "--steps", 40)
    assert status == 0
    assert "went on from step 20" in stdout
    document = json.loads((out / "md.json").read_text())
    assert document["steps"] == 40
    assert document["resumed_from"] == 20
    np.testing.assert_allclose(document["time_fs"], [0, 10, 20, 30, 40])
    assert len(document["msd"]["msd_ang2"]) == 5
    assert len(document["rdf"]["g"]) == 120
    assert len(ase.io.read(out / "trajectory.extxyz", ":")) == 5
    for name in ("log.png", "rdf.png", "msd.png"):
        assert (out / name).stat().st_size > 1000
    status, _, stderr = mlcalc("md", *common, "--steps", 40, "--temperature-k", 500)
    assert status == 1
    assert "temperature_k (300.0 then, 500.0 now)" in stderr


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    info = PotentialInfo(elements=("Cu",), cutoff=4.0, layers=1, name="random")
    path = tmp_path_factory.mktemp("model") / "random.pt"
    config = {"architecture": "schnet", "network": {"layers": 1, "channels": 4}, "zbl": True}
    export(build(config, info, torch.float64).eval(), path, dtype="float64")
    return path


def test_both_engines_write_the_same_from_the_same_command(mlcalc, copper: Path, model: Path, tmp_path: Path) -> None:
    common = ["md", copper, "--potential", model, "--supercell", "3", "--ensemble", "nve", "--steps", 20]
    assert mlcalc(*common, "--out", tmp_path / "ase")[0] == 0
    status, _, stderr = mlcalc(*common, "--out", tmp_path / "lammps", "--engine", "lammps", "--ranks", 2)
    assert status == 0, stderr
    ours, theirs = (json.loads((tmp_path / name / "md.json").read_text()) for name in ("lammps", "ase"))
    assert set(ours) == set(theirs)
    np.testing.assert_allclose(ours["total_ev"], theirs["total_ev"], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(ours["rdf"]["g"], theirs["rdf"]["g"], atol=1e-12)
    assert {item.name for item in (tmp_path / "ase").iterdir()} - {"checkpoint.npz"} == {
        item.name for item in (tmp_path / "lammps").iterdir()
    } - {"lammps"}


def test_phonons_writes_files_and_pictures(mlcalc, copper: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    config = tmp_path / "c.yaml"
    config.write_text("relax: true\nsupercell: [3, 3, 3]\nmesh: 8 8 8\n")
    status, stdout, stderr = mlcalc("phonons", copper, *EMT_OPTION, "--out", out, "--config", config)
    assert status == 0, stderr
    assert "yes" in stdout
    document = json.loads((out / "phonons.json").read_text())
    assert document["dynamically_stable"] is True
    assert document["settings"]["mesh"] == [8, 8, 8]
    for name in ("bands.png", "thermal.png", "phonopy_params.yaml", "FORCE_SETS", "phonopy_disp.yaml"):
        assert (out / name).stat().st_size > 0


class Trembling(EMT):
    """EMT whose last digits are others each time, as sums in several threads may be."""

    generator = np.random.default_rng(1)

    def calculate(self, atoms=None, properties=("energy",), system_changes=()) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results["forces"] = self.results["forces"] + 1e-9 * self.generator.standard_normal((len(atoms), 3))
        self.results["stress"] = self.results["stress"] + 1e-9 * self.generator.standard_normal(6)


@pytest.mark.parametrize("command", ["phonons", "heat"])
def test_relax_is_done_once_so_that_kept_forces_fit(mlcalc, tmp_path: Path, command: str) -> None:
    aluminium = tmp_path / "aluminium.extxyz"
    ase.io.write(aluminium, bulk("Al", a=4.05))
    call = [command, aluminium, "--calculator", f"{__name__}:Trembling", "--relax", "--supercell", 3, "--mesh", "3 3 3"]
    forces = []
    for _ in range(2):
        status, _, stderr = mlcalc(*call, "--out", tmp_path / "o")
        assert status == 0, stderr
        with np.load(tmp_path / "o" / "displacement_forces.npz") as archive:
            forces.append(archive["forces"])
    np.testing.assert_array_equal(*forces)
    kept = tmp_path / "o" / "relaxed.json"
    kept.write_text(kept.read_text().replace('"converged": true', '"converged": false'))
    assert "did NOT converge" in mlcalc(*call, "--out", tmp_path / "o")[2]


def test_eos_writes_what_the_function_returns(mlcalc, copper: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    config = tmp_path / "c.yaml"
    config.write_text("points: 7\nform: vinet\nrelax: true\n")
    status, stdout, stderr = mlcalc("eos", copper, *EMT_OPTION, "--out", out, "--config", config)
    assert status == 0, stderr
    assert "vinet" in stdout
    document = json.loads((out / "eos.json").read_text())
    assert document["fit"]["form"] == "vinet"
    assert len(document["volume_ang3_per_atom"]) == 7
    expected = relax(ase.io.read(copper), EMT(), cell="full", symmetry=True).atoms.get_volume()
    assert document["fit"]["volume_ang3_per_atom"] == pytest.approx(expected, rel=1e-3)
    assert (out / "eos.png").stat().st_size > 1000


def test_elastic_writes_what_the_function_returns(mlcalc, copper: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    config = tmp_path / "c.yaml"
    config.write_text("amplitudes: [0.003, 0.006]\npressure-gpa: 2\n")
    status, stdout, stderr = mlcalc("elastic", copper, *EMT_OPTION, "--out", out, "--config", config)
    assert status == 0, stderr
    document = json.loads((out / "elastic.json").read_text())
    expected = elastic(ase.io.read(copper), EMT(), amplitudes=(0.003, 0.006), pressure_gpa=2.0)
    np.testing.assert_allclose(document["stiffness_gpa"], expected.stiffness_gpa, atol=1e-6)
    assert f"{expected.stiffness_gpa[0, 0]:.2f}" in stdout
    assert f"{expected.moduli.shear_hill_gpa:.2f}" in stdout
    assert (out / "elastic.png").stat().st_size > 1000
    np.testing.assert_allclose(ase.io.read(out / "reference.extxyz").cell.array, expected.atoms.cell.array, atol=1e-6)


def test_qha_and_gruneisen_write_files_and_go_on(mlcalc, copper: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("relax: true\nsupercell: [2, 2, 2]\nmesh: 6 6 6\nmax-temperature-k: 300\n")
    second = tmp_path / "silver.extxyz"
    ase.io.write(second, bulk("Ag", a=4.07))
    call = ["qha", copper, second, *EMT_OPTION, "--config", config, "--points", 5, "--out", tmp_path / "q"]
    for _ in range(2):  # the second time, all is done
        status, stdout, stderr = mlcalc(*call)
        assert status == 0, stderr
    for name in ("copper", "silver"):
        document = json.loads((tmp_path / "q" / name / "qha.json").read_text())
        assert document["temperature_k"][-1] == 300
        assert f"{document['volume_ang3_per_atom'][-1]:.4f}" in stdout
        assert 2e-5 < document["thermal_expansion_per_k"][-1] < 1e-4
        assert (tmp_path / "q" / name / "qha.png").stat().st_size > 1000
        assert len(list((tmp_path / "q" / name).glob("volume-*/FORCE_SETS"))) == 5
    status, stdout, stderr = mlcalc("gruneisen", copper, *EMT_OPTION, "--config", config, "--out", tmp_path / "g")
    assert status == 0, stderr
    document = json.loads((tmp_path / "g/gruneisen.json").read_text())
    assert f"{document['mean']:.3f}" in stdout
    assert 1.5 < document["mean"] < 3.0
    assert (tmp_path / "g/gruneisen.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["relax", "nowhere.cif", *EMT_OPTION], "nowhere.cif: no such file"),
        (["relax", "{copper}"], "--potential NAME|FILE"),
        (["relax", "{copper}", *EMT_OPTION, "--potential", "x"], "not both"),
        (["relax", "{copper}", "--calculator", "EMT"], "module:Class"),
        (["relax", "{copper}", "--calculator", "ase.calculators.emt:ETM"], "ETM"),
        (["relax", "{copper}", "--calculator", "pathlib:Path"], "not an ASE calculator"),
        (["relax", "{copper}", "--potential", "no_such_potential"], "no_such_potential"),
        (["relax", "{copper}", "--config", "absent.yaml"], "absent.yaml"),
        (["relax", "{copper}", *EMT_OPTION, "--cell", "odd"], "'odd'"),
        (["relax", "{bad}", *EMT_OPTION], "cannot be read as a structure"),
        (["md", "{copper}", *EMT_OPTION, "--engine", "lammps"], "give --potential"),
        (["md", "{copper}", *EMT_OPTION, "--ensemble", "npt"], "choose from nve"),
        (["md", "{copper}", *EMT_OPTION, "--dtype", "float32"], "--dtype float32 is for --potential"),
        (["md", "{copper}", *EMT_OPTION, "--device", "cpu"], "--device cpu is for --potential"),
        (["relax", "{copper}", *EMT_OPTION, "--dtype", "float32"], "--dtype float32 is for --potential"),
        (["phonons", "{copper}", *EMT_OPTION, "--device", "cuda"], "--device cuda is for --potential"),
        (["md", "{copper}", "-p", "x.pt", "--engine", "lammps", "--device", "cpu"], "--device cpu is for --engine ase"),
        (["md", "{copper}", "-p", "x.pt", "--engine", "lammps", "--dtype", "float64"], "x.pt runs in the dtype"),
        (["phonons", "{copper}", *EMT_OPTION, "--supercell", "2 2"], "one or three integers"),
        (["phonons", "{copper}", *EMT_OPTION, "--supercell", "2 0 2", "--relax"], "integers above 0"),
        (["phonons", "{copper}", *EMT_OPTION, "--mesh", "-3"], "must be positive"),
        (["gruneisen", "{copper}", *EMT_OPTION, "--mesh", "-3"], "integers above 0"),
        (["eos", "{uranium}", *EMT_OPTION], "No EMT-potential for U"),
        (["elastic", "{uranium}", *EMT_OPTION], "No EMT-potential for U"),
        (["eos", "{copper}", *EMT_OPTION, "--form", "hooke"], "choose from birch_murnaghan"),
        (["elastic", "{copper}", *EMT_OPTION, "--amplitudes", "small"], "give numbers"),
        (["elastic", "{copper}", *EMT_OPTION, "--amplitudes", "0.3"], "strains between 0 and 0.1"),
        (["qha", "{copper}", *EMT_OPTION, "--form", "hooke"], "choose from vinet"),
        (["gruneisen", "{copper}", *EMT_OPTION, "--volume-step", "0"], "between 0 and 0.2"),
    ],
)
def test_mistakes_are_one_clear_line(
    mlcalc, copper: Path, tmp_path: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bad = tmp_path / "bad.cif"
    bad.write_text("this is no structure\n")
    uranium = tmp_path / "uranium.extxyz"
    ase.io.write(uranium, bulk("U", "bcc", a=3.5))
    status, _, stderr = mlcalc(*[item.format(copper=copper, bad=bad, uranium=uranium) for item in arguments])
    assert status == 1
    assert message in stderr
    assert stderr.startswith("error: ")
    assert "Traceback" not in stderr


def test_debug_prints_the_traceback_wherever_it_stands(mlcalc) -> None:
    for arguments in (["--debug", "relax", "nowhere.cif"], ["relax", "nowhere.cif", "--debug"]):
        status, _, stderr = mlcalc(*arguments, *EMT_OPTION)
        assert status == 1
        assert "Traceback" in stderr


def test_version_and_help(mlcalc) -> None:
    assert mlcalc("--version")[1].startswith("mlcalc ")
    for command in ("relax", "md", "phonons", "eos", "elastic", "qha", "gruneisen"):
        status, stdout, _ = mlcalc(command, "--help")
        assert status == 0
        assert "--calculator" in stdout
