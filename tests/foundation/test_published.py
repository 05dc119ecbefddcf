"""Published potentials: what they declare, where their weights come from, and files that are not theirs."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

import mlcalc
from mlcalc import MLCalculator
from mlcalc.deploy import export, load_model, load_weights, save_weights
from mlcalc.errors import ModelFileError, UnknownElementError
from mlcalc.foundation import load_checkpoint, load_published, published
from mlcalc.foundation.sevennet import from_checkpoint


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    path = metadata.distribution("sevenn").locate_file(published()["sevennet-0"].file)
    return Path(str(path))


@pytest.mark.parametrize("name", published())
def test_what_they_declare(name: str) -> None:
    info = mlcalc.load(name).info
    assert info.name == name
    assert len(info.elements) == 89
    chgnet = name.startswith("chgnet")
    assert (info.cutoff, info.layers) == ((6.0, 4) if chgnet else (5.0, 5))
    assert ("MP2020" if chgnet else "uncorrected") in info.energy_scale
    assert info.licence.startswith("BSD-3-Clause-LBNL" if chgnet else "MIT")
    text = info.provenance["licence_text"]
    assert ("The Regents\nof the University of California" if chgnet else "Yutack Park") in text
    assert ("Redistributions of source code must retain" if chgnet else "permission notice shall be included") in text
    files = metadata.distribution(published()[name].package).files or []
    assert text in [file.read_text() for file in files if file.name.upper().startswith("LICENSE")]


def test_no_upstream_code_runs() -> None:
    code = "import sys, mlcalc; mlcalc.load('sevennet-0'); print([m for m in sys.modules if m.startswith('sevenn')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_float64_is_not_rounded_float32() -> None:
    exact = load_published("sevennet-0", "float64")
    detour = mlcalc.load(load_published("sevennet-0"), dtype="float64")
    for (name, one), two in zip(exact.state_dict().items(), detour.state_dict().values(), strict=True):
        assert torch.equal(one, two), name


def test_through_files(tmp_path: Path) -> None:
    """Weights file, model file and the potential itself agree; the licence travels with both."""
    potential = load_published("sevennet-0", "float64")
    save_weights(potential, tmp_path / "s.safetensors")
    export(potential, tmp_path / "s.pt")
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.rattle(0.1, seed=1)
    results = []
    for source in (potential, load_weights(tmp_path / "s.safetensors"), load_model(tmp_path / "s.pt")):
        assert "Permission is hereby granted" in source.info.provenance["licence_text"]
        atoms.calc = MLCalculator(source)
        results.append(np.append(atoms.get_forces().ravel(), atoms.get_potential_energy()))
    assert np.abs(results - results[0]).max() < 1e-12


def test_elements_outside() -> None:
    atoms = Atoms("AmO", [(0, 0, 0), (0, 0, 2)])
    atoms.calc = MLCalculator("sevennet-0")
    with pytest.raises(UnknownElementError, match="Am"):
        atoms.get_potential_energy()


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    with pytest.raises(ModelFileError, match=r"sevenn, which is not installed: pip install 'mlcalc\[foundation\]'"):
        mlcalc.load("sevennet-0")


def test_checkpoint_by_its_path(checkpoint: Path, tmp_path: Path) -> None:
    copy = tmp_path / "renamed.pth"
    copy.write_bytes(checkpoint.read_bytes())
    info = mlcalc.load(copy).info
    assert info.name == "sevennet-0"
    assert "Permission is hereby granted" in info.provenance["licence_text"]


@pytest.mark.parametrize("change", ["truncated", "one bit", "foreign", "empty"])
def test_files_that_are_no_published_checkpoint(change: str, checkpoint: Path, tmp_path: Path) -> None:
    content = bytearray(checkpoint.read_bytes())
    if change == "truncated":
        content = content[: len(content) // 2]
    elif change == "one bit":
        content[len(content) // 2] ^= 1
    elif change == "foreign":
        torch.save({"config": {}, "model_state_dict": {}}, tmp_path / "foreign")
        content = bytearray((tmp_path / "foreign").read_bytes())
    else:
        content = bytearray()
    file = tmp_path / "changed.pth"
    file.write_bytes(content)
    with pytest.raises(ModelFileError, match="no published checkpoint"):
        load_checkpoint(file)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="cannot be read"):
        load_checkpoint(tmp_path / "none.pth")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"self_connection_type": "nequip"}, "self_connection_type"),
        ({"is_parity": True}, "is_parity"),
        ({"irreps_manual": ["128x0e", *["128x0e+64x1o+32x2e"] * 4, "128x0e"]}, "features"),
        ({"cutoff_function": {"cutoff_function_name": "poly_cut", "poly_cut_p_value": 4}}, "cutoff function"),
        ({"num_convolution_layer": 4}, "features"),
    ],
)
def test_other_networks_are_refused(setting: dict, message: str, checkpoint: Path) -> None:
    """Settings that are not rebuilt here would give wrong numbers."""
    document = torch.load(checkpoint, map_location="cpu", weights_only=False)
    document["config"].update(setting)
    with pytest.raises(ModelFileError, match=message):
        from_checkpoint(document, published()["sevennet-0"].info)


def test_elements_in_another_order_are_refused(checkpoint: Path) -> None:
    document = torch.load(checkpoint, map_location="cpu", weights_only=False)
    document["config"]["_type_map"] |= {47: 0, 89: 1}
    with pytest.raises(ModelFileError, match="other elements"):
        from_checkpoint(document, published()["sevennet-0"].info)


def test_a_molecule_needs_no_cell() -> None:
    atoms = molecule("CH3CH2OH")
    atoms.calc = MLCalculator("sevennet-0")
    assert np.isfinite(atoms.get_forces()).all()
