"""The Python route and LAMMPS give the same numbers: every shape of structure, 1 to 4 ranks, three architectures."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lammps_structures import python_route, rewrite, structures

from mlcalc.deploy import export, load_model
from mlcalc.errors import LammpsError
from mlcalc.lammps.box import make_box
from mlcalc.lammps.data import atom_types, write_data
from mlcalc.lammps.run import LammpsStatic, read_static, run_input, run_static, static_lines
from mlcalc.potentials.base import Potential, PotentialInfo
from mlcalc.potentials.per_element import PerElement
from mlcalc.potentials.registry import build

STRUCTURES = structures()
CASES = [("equivariant", name) for name in STRUCTURES]
CASES += [("schnet", name) for name in ("bulk", "sliver", "half-empty", "one-atom")]
CASES += [("sevennet-0", name) for name in STRUCTURES]
# eV/atom, eV/Å, eV. Forces of SevenNet-0 reach 60 eV/Å on these structures.
ENERGY, FORCE, VIRIAL = 1e-10, 1e-10, 1e-9


def compare(found: LammpsStatic, wanted: dict[str, np.ndarray]) -> None:
    n = len(wanted["energies"])
    assert abs(found.energy - wanted["energies"].sum()) / n < ENERGY
    assert np.abs(found.energies - wanted["energies"]).max() < ENERGY
    assert np.abs(found.forces - wanted["forces"]).max() < FORCE
    assert np.abs(found.virial - wanted["virial"]).max() < VIRIAL
    assert np.abs(found.virials - wanted["virials"]).max() < VIRIAL
    assert np.abs(found.virials.sum(axis=0) - found.virial).max() < VIRIAL


@pytest.fixture(scope="module")
def python_results(models: dict[str, Potential], sevennet: Potential) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    known = {**models, "sevennet-0": sevennet}
    return {case: python_route(known[case[0]], STRUCTURES[case[1]]) for case in CASES}


@pytest.fixture(scope="module", params=[1, 2, 3, 4], ids=lambda n: f"{n}-ranks")
def lammps_results(
    request: pytest.FixtureRequest,
    model_files: dict[str, Path],
    sevennet_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[tuple[str, str], LammpsStatic]:
    """All structures in one LAMMPS process per number of ranks."""
    ranks: int = request.param
    base = tmp_path_factory.mktemp(f"ranks{ranks}")
    lines, boxes = [], {}
    files = {**model_files, "sevennet-0": sevennet_file}
    for architecture, name in CASES:
        atoms = STRUCTURES[name]
        folder = base / architecture / name
        folder.mkdir(parents=True)
        box, types = make_box(atoms), atom_types(atoms)
        write_data(atoms, folder / "structure.data", types=types, box=box)
        lines += ["clear", *static_lines(box, types, files[architecture], folder)]
        boxes[architecture, name] = (folder, box)
    run = run_input("\n".join(lines) + "\n", base, ranks, timeout_s=300)
    return {
        key: read_static(folder, STRUCTURES[key[1]], box, "metal", ranks, run.wall_time_s)
        for key, (folder, box) in boxes.items()
    }


@pytest.mark.parametrize(("architecture", "name"), CASES)
def test_same_numbers_on_any_number_of_ranks(
    architecture: str,
    name: str,
    lammps_results: dict[tuple[str, str], LammpsStatic],
    python_results: dict[tuple[str, str], dict[str, np.ndarray]],
) -> None:
    compare(lammps_results[architecture, name], python_results[architecture, name])


def test_forces_are_large_against_the_tolerances(
    python_results: dict[tuple[str, str], dict[str, np.ndarray]],
) -> None:
    for case in [
        ("equivariant", "bulk"),
        ("equivariant", "slab"),
        ("schnet", "bulk"),
        ("schnet", "half-empty"),
        ("sevennet-0", "bulk"),
    ]:
        assert np.abs(python_results[case]["forces"]).max() > 1e-2, case
        assert np.abs(python_results[case]["virial"]).max() > 1e-2, case


@pytest.mark.parametrize("name", ["bulk", "sliver", "slab", "molecule", "one-atom"])
@pytest.mark.parametrize("units", ["metal", "real"])
def test_same_numbers_inside_python(
    name: str,
    units: str,
    equivariant_file: Path,
    python_results: dict[tuple[str, str], dict[str, np.ndarray]],
) -> None:
    found = run_static(STRUCTURES[name], equivariant_file, units=units)
    compare(found, python_results["equivariant", name])
    if not STRUCTURES[name].pbc.all():
        assert found.stress is None
    else:
        stress = -python_results["equivariant", name]["virial"] / STRUCTURES[name].get_volume()
        assert np.abs(found.stress - stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]).max() < 1e-9


def test_python_is_unchanged_beside_lammps(models: dict[str, Potential], equivariant_file: Path) -> None:
    """With the plugin's kernels in this process the exchange is still the identity, derivatives included."""
    atoms = STRUCTURES["bulk"]
    before = python_route(models["equivariant"], atoms)
    run_static(atoms, equivariant_file)
    after = python_route(models["equivariant"], atoms)
    for key in before:
        assert np.array_equal(before[key], after[key])


