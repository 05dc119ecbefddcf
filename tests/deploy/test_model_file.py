import copy
import json
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Dict, Optional

import pytest
import torch
from ase.build import bulk

from mlcalc.deploy import ScriptedPotential, export, load_model, read_document
from mlcalc.errors import ModelFileError, SettingsError
from mlcalc.graphs import build_graph
from mlcalc.potentials import ZBL, NeuralPotential, PerElement, Potential, PotentialInfo, build
from mlcalc.potentials.derivatives import energies_and_gradients, forces
from mlcalc.potentials.precision import in_dtype

F64 = torch.float64


def make(
    architecture: str = "schnet", elements: tuple[str, ...] = ("Si", "C"), channels: int = 8, scale: float = 20.0
) -> NeuralPotential:
    torch.manual_seed(0)
    info = PotentialInfo(elements=elements, cutoff=4.0, layers=2, name="small", min_distance=1.5)
    config = {"architecture": architecture, "network": {"channels": channels, "layers": 2}, "zbl": True}
    potential = build(config, info, F64)
    potential.set_energies([-5.4, -9.1][: len(elements)], scale if architecture == "schnet" else scale / 50)
    return potential


def rewrite(path: Path, change: object) -> None:
    """Save the program again, after ``change(module, document)``."""
    extra = {"mlcalc.json": ""}
    module = torch.jit.load(str(path), _extra_files=extra)
    document = json.loads(extra["mlcalc.json"])
    with torch.no_grad():
        change(module, document)  # type: ignore[operator]
    torch.jit.save(module, str(path), _extra_files={"mlcalc.json": json.dumps(document)})


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "small.pt"
    export(make(), path)
    return path


@pytest.fixture
def own(file: Path, tmp_path: Path) -> Path:
    path = tmp_path / "own.pt"
    path.write_bytes(file.read_bytes())
    return path


@pytest.mark.parametrize("architecture", ["schnet", "equivariant"])
def test_exported_equals_eager(tmp_path: Path, architecture: str) -> None:
    potential = make(architecture)
    export(potential, tmp_path / "m.pt")
    model = load_model(tmp_path / "m.pt")
    atoms = bulk("SiC", "zincblende", a=4.3) * (2, 2, 2)
    atoms.rattle(0.1, seed=1)
    graph = build_graph(atoms, potential.info.elements, 4.0)
    for _ in range(3):
        energies, gradients = energies_and_gradients(model, graph)
        expected, expected_gradients = energies_and_gradients(potential, graph)
        torch.testing.assert_close(energies, expected, rtol=0, atol=1e-11)
        found, wanted = (forces(g, graph.edge_index, graph.n_atoms) for g in (gradients, expected_gradients))
        assert wanted.abs().max() > 0.01
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12 * max(1.0, float(wanted.abs().max())))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_document(tmp_path: Path, dtype: str) -> None:
    potential = make()
    model = export(potential, tmp_path / "m.pt", dtype)
    document = read_document(tmp_path / "m.pt")
    assert document == model.document
    assert document["format"] == 1
    assert document["kind"] == "mlcalc-potential"
    assert document["units"] == {"energy": "eV", "length": "angstrom"}
    assert document["dtype"] == dtype
    assert document["torch_version"] == torch.__version__.split("+")[0]
    assert document["exchange_width"] == 8
    assert document["architecture"] == "schnet"
    assert model.info == potential.info
    assert model.dtype == getattr(torch, dtype)
    reference = document["reference"]
    n, e = len(reference["species"]), len(reference["edge_vectors"])
    assert set(reference["species"]) == {0, 1}
    assert len(reference["edge_index"][0]) == len(reference["edge_index"][1]) == e > n
    assert n - 1 not in reference["edge_index"][0]  # the lone atom
    assert len(reference["forces"]) == n
    assert len(reference["virial"]) == 9
    assert min(sum(x * x for x in v) ** 0.5 for v in reference["edge_vectors"]) > potential.info.min_distance
    assert max(abs(x) for f in reference["forces"] for x in f) > 1e-3
    assert reference["tolerance"]["energy"] < (1e-3 if dtype == "float32" else 1e-6)


