"""AOTInductor files: the same numbers as TorchScript, and refused where they cannot run."""

import copy
import json
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from typer.testing import CliRunner

from mlcalc import MLCalculator
from mlcalc.cli import app
from mlcalc.deploy import CompiledPotential, _instruction_set, export, load_model, read_document
from mlcalc.errors import ModelFileError, SettingsError
from mlcalc.graphs import build_graph
from mlcalc.potentials import ZBL, PerElement, PotentialInfo, build
from mlcalc.potentials.base import Potential

pytestmark = pytest.mark.xdist_group("mpi")


def rattled() -> Atoms:
    atoms = bulk("Si", cubic=True) * (2, 1, 1)
    atoms.rattle(0.1, seed=1)
    atoms.symbols[::3] = "Mo"
    return atoms


STRUCTURES = {
    "bulk": rattled(),
    "no-atoms": Atoms(),
    "one-atom": Atoms("Mo"),
    "one-atom-crystal": Atoms("Si", cell=[2.6, 2.7, 2.9], pbc=True),
    "dimer": Atoms("SiMo", positions=[[0, 0, 0], [0, 0, 2.2]]),
    "no-edges": Atoms("SiMoSi", positions=[[0, 0, 0], [0, 0, 22], [0, 22, 0]]),
    "one-pair-of-three": Atoms("SiMoSi", positions=[[0, 0, 0], [0, 0, 2.2], [0, 22, 0]]),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_same_as_torchscript_for_any_number_of_atoms_and_edges(name: str, compiled_pair: tuple[Path, Path]) -> None:
    atoms = STRUCTURES[name]
    script, compiled = (MLCalculator(file, grade_warn=None) for file in compiled_pair)
    wanted = ["energy", "energies", "forces", "extrapolation_grades"] + (
        ["stress", "stresses"] if atoms.pbc.all() else []
    )
    for key in wanted:
        one, two = (np.asarray(c.get_property(key, atoms)) for c in (script, compiled))
        assert one.shape == two.shape
        assert np.abs(one - two).max(initial=0.0) < 1e-11, key
    if name == "bulk":
        assert np.abs(script.get_forces(atoms)).max() > 0.1


def test_forces_are_minus_the_slope_of_the_energy(compiled_pair: tuple[Path, Path]) -> None:
    atoms, step = rattled(), 1e-4
    calculator = MLCalculator(compiled_pair[1])
    forces = calculator.get_forces(atoms)
    for atom, axis in ((0, 0), (5, 2)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * step
            energies.append(calculator.get_potential_energy(moved))
        assert forces[atom, axis] == pytest.approx(-(energies[0] - energies[1]) / (2 * step), abs=1e-6)


def test_copies_and_pickles_work(compiled_pair: tuple[Path, Path]) -> None:
    calculator = MLCalculator(compiled_pair[1])
    wanted = calculator.get_forces(rattled())
    for other in (copy.deepcopy(calculator), pickle.loads(pickle.dumps(calculator))):
        assert np.array_equal(other.get_forces(rattled()), wanted)


def test_only_the_total_energy_has_a_derivative(compiled_pair: tuple[Path, Path]) -> None:
    potential = load_model(compiled_pair[1])
    graph = build_graph(rattled(), potential.info.elements, potential.info.cutoff)
    vectors = graph.edge_vectors.requires_grad_(True)
    energies = potential(graph.species, graph.edge_index, vectors)
    with pytest.raises(RuntimeError, match="total energy only"):
        energies[0].backward()
    (gradient,) = torch.autograd.grad(potential(graph.species, graph.edge_index, vectors).sum() * 2.0, vectors)
    (half,) = torch.autograd.grad(potential(graph.species, graph.edge_index, vectors).sum(), vectors)
    torch.testing.assert_close(gradient, 2.0 * half)


def test_the_file_says_what_it_was_compiled_for(compiled_pair: tuple[Path, Path]) -> None:
    document = read_document(compiled_pair[1])
    assert document["program"] == "aotinductor"
    assert document["dtype"] == "float64"
    assert document["torch_version"] == torch.__version__.split("+")[0]
    assert document["instruction_set"]["march"] == _instruction_set.portable() != "native"
    assert isinstance(load_model(compiled_pair[1]), CompiledPotential)


def rewrite(source: Path, target: Path, **changes: object) -> None:
    """Change the document, and break the program, so that loading it before looking cannot go unnoticed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for item in old.infolist():
            content = old.read(item)
            if item.filename.endswith("mlcalc.json"):
                content = json.dumps({**json.loads(content), **changes}).encode()
            elif item.filename.endswith(".so"):
                content = b"no library"
            new.writestr(item.filename, content)


MISMATCHES = {
    "torch": ({"torch_version": "2.1.0"}, r"compiled for torch 2\.1\.0, this is torch 2\."),
    "processor": (
        {"instruction_set": {"machine": "x86_64", "march": "future", "needs": ["avx2", "avx9000"]}},
        r"another processor \(future\): this processor lacks avx9000",
    ),
    "machine": (
        {"instruction_set": {"machine": "riscv64", "march": "rv64gc", "needs": []}},
        "it is for riscv64 processors",
    ),
}


@pytest.mark.parametrize("kind", MISMATCHES)
def test_a_mismatch_is_refused_before_loading(kind: str, compiled_pair: tuple[Path, Path], tmp_path: Path) -> None:
    changes, message = MISMATCHES[kind]
    rewrite(compiled_pair[1], tmp_path / "other.pt2", **changes)
    with pytest.raises(
        ModelFileError, match=message + ".*mlcalc export POTENTIAL FILE.pt2 --format aotinductor --dtype float64"
    ):
        load_model(tmp_path / "other.pt2")


def test_another_dtype_is_refused_before_loading(compiled_pair: tuple[Path, Path], tmp_path: Path) -> None:
    rewrite(compiled_pair[1], tmp_path / "other.pt2")
    with pytest.raises(ModelFileError, match=r"compiled for float64, not float32.*--dtype float32"):
        load_model(tmp_path / "other.pt2", dtype="float32")
    with pytest.raises(ModelFileError, match="cannot be loaded"):
        load_model(tmp_path / "other.pt2")
    with pytest.raises(SettingsError, match=r"cannot change.*--format aotinductor"):
        load_model(compiled_pair[1]).to(torch.float32)


def test_truncated_files_are_named(compiled_pair: tuple[Path, Path], tmp_path: Path) -> None:
    content = compiled_pair[1].read_bytes()
    (tmp_path / "half.pt2").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelFileError, match=r"half\.pt2: truncated"):
        load_model(tmp_path / "half.pt2")


class Tables(Potential):
    def __init__(self) -> None:
        super().__init__()
        self.config = {}
        self.info = PotentialInfo(elements=("Si",), cutoff=3.0, layers=1, name="tables", needs=("triplets",))
        self.register_buffer("one", torch.ones(1))


def test_what_cannot_be_compiled_says_so_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"export one set of elements alone, --elements one of: Si \| Mo"):
        export(PerElement([ZBL(("Si",)), ZBL(("Mo",))]), tmp_path / "m.pt2")
    with pytest.raises(SettingsError, match=r"needs index tables \(triplets\).*--format torchscript"):
        export(Tables(), tmp_path / "m.pt2")
    with pytest.raises(SettingsError, match=r"end in \.pt2 for format aotinductor"):
        export(ZBL(("Si",)), tmp_path / "m.pt", format="aotinductor")
    with pytest.raises(SettingsError, match="march native is for compiled files"):
        export(ZBL(("Si",)), tmp_path / "m.pt", march="native")
    with pytest.raises(SettingsError, match="unknown format 'onnx'"):
        export(ZBL(("Si",)), tmp_path / "m.pt", format="onnx")
    assert not list(tmp_path.iterdir())


def test_command_compiles_for_this_processor(tmp_path: Path) -> None:
    info = PotentialInfo(elements=("Si",), cutoff=4.0, layers=2, name="quick")
    from mlcalc.deploy import save_weights

    potential = build({"architecture": "schnet", "network": {"channels": 4, "layers": 2}}, info)
    save_weights(potential, tmp_path / "quick.safetensors")
    arguments = ["export", str(tmp_path / "quick.safetensors"), str(tmp_path / "quick.pt2"), "--dtype", "float32"]
    result = CliRunner().invoke(app, [*arguments, "--format", "aotinductor", "--march", "native"])
    assert result.exit_code == 0, result.output
    document = read_document(tmp_path / "quick.pt2")
    assert document["instruction_set"]["march"] == "native"
    assert set(document["instruction_set"]["needs"]) <= _instruction_set.features()
    # Where it does not fit, the command is the one typed here.
    rewrite(tmp_path / "quick.pt2", tmp_path / "old.pt2", torch_version="2.1.0")
    assert document["command"] == " ".join(["mlcalc", *arguments, "--format", "aotinductor", "--march", "native"])
    with pytest.raises(ModelFileError, match=re.escape("Export it anew here: " + document["command"])):
        load_model(tmp_path / "old.pt2")
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=2)
    difference = MLCalculator(tmp_path / "quick.pt2").get_forces(atoms) - MLCalculator(potential).get_forces(atoms)
    assert np.abs(difference).max() < 1e-4
