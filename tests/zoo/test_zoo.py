import re
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import ase.io
import pytest
import torch
from ase.build import bulk
from ase.calculators.emt import EMT

from mlcalc import cli, zoo
from mlcalc.deploy import ScriptedPotential, export, load_model, save_weights
from mlcalc.errors import ModelFileError, SettingsError, UnknownElementError
from mlcalc.foundation import published
from mlcalc.potentials import NeuralPotential, PerElement, PotentialInfo, build

ARGS = (
    torch.tensor([0, 0]),
    torch.tensor([[0, 1], [1, 0]]),
    torch.tensor([[0.7, 0.9, 1.9], [-0.7, -0.9, -1.9]], dtype=torch.float64),
)


def make(*elements: str, name: str = "", cutoff: float = 4.0) -> NeuralPotential:
    torch.manual_seed(sum(map(ord, "".join(elements))))
    info = PotentialInfo(elements=elements, cutoff=cutoff, layers=2, name=name, energy_scale="PBE", licence="MIT")
    return build({"architecture": "schnet", "network": {"channels": 8, "layers": 2}, "zbl": True}, info)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zoo with one single potential and one family."""
    weights = tmp_path / "weights"
    weights.mkdir()
    for symbol, cutoff in (("Ni", 3.5), ("Si", 4.0), ("Li", 4.0)):
        save_weights(make(symbol, name=f"family-{symbol}", cutoff=cutoff), weights / f"family-{symbol}.safetensors")
    save_weights(make("Si", "C", name="two-elements"), weights / "two-elements.safetensors")
    (weights / "family.md").write_text("# family\nTrained on purpose.\n")
    monkeypatch.setattr(zoo, "WEIGHTS", weights)
    return weights


def test_names_and_families(folder: Path) -> None:
    found = zoo.entries()
    assert set(found) == {"family", "two-elements"}
    assert [f.name for f in found["family"].files] == [f"family-{s}.safetensors" for s in ("Li", "Ni", "Si")]
    assert found["family"].size == sum(f.stat().st_size for f in folder.glob("family-*"))
    assert found["family"].card == folder / "family.md"
    assert found["two-elements"].card is None
    assert found["two-elements"].infos()[0].elements == ("Si", "C")


def test_load_a_family(folder: Path) -> None:
    whole = zoo.load("family")
    assert isinstance(whole, PerElement)
    assert whole.info.name == "family"
    assert whole.info.element_sets == (("Li",), ("Ni",), ("Si",))
    assert whole.dtype == torch.float32
    single = zoo.load("family", "float64", elements=["Si"])
    assert isinstance(single, NeuralPotential)
    assert single.info.elements == ("Si",)
    torch.testing.assert_close(single(*ARGS), make("Si").double()(*ARGS), rtol=1e-6, atol=1e-6)
    pair = zoo.load("family", elements=["Si", "Ni"])
    assert pair.info.elements == ("Ni", "Si")
    assert zoo.load(whole, elements=["Ni"]).info.elements == ("Ni",)
    wide = zoo.load("family", dtype="float64")
    assert wide.dtype == torch.float64
    silicon = wide.info.elements.index("Si") + ARGS[0]
    torch.testing.assert_close(wide(silicon, *ARGS[1:]), single(*ARGS), rtol=0, atol=1e-12)


def test_load_files_and_potentials(folder: Path, tmp_path: Path) -> None:
    potential = zoo.load("two-elements")
    assert isinstance(potential, NeuralPotential)
    assert zoo.load(folder / "two-elements.safetensors").info == potential.info
    assert zoo.load(potential) is potential
    assert zoo.load(potential, dtype="float32") is potential
    wide = zoo.load(potential, dtype="float64")
    assert (wide.dtype, potential.dtype) == (torch.float64, torch.float32)
    export(potential, tmp_path / "a.pt", "float64")
    model = zoo.load(tmp_path / "a.pt", dtype="float64")
    assert isinstance(model, ScriptedPotential)
    torch.testing.assert_close(model(*ARGS), wide(*ARGS), rtol=0, atol=1e-12)
    assert zoo.load(str(tmp_path / "a.pt"), dtype="float32").dtype == torch.float32


def test_errors_list_what_is_known(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no potential named 'famly'; known names: .*family, .*, two-elements"):
        zoo.load("famly")
    (tmp_path / "x.txt").touch()
    with pytest.raises(ModelFileError, match=r"ending in \.safetensors, \.pt, \.pt2 or \.pth"):
        zoo.load(tmp_path / "x.txt")
    with pytest.raises(ModelFileError, match="no such file"):
        zoo.load("missing.pt")
    with pytest.raises(UnknownElementError, match="family does not cover Cu; it covers Li, Ni, Si"):
        zoo.load("family", elements=["Cu"])
    with pytest.raises(UnknownElementError, match="does not cover Cu"):
        zoo.load("two-elements", elements=["Si", "Cu"])
    with pytest.raises(SettingsError, match="float32 or float64"):
        zoo.load("family", dtype="half")


def test_shipped_weights_load_and_are_small() -> None:
    for name, entry in zoo.entries().items():
        assert entry.card is not None, f"{name} has no model card"
        assert all(file.stat().st_size < 5e6 for file in entry.files)
        potential = zoo.load(name)
        assert potential.info.licence != "unknown"
        assert potential.info.energy_scale != "unknown"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run ``mlcalc …`` in this process: (exit status, stdout and stderr)."""
    monkeypatch.setattr(cli.warnings, "showwarning", cli.warnings.showwarning)

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["mlcalc", *words])
        with pytest.raises(SystemExit) as exit_status:
            cli.main()
        captured = capsys.readouterr()
        return int(exit_status.value.code or 0), captured.out + captured.err

    return run