def test_reference_values_are_those_of_the_potential(tmp_path: Path) -> None:
    """Forces by finite differences along the reference's edges, so that a wrong sign cannot agree with itself."""
    potential = make()
    reference = export(potential, tmp_path / "m.pt").document["reference"]
    species = torch.tensor(reference["species"])
    index = torch.tensor(reference["edge_index"])
    vectors = torch.tensor(reference["edge_vectors"], dtype=F64)
    with torch.no_grad():
        torch.testing.assert_close(potential(species, index, vectors), torch.tensor(reference["energies"], dtype=F64))
        h = 1e-4
        for atom, axis in ((0, 0), (3, 2)):
            step = torch.zeros_like(vectors)
            step[index[1] == atom, axis] += h
            step[index[0] == atom, axis] -= h
            slope = (potential(species, index, vectors + step) - potential(species, index, vectors - step)).sum()
            assert reference["forces"][atom][axis] == pytest.approx(-float(slope) / (2 * h), abs=1e-5)
        for i, j in ((0, 0), (0, 1), (2, 2)):
            step = torch.zeros_like(vectors)
            step[:, j] = h * vectors[:, i]
            slope = (potential(species, index, vectors + step) - potential(species, index, vectors - step)).sum()
            assert reference["virial"][3 * i + j] == pytest.approx(-float(slope) / (2 * h), abs=1e-5)


