import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mlcalc.deploy import load_weights, save_weights
from mlcalc.deploy.weights import read_weights_info
from mlcalc.errors import ModelFileError
from mlcalc.potentials import ZBL, NeuralPotential, PotentialInfo, build

ARGS = (
    torch.tensor([0, 1]),
    torch.tensor([[0, 1], [1, 0]]),
    torch.tensor([[0.7, 0.9, 1.9], [-0.7, -0.9, -1.9]], dtype=torch.float64),
)
INFO = PotentialInfo(
    elements=("Si", "C"), cutoff=4.0, layers=2, name="small", licence="MIT", provenance={"command": "test", "steps": 3}
)


def potential(dtype: torch.dtype = torch.float64, architecture: str = "schnet") -> NeuralPotential:
    torch.manual_seed(0)
    config = {"architecture": architecture, "network": {"channels": 8, "layers": 2}, "zbl": True}
    model = build(config, INFO, dtype)
    model.set_energies([-5.4, -9.1], 0.7)
    return model


@pytest.mark.parametrize("architecture", ["schnet", "equivariant"])
def test_round_trip_is_exact(tmp_path: Path, architecture: str) -> None:
    first = potential(architecture=architecture)
    save_weights(first, tmp_path / "a.safetensors")
    second = load_weights(tmp_path / "a.safetensors")
    assert second.info == first.info
    assert second.config == first.config
    assert second.dtype == torch.float64
    assert not second.training
    torch.testing.assert_close(second(*ARGS), first(*ARGS), rtol=0, atol=0)
    assert read_weights_info(tmp_path / "a.safetensors") == INFO
    assert [f.name for f in tmp_path.iterdir()] == ["a.safetensors"]


def test_dtype_of_choice(tmp_path: Path) -> None:
    save_weights(potential(torch.float32), tmp_path / "a.safetensors")
    assert load_weights(tmp_path / "a.safetensors").dtype == torch.float32
    wide = load_weights(tmp_path / "a.safetensors", "float64")
    assert all(t.dtype == torch.float64 for t in wide.state_dict().values())
    torch.testing.assert_close(wide(*ARGS), potential()(*ARGS), rtol=1e-5, atol=1e-5)


def test_damaged_foreign_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_weights(potential(), path)
    whole = path.read_bytes()
    for length in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFileError, match="not a whole safetensors file"):
            load_weights(path)
    flipped = bytearray(whole)
    flipped[-9] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(ModelFileError, match="checksum"):
        load_weights(path)
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(ModelFileError, match="without an mlcalc document"):
        load_weights(path)
    with pytest.raises(ModelFileError, match="no such file"):
        load_weights(tmp_path / "b.safetensors")


def test_documents_that_do_not_fit(tmp_path: Path) -> None:
    from safetensors import safe_open

    path = tmp_path / "a.safetensors"
    save_weights(potential(), path)
    tensors = load_file(path)
    with safe_open(path, framework="pt") as reader:
        good = json.loads(reader.metadata()["mlcalc"])

    def expect(message: str, **changes: object) -> None:
        save_file(tensors, path, metadata={"mlcalc": json.dumps({**good, **changes})})
        with pytest.raises(ModelFileError, match=message):
            load_weights(path)

    expect("upgrade mlcalc", format=99)
    expect("no format number", format=None)
    expect("unknown architecture 'new'", config={"architecture": "new"})
    expect("does not fit", config={**good["config"], "network": {"channels": 9, "layers": 2}})
    expect("cannot read what it declares", info={"elements": ["Si"]})
    save_file(tensors, path, metadata={"mlcalc": "{"})
    with pytest.raises(ModelFileError, match="damaged"):
        load_weights(path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("architecture", ["schnet", "equivariant"])
def test_changed_code_of_a_network_is_noticed(
    tmp_path: Path, architecture: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are as they were; what is computed with them is not, by one part in a million."""
    path = tmp_path / "a.safetensors"
    save_weights(potential(dtype, architecture), path)
    network = type(potential(architecture=architecture).network)
    original = network.forward
    monkeypatch.setattr(network, "forward", lambda self, *args: original(self, *args) * (1 + 1e-6))
    for wanted in (None, "float32", "float64"):
        with pytest.raises(ModelFileError, match=r"does not reproduce its own reference: energy off by .* differently"):
            load_weights(path, wanted)
    monkeypatch.undo()
    load_weights(path)


def test_reference_is_missing_or_unusable(tmp_path: Path) -> None:
    from safetensors import safe_open

    path = tmp_path / "a.safetensors"
    save_weights(potential(), path)
    with safe_open(path, framework="pt") as reader:
        document = json.loads(reader.metadata()["mlcalc"])
    tensors = load_file(path)
    save_file(tensors, path, metadata={"mlcalc": json.dumps({**document, "reference": {"species": [0]}})})
    with pytest.raises(ModelFileError, match="reference cannot be evaluated"):
        load_weights(path)
    del document["reference"]
    save_file(tensors, path, metadata={"mlcalc": json.dumps(document)})
    for reader in (load_weights, read_weights_info):
        with pytest.raises(ModelFileError, match="lacks reference; get or export the file again"):
            reader(path)


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a ZBL"):
        save_weights(ZBL(("Si",)), tmp_path / "a.safetensors")
    broken = potential()
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="NaN"):
        save_weights(broken, tmp_path / "a.safetensors")
    with pytest.raises(FileNotFoundError, match="make it first"):
        save_weights(potential(), tmp_path / "nowhere" / "a.safetensors")
    assert list(tmp_path.iterdir()) == []