def test_single_precision_model(models: dict[str, Potential], tmp_path: Path) -> None:
    export(models["equivariant"], tmp_path / "single.pt", dtype="float32")
    wanted = python_route(models["equivariant"], STRUCTURES["bulk"])
    for ranks in (1, 2):
        found = run_static(STRUCTURES["bulk"], tmp_path / "single.pt", ranks=ranks)
        assert np.abs(found.energies - wanted["energies"]).max() < 1e-4
        assert np.abs(found.forces - wanted["forces"]).max() < 1e-4
        assert np.abs(found.forces - wanted["forces"]).max() > 1e-12


def test_family_of_potentials_on_ranks_without_atoms(tmp_path: Path) -> None:
    """An empty rank exchanges as the member in use does, which is not the first one."""
    members = []
    for element, cutoff in (("Si", 4.5), ("Mo", 4.0)):
        torch.manual_seed(5)
        info = PotentialInfo(elements=(element,), cutoff=cutoff, layers=2)
        config = {"architecture": "equivariant", "network": {"layers": 2, "channels": 4, "l_max": 3}, "zbl": False}
        members.append(build(config, info, torch.float64).eval())
    family = PerElement(members)
    export(family, tmp_path / "family.pt")
    atoms = STRUCTURES["half-empty"].copy()
    atoms.symbols[:] = "Mo"
    found = run_static(atoms, tmp_path / "family.pt", ranks=4, processors="1 1 4")
    compare(found, python_route(family, atoms))


COMPILED = ("bulk", "sliver", "half-empty", "isolated", "one-atom", "one-atom-crystal", "slab")


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_compiled_files_give_the_same_numbers(ranks: int, compiled_pair: tuple[Path, Path], tmp_path: Path) -> None:
    """Against TorchScript in Python: two layers with an exchange, ranks without atoms, one atom, no edges."""
    lines, boxes = [], {}
    for name in COMPILED:
        atoms, folder = STRUCTURES[name], tmp_path / name
        folder.mkdir()
        box, types = make_box(atoms), atom_types(atoms)
        write_data(atoms, folder / "structure.data", types=types, box=box)
        lines += ["clear", *static_lines(box, types, compiled_pair[1], folder)]
        boxes[name] = box
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # all far from four training structures
        run = run_input("\n".join(lines) + "\n", tmp_path, ranks, timeout_s=300)
    potential = load_model(compiled_pair[0])
    for name, box in boxes.items():
        found = read_static(tmp_path / name, STRUCTURES[name], box, "metal", ranks, run.wall_time_s)
        compare(found, python_route(potential, STRUCTURES[name]))


def test_a_compiled_file_for_another_machine_is_refused_before_loading(
    compiled_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    def change(document: dict[str, Any]) -> None:
        document["instruction_set"] = {"machine": "x86_64", "march": "future", "needs": ["avx2", "avx9000"]}

    def older(document: dict[str, Any]) -> None:
        document["torch_version"] = "2.1.0"

    again = r".*mlcalc export POTENTIAL FILE.pt2 --format aotinductor --dtype float64"
    for changed, message in ((change, r"another processor \(future\): this one lacks avx9000"), (older, "torch 2.1.0")):
        rewrite(compiled_pair[1], tmp_path / "other.pt2", changed)
        with pytest.raises(LammpsError, match="compiled for .*" + message + again):
            run_static(STRUCTURES["bulk"], tmp_path / "other.pt2", in_process=False)
    rewrite(compiled_pair[1], tmp_path / "told.pt2", lambda d: (older(d), d.update(command="mlcalc export mine a.pt2")))
    with pytest.raises(LammpsError, match=r"torch 2.1.0.*: mlcalc export mine a\.pt2"):
        run_static(STRUCTURES["bulk"], tmp_path / "told.pt2", in_process=False)
    content = compiled_pair[1].read_bytes()
    (tmp_path / "half.pt2").write_bytes(content[: len(content) // 2])
    with pytest.raises(LammpsError, match=r"half\.pt2 is not a readable archive of a model"):
        run_static(STRUCTURES["bulk"], tmp_path / "half.pt2", in_process=False)