def test_export_leaves_the_potential_alone(tmp_path: Path) -> None:
    potential = make().train()
    before = copy.deepcopy(potential.state_dict())
    export(potential, tmp_path / "m.pt", "float32")
    assert potential.training
    assert all(p.requires_grad for p in potential.parameters())
    assert all(torch.equal(before[k], v) and before[k].dtype == v.dtype for k, v in potential.state_dict().items())
    assert [f.name for f in tmp_path.iterdir()] == ["m.pt"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_reference_check_catches_a_changed_weight(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "m.pt"
    export(make(), path, dtype)
    original = path.read_bytes()
    names = ["scale", "reference_energies", "network.embedding", "network.readout.2.weight", "network.readout.0.weight"]
    if dtype == "float64":
        names += [name for name, _ in make().named_parameters()]
    for name in names:
        path.write_bytes(original)

        def change(module: torch.jit.ScriptModule, document: dict, name: str = name) -> None:
            weight = dict(module.state_dict())[name].view(-1)
            weight[5 * len(weight) // 9] += 1e-3  # not the first: no pair is near the Gaussian at r = 0

        rewrite(path, change)
        with pytest.raises(ModelFileError, match=r"does not reproduce its own reference: .* off by"):
            load_model(path)
        load_model(path, check=False)


def test_reference_check_catches_nan(own: Path) -> None:
    rewrite(own, lambda module, document: module.scale.fill_(float("nan")))
    with pytest.raises(ModelFileError, match="off by inf"):
        load_model(own)


def test_truncated_and_empty_files(own: Path) -> None:
    whole = own.read_bytes()
    for length in (0, 3, 1000, len(whole) // 2, len(whole) - 10):
        own.write_bytes(whole[:length])
        for reader in (load_model, read_document):
            with pytest.raises(ModelFileError, match="mlcalc export"):
                reader(own)


def test_flipped_byte_of_a_weight(own: Path) -> None:
    whole = bytearray(own.read_bytes())
    weight = make().state_dict()["network.readout.0.weight"].numpy().tobytes()
    place = bytes(whole).find(weight)
    assert place > 0
    whole[place + 6] ^= 8
    own.write_bytes(whole)
    with pytest.raises(ModelFileError, match=r"own\.pt"):
        load_model(own)


def test_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with pytest.raises(ModelFileError, match="no such file"):
        load_model(path)
    torch.save({"weights": torch.zeros(3)}, path)
    with pytest.raises(ModelFileError, match="not a model file of mlcalc"):
        load_model(path)
    torch.jit.save(torch.jit.script(ZBL(("Si",))), str(path))
    with pytest.raises(ModelFileError, match="not a model file of mlcalc"):
        load_model(path)
    path.write_text("pair_style mlcalc")
    with pytest.raises(ModelFileError, match="no archive at all"):
        load_model(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(ModelFileError, match="not a model file of mlcalc"):
        load_model(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "upgrade mlcalc"),
        ({"kind": "other"}, "holds 'other'"),
        ({"units": {"energy": "Ha", "length": "bohr"}}, "units"),
        ({"dtype": "float32"}, "says float32 but holds torch.float64"),
        ({"dtype": "bfloat16"}, "unknown dtype"),
        ({"reference": {"species": [0]}}, "reference cannot be evaluated"),
        ({"info": {}}, "cannot read what it declares"),
    ],
)
def test_wrong_documents(own: Path, change: dict, message: str) -> None:
    rewrite(own, lambda module, document: document.update(change))
    with pytest.raises(ModelFileError, match=message):
        load_model(own)


def test_another_torch_is_named_when_the_check_fails(own: Path) -> None:
    def change(module: torch.jit.ScriptModule, document: dict) -> None:
        document["torch_version"] = "1.99.0"
        module.reference_energies += 1e-3

    rewrite(own, change)
    with pytest.raises(ModelFileError, match=r"torch 1\.99\.0, which exported it"):
        load_model(own)


def test_loaded_model_pickles_copies_and_changes_dtype(file: Path) -> None:
    model = load_model(file)
    graph = build_graph(bulk("Si"), model.info.elements, 4.0)
    expected, _ = energies_and_gradients(model, graph)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert isinstance(other, ScriptedPotential)
        assert other.info == model.info
        torch.testing.assert_close(energies_and_gradients(other, graph)[0], expected, rtol=0, atol=0)
        other.to(torch.float32)
        assert other.dtype == torch.float32
        narrow, _ = energies_and_gradients(other, graph.to(dtype=torch.float32))
        assert narrow.dtype == torch.float32
        torch.testing.assert_close(narrow.double(), expected, rtol=1e-5, atol=1e-5)
        assert pickle.loads(pickle.dumps(other)).dtype == torch.float32
    assert model.dtype == F64
    assert load_model(file, "float32").dtype == torch.float32


@pytest.mark.parametrize("n", [0, 1])
def test_no_atoms_one_atom_no_edges(file: Path, n: int) -> None:
    args = (torch.zeros(n, dtype=torch.int64), torch.zeros((2, 0), dtype=torch.int64), torch.zeros((0, 3), dtype=F64))
    energies = load_model(file)(*args)
    torch.testing.assert_close(energies, make()(*args), rtol=0, atol=1e-12)


def test_a_model_file_exports_again(file: Path, tmp_path: Path) -> None:
    narrow = export(load_model(file), tmp_path / "m32.pt", "float32")
    assert narrow.document["config"] == read_document(file)["config"]
    assert narrow.document["exchange_width"] == 8


class Needy(Potential):
    """A potential that needs every table, and an input, in its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.3, dtype=F64))
        self.info = PotentialInfo(("Si",), 4.0, 1, needs=("reverse_edge", "triplets"), inputs=("total_charge",))
        self.config = {}

    def forward(
        self,
        species: torch.Tensor,
        edge_index: torch.Tensor,
        edge_vectors: torch.Tensor,
        extra: Optional[Dict[str, torch.Tensor]] = None,
    ) -> torch.Tensor:
        assert extra is not None
        pairs = extra["triplets"]
        cosine = (edge_vectors[pairs[:, 0]] * edge_vectors[pairs[:, 1]]).sum(1)
        back = (edge_vectors * edge_vectors[extra["reverse_edge"]]).sum(1)
        out = edge_vectors.new_zeros(species.shape[0]).index_add(0, edge_index[0][pairs[:, 0]], cosine * self.weight)
        return out.index_add(0, edge_index[0], back) + extra["total_charge"]


class Cancelling(Potential):
    """Σ r² plus a million minus a million per edge: float32 keeps three digits of it, float64 twelve."""

    def __init__(self) -> None:
        super().__init__()
        self.million = torch.nn.Parameter(torch.tensor(1e6, dtype=F64))
        self.info = PotentialInfo(("Si",), 4.0, 1)
        self.config = {}

    def forward(
        self,
        species: torch.Tensor,
        edge_index: torch.Tensor,
        edge_vectors: torch.Tensor,
        extra: Optional[Dict[str, torch.Tensor]] = None,
    ) -> torch.Tensor:
        squares = (edge_vectors**2).sum(1) + self.million - self.million
        return edge_vectors.new_zeros(species.shape[0]).index_add(0, edge_index[0], squares)


def test_no_tolerance_for_more_than_rounding(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"differs from the potential: energy by .*rounding.*export it in float64"):
        export(Cancelling(), tmp_path / "m.pt", "float32")
    reference = export(Cancelling(), tmp_path / "m.pt", "float64").document["reference"]
    assert 0 < reference["tolerance"]["energy"] <= 1e-7 * max(map(abs, reference["energies"]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tables_and_inputs_travel_with_the_reference(tmp_path: Path, dtype: str) -> None:
    model = export(Needy(), tmp_path / "m.pt", dtype)
    tables = model.document["reference"]["tables"]
    assert set(tables) == {"reverse_edge", "triplets", "total_charge"}
    vectors = torch.tensor(model.document["reference"]["edge_vectors"])
    torch.testing.assert_close(vectors[tables["reverse_edge"]], -vectors)
    assert model.document["reference"]["tolerance"]["forces"] < 0.1


def test_model_files_join_into_a_family(tmp_path: Path) -> None:
    members = list(family(8, 8))
    loaded = []
    for n, member in enumerate(members):
        export(member, tmp_path / f"{n}.pt")
        loaded.append(load_model(tmp_path / f"{n}.pt"))
    model = export(PerElement(loaded), tmp_path / "all.pt")
    graph = build_graph(bulk("Si"), model.info.elements, 4.0)
    expected, _ = energies_and_gradients(PerElement(members), graph)
    torch.testing.assert_close(energies_and_gradients(model, graph)[0], expected, rtol=0, atol=1e-12)


def family(*channels: int) -> Iterator[Potential]:
    for symbol, c in zip(("Si", "C"), channels, strict=True):
        yield make(elements=(symbol,), channels=c)


def test_reference_of_a_family_visits_every_member(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    model = export(PerElement(list(family(8, 8)), "family"), path)
    assert model.info.element_sets == (("Si",), ("C",))
    assert set(model.document["reference"]["species"]) == {0, 1}
    original = path.read_bytes()
    for member in (0, 1):
        path.write_bytes(original)

        def change(module: torch.jit.ScriptModule, document: dict, member: int = member) -> None:
            dict(module.state_dict())[f"members.{member}.scale"] += 1e-3

        rewrite(path, change)
        with pytest.raises(ModelFileError, match="does not reproduce"):
            load_model(path)


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"export one set alone: Si \| C"):
        export(PerElement(list(family(8, 4))), tmp_path / "m.pt")
    with pytest.raises(SettingsError, match="float32 or float64"):
        export(make(), tmp_path / "m.pt", "float16")
    broken = make()
    broken.scale.fill_(float("nan"))
    with pytest.raises(SettingsError, match="NaN"):
        export(broken, tmp_path / "m.pt")
    with pytest.raises(FileNotFoundError, match="make it first"):
        export(make(), tmp_path / "nowhere" / "m.pt")
    assert list(tmp_path.iterdir()) == []


def test_tables_are_exact_after_a_change_of_dtype() -> None:
    """Coupling coefficients rounded to float32 would break rotational symmetry in float64."""
    narrow = in_dtype(make("equivariant"), torch.float32)
    wide = in_dtype(narrow, F64)
    atoms = bulk("SiC", "zincblende", a=4.3) * (2, 1, 1)
    atoms.rattle(0.2, seed=1)
    energies = []
    for angle in (0, 37):
        atoms.rotate(angle, (1, 2, 3), rotate_cell=True)
        graph = build_graph(atoms, wide.info.elements, 4.0)
        energies.append(wide(graph.species, graph.edge_index, graph.edge_vectors))
    torch.testing.assert_close(energies[0], energies[1], rtol=0, atol=1e-11)
