"""A model of one layer takes atoms a block at a time: the same numbers for any block, and memory that does not grow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk
from lammps_structures import ELEMENTS, python_route, rewrite, structures
from pair_potential import Angles, LennardJones
from torch import Tensor

from mlcalc import MLCalculator
from mlcalc.deploy import export
from mlcalc.errors import LammpsError
from mlcalc.lammps.box import make_box
from mlcalc.lammps.data import atom_types, model_lines, setup_lines, write_data
from mlcalc.lammps.run import environment, lammps_executable, read_static, run_input, run_static, static_lines
from mlcalc.potentials.base import Potential, PotentialInfo
from mlcalc.potentials.registry import build
from mlcalc.zoo import load

ROOT = Path(__file__).parents[2]
STRUCTURES = structures()
CASES = ("bulk", "sliver", "slab", "half-empty", "one-atom", "one-atom-crystal")


def one_layer(seed: int, elements: tuple[str, ...], cutoff: float) -> Potential:
    torch.manual_seed(seed)
    info = PotentialInfo(elements=elements, cutoff=cutoff, layers=1, name=f"one-{seed}")
    network = {"layers": 1, "channels": 4, "l_max": 2}
    potential = build({"architecture": "equivariant", "network": network, "zbl": False}, info, torch.float64)
    potential.set_energies([-1.0, -2.0], 0.7)
    return potential.eval()


@pytest.fixture(scope="module")
def potentials() -> list[Potential]:
    """A committee has members that see less, or number elements otherwise."""
    return [one_layer(1, ELEMENTS, 4.0), one_layer(2, ELEMENTS[::-1], 3.6)]


@pytest.fixture(scope="module")
def files(potentials: list[Potential], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("one-layer")
    paths = [folder / f"{k}.pt" for k in range(len(potentials))]
    for potential, path in zip(potentials, paths, strict=True):
        export(potential, path, dtype="float64")
    return paths


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("block", ["no", "1", "7", "512"])
def test_same_numbers_for_any_block(
    block: str, ranks: int, files: list[Path], potentials: list[Potential], tmp_path: Path
) -> None:
    lines, boxes = [], {}
    for name in CASES:
        folder = tmp_path / name
        folder.mkdir()
        boxes[name], types = make_box(STRUCTURES[name]), atom_types(STRUCTURES[name])
        write_data(STRUCTURES[name], folder / "structure.data", types=types, box=boxes[name])
        lines += ["clear", *static_lines(boxes[name], types, files[0], folder, options=f"block {block}")]
    run_input("\n".join(lines) + "\n", tmp_path, ranks, timeout_s=300)
    for name, box in boxes.items():
        found = read_static(tmp_path / name, STRUCTURES[name], box, "metal", ranks, 0.0)
        wanted = python_route(potentials[0], STRUCTURES[name])
        assert abs(found.energy - wanted["energies"].sum()) < 1e-10 * len(STRUCTURES[name]), name
        for key in ("energies", "forces", "virials", "virial"):
            assert np.abs(getattr(found, key) - wanted[key]).max() < 1e-10, (name, key)
    assert np.abs(wanted["virial"]).max() > 1e-3


@pytest.mark.parametrize("ranks", [1, 2])
def test_committee_by_blocks(ranks: int, files: list[Path], potentials: list[Potential], tmp_path: Path) -> None:
    """Deviations of forces are of all edges of an atom, whichever blocks they are in."""
    atoms = STRUCTURES["bulk"]
    box, types = make_box(atoms), atom_types(atoms)
    write_data(atoms, tmp_path / "structure.data", types=types, box=box)
    lines = static_lines(box, types, files, tmp_path, options="block 5")
    at = lines.index("run 0 post no")
    lines[at:at] = [
        "fix deviation all pair 1 mlcalc force_deviation 1",
        "compute trust all pair mlcalc",
        "thermo_style custom step pe c_pressure[*] c_trust[*]",
        f'dump deviation all custom 1 "{tmp_path}/deviation.dump" id f_deviation',
        "dump_modify deviation sort id format float %.17g",
    ]
    lines.append(f'print "$(c_trust[5]:%.17g)" file "{tmp_path}/energy" screen no')
    run_input("\n".join(lines) + "\n", tmp_path, ranks)
    found = read_static(tmp_path, atoms, box, "metal", ranks, 0.0)
    calculator = MLCalculator(potentials)
    assert np.abs(found.forces - calculator.get_property("forces", atoms)).max() < 1e-10
    assert np.abs(found.energies - calculator.get_property("energies", atoms)).max() < 1e-10
    deviation = calculator.get_property("force_deviation", atoms)
    assert deviation.min() > 1e-3
    assert np.abs(np.loadtxt(tmp_path / "deviation.dump", skiprows=9)[:, 1] - deviation).max() < 1e-10
    assert float((tmp_path / "energy").read_text()) == pytest.approx(calculator.get_property("energy_std", atoms))


def test_models_of_several_layers_are_not_taken_apart(equivariant_file: Path, models: dict[str, Potential]) -> None:
    wanted = python_route(models["equivariant"], STRUCTURES["bulk"])
    for ranks in (1, 2):
        found = run_static(STRUCTURES["bulk"], equivariant_file, ranks=ranks, options="block 5")
        assert np.abs(found.forces - wanted["forces"]).max() < 1e-10


def graded(folder: Path, options: str, ranks: int) -> tuple[np.ndarray, float]:
    """Grades of mlearn in silicon, by atom and the largest; forces."""
    atoms = bulk("Si", cubic=True).repeat((2, 2, 1))
    atoms.rattle(0.1, seed=3)
    folder.mkdir()
    if not (folder.parent / "si.pt").exists():
        export(load("mlearn", elements=["Si"]), folder.parent / "si.pt", dtype="float64")
    box, types = make_box(atoms), atom_types(atoms)
    write_data(atoms, folder / "structure.data", types=types, box=box)
    lines = [
        *setup_lines(box, folder / "structure.data"),
        *model_lines(folder.parent / "si.pt", types, options),
        "fix grades all pair 1 mlcalc grade 1",
        "compute trust all pair mlcalc",
        "thermo_style custom step pe c_trust[1]",
        f'dump grades all custom 1 "{folder}/grades.dump" id f_grades fx fy fz',
        "dump_modify grades sort id format float %.17g",
        "run 0 post no",
        f'print "$(c_trust[1]:%.17g)" file "{folder}/largest" screen no',
    ]
    run_input("\n".join(lines) + "\n", folder, ranks)
    return np.loadtxt(folder / "grades.dump", skiprows=9)[:, 1:], float((folder / "largest").read_text())


@pytest.mark.filterwarnings("ignore:.*extrapolat")
def test_grades_by_blocks(tmp_path: Path) -> None:
    wanted, largest = graded(tmp_path / "whole", "block no", 1)
    assert largest == wanted[:, 0].max() > 0.1
    for ranks in (1, 2):
        table, most = graded(tmp_path / f"blocks-{ranks}", "block 3", ranks)
        assert np.abs(table - wanted).max() < 1e-10
        assert most == pytest.approx(largest, abs=1e-10)


def test_index_tables_of_a_block(tmp_path: Path) -> None:
    export(Angles(cutoff=3.5), tmp_path / "angles.pt")
    atoms = bulk("Si", cubic=True).repeat((2, 1, 1))
    atoms.rattle(0.1, seed=4)
    found, wanted = (
        run_static(atoms, tmp_path / "angles.pt", options=f"input strength 80 block {block}") for block in ("3", "no")
    )
    assert np.abs(found.forces - wanted.forces).max() < 1e-10
    assert np.abs(wanted.forces).max() > 1e-2


class OwnedLennardJones(LennardJones):
    """Energies of owned atoms alone, as compiled programs have to give."""

    def forward(
        self, species: Tensor, edge_index: Tensor, edge_vectors: Tensor, extra: dict[str, Tensor] | None = None
    ) -> Tensor:
        energies = super().forward(species, edge_index, edge_vectors, extra)
        return energies if extra is None or "owned" not in extra else energies[: extra["owned"].shape[0]]


def test_a_compiled_model_by_blocks(tmp_path: Path) -> None:
    """Its programs are made for at least two atoms and two edges; blocks of one are padded."""
    atoms = bulk("Ar", cubic=True, a=5.0).repeat((2, 1, 1))
    atoms.rattle(0.2, seed=5)
    potential = OwnedLennardJones(0.01, 3.4, 4.5)
    export(potential, tmp_path / "lj.pt2", format="aotinductor")
    wanted = python_route(potential, atoms)
    assert np.abs(wanted["forces"]).max() > 1e-3
    for ranks, block in ((1, 1), (1, 3), (2, 3)):
        found = run_static(atoms, tmp_path / "lj.pt2", ranks=ranks, options=f"block {block}")
        for key in ("energies", "forces", "virials"):
            assert np.abs(getattr(found, key) - wanted[key]).max() < 1e-12, (key, block)


def test_overlap_and_closest_pair_are_of_all_blocks(files: list[Path], tmp_path: Path) -> None:
    atoms = STRUCTURES["bulk"].copy()
    last = len(atoms) - 1
    near = atoms.copy()
    near.positions[last] = near.positions[last - 1] + [0.05, 0.0, 0.0]
    for ranks in (1, 2):
        with pytest.raises(LammpsError, match=f"atom IDs {last} and {last + 1} are on top of each other"):
            run_static(near, files[0], ranks=ranks, options="block 4", in_process=False)
    rewrite(files[0], tmp_path / "trained.pt", lambda document: document["info"].__setitem__("min_distance", 3.0))
    distances = atoms.get_all_distances(mic=True) + np.diag([9.0] * len(atoms))
    i, j = sorted(int(k) + 1 for k in np.unravel_index(np.argmin(distances), distances.shape))
    for ranks in (1, 3):
        with pytest.warns(UserWarning, match=f"atom IDs {i} and {j} are {distances.min():.4f} Angstrom apart"):
            run_static(atoms, tmp_path / "trained.pt", ranks=ranks, options="block 4", in_process=False)


def peak_mib(cells: int, block: str, folder: Path, file: Path) -> float:
    """Return the most memory that LAMMPS held in a force call on 8 × cells³ atoms."""
    atoms = bulk("Si", cubic=True).repeat(cells)
    folder.mkdir()
    box, types = make_box(atoms), atom_types(atoms)
    write_data(atoms, folder / "structure.data", types=types, box=box)
    lines = [*setup_lines(box, folder / "structure.data"), *model_lines(file, types, f"block {block}"), "run 0"]
    (folder / "in.lammps").write_text("\n".join(lines) + "\n")
    watcher = [sys.executable, str(ROOT / "benchmarks/speed/_peak_memory.py"), str(folder)]
    command = [*watcher, str(lammps_executable()), "-in", "in.lammps", "-log", "none"]
    subprocess.run(command, cwd=folder, env=environment(), capture_output=True, check=True, timeout=300)
    return int((folder / "0").read_text()) / 1024


def test_memory_is_bounded(tmp_path: Path) -> None:
    """Some 65 kB for each atom of a block, and little for others; LAMMPS takes its memory in pieces of 64 MiB."""
    export(load("mlearn", elements=["Si"]), tmp_path / "si.pt", dtype="float64")
    small, large, whole = (
        peak_mib(cells, block, tmp_path / f"{cells}-{block}", tmp_path / "si.pt")
        for cells, block in ((3, "200"), (12, "200"), (12, "no"))
    )
    assert large - small < 100.0
    assert whole - large > 300.0


def test_a_wrong_block_is_named(files: list[Path]) -> None:
    for wrong in ("0", "-3"):
        with pytest.raises(LammpsError, match="block must be a positive number of atoms or 'no'"):
            run_static(STRUCTURES["bulk"], files[0], options=f"block {wrong}")