def test_command_potentials(folder: Path, command: Callable[..., tuple[int, str]]) -> None:
    code, text = command("potentials")
    assert code == 0
    for word in ("family", "two-elements", "elements  Si C", "cutoff 4 Å, 2 layers", "cutoff 3.5 Å", "energies  PBE"):
        assert word in text
    for name, entry in published().items():
        assert f"{name}  (weights: {entry.package} {metadata.version(entry.package)})" in text
    assert text.count("elements  89: Ac Ag ") == 3
    assert text.count("source    https://github.com/CederGroupHub/chgnet") == 1
    assert text.count("uncorrected total energies") == 2
    assert text.count("licence   MIT, Copyright (c) 2024 Yutack Park") == 2
    assert text.count("source    https://github.com/MDIL-SNU/SevenNet") == 2
    costs = [float(value) for value in re.findall(r"cost      ([\d.e-]+) ms per atom and force call here", text)]
    assert len(costs) == 5
    assert min(costs[2:]) > 2 * max(costs[:2]) > 0  # SevenNet beside toys
    code, text = command("potentials", "family", "--no-cost")
    assert text.endswith("\n# family\nTrained on purpose.\n\n")
    assert "cost" not in text
    code, text = command("potentials", "sevennet-0", "--no-cost")
    assert "Permission is hereby granted, free of charge" in text
    code, text = command("potentials", "famly")
    assert code == 1
    assert "known: family, two-elements" in text


def test_command_potentials_without_the_weights(
    folder: Path, command: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known without them is listed, the way to get them too, and the other potentials are."""

    def absent(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    code, text = command("potentials")
    assert code == 0
    assert text.count("elements  89: Ac Ag ") == 3
    assert text.count("is not installed") == 6  # of each, where its weights and where its cost would be
    assert text.count("ms per atom and force call here") == 2


def test_command_export(folder: Path, tmp_path: Path, command: Callable[..., tuple[int, str]]) -> None:
    out = tmp_path / "si.pt"
    code, text = command("export", "family", str(out), "--elements", "Si", "--dtype", "float32")
    assert code == 0, text
    assert "Si, float32, cutoff 4 Å" in text
    model = load_model(out)
    assert model.info.elements == ("Si",)
    assert model.dtype == torch.float32
    for words, message in (
        (("famly", str(out)), "known names"),
        (("family", str(out), "--elements", "Cu"), "does not cover Cu"),
        (("family", str(out), "--dtype", "half"), "float32 or float64"),
        (("family", str(tmp_path / "si.bin")), "end in .pt"),
        (("family", str(tmp_path / "no" / "si.pt")), "make it first"),
    ):
        code, text = command("export", *words)
        assert code != 0
        assert message in " ".join(text.replace("│", " ").split())
        assert "Traceback" not in text


def test_errors_are_one_line_and_a_traceback_with_debug(
    folder: Path, tmp_path: Path, command: Callable[..., tuple[int, str]]
) -> None:
    atoms = bulk("Ni")
    atoms.calc = EMT()
    atoms.get_forces()
    ase.io.write(tmp_path / "ni.extxyz", atoms)
    (folder / "torn.safetensors").write_bytes(b"torn")
    for words, message in (
        (("eval", "family", str(tmp_path / "ni.extxyz"), "--dtype", "foo"), "dtype must be float32 or float64"),
        (("export", "family", str(tmp_path / "a.pt"), "--dtype", "foo"), "dtype must be float32 or float64"),
        (("export", "family", str(tmp_path / "no" / "a.pt")), "make it first"),
        (("export", "famly", str(tmp_path / "a.pt")), "known names"),
        (("potentials", "famly"), "known: family, torn, two-elements"),
        (("potentials",), "not a whole safetensors file"),
    ):
        code, text = command(*words)
        assert code == 1
        assert message in text.splitlines()[-1]
        assert "Traceback" not in text
        code, text = command(*words, "--debug")
        assert code == 1
        assert "Traceback" in text
