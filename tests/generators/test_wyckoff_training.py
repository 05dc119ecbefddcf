from __future__ import annotations

import dataclasses
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.formula import Formula
from ase.io import write

from mlcalc.crystals.io import read_crystals
from mlcalc.errors import CrystalError, GeneratorError, ModelFileError, TrainingError
from mlcalc.generators import Constraints, make_generator
from mlcalc.generators._split import split_by_formula
from mlcalc.generators._wyckoff_training import WyckoffTrainer
from mlcalc.generators._wyckoff_weights import load_network
from mlcalc.generators.training import generator_settings, make_trainer, read_generator_settings

CATIONS, ANIONS = ("Li", "Na", "K", "Rb", "Mg", "Ca", "Sr", "Ba"), ("F", "Cl", "Br", "I", "O", "S")
SMALL: dict[str, Any] = {
    "epochs": 6,
    "batch_size": 16,
    "validation_fraction": 0.2,
    "learning_rate": 0.01,
    "network": {"width": 16, "layers": 1, "heads": 2, "feedforward": 16},
}


def salts() -> list[Atoms]:
    """Rock salt or, for the heavy ones, the structure of CsCl."""
    found = []
    for c in CATIONS:
        for a in ANIONS:
            kind, size = ("cesiumchloride", 3.9) if c in ("Rb", "Ba") else ("rocksalt", 5.5)
            found.append(bulk(c + a, kind, a=size + 0.1 * ANIONS.index(a)))
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "salts.jsonl.gz"
    rows = []
    for k, atoms in enumerate(salts()):
        row = {
            "cell": atoms.cell.tolist(),
            "species": list(atoms.symbols),
            "frac": atoms.get_scaled_positions().tolist(),
        }
        rows.append({**row, "id": f"salt-{k}", "band_gap": 6.0 if "F" in row["species"] else 1.0, "spacegroup": None})
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def trainer(data: Path, out: Path, **changes: Any) -> WyckoffTrainer:
    name, settings = generator_settings({**SMALL, "data": [str(data)], "out": str(out), **changes})
    made = make_trainer(name, settings)
    assert isinstance(made, WyckoffTrainer)
    return made


def test_a_run_stopped_anywhere_ends_with_the_same_weights(data: Path, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    whole = trainer(data, tmp_path / "whole")
    whole.run()
    assert torch.equal(state, torch.get_rng_state())
    for stop in (1, 2, 3):
        parts = trainer(data, tmp_path / "parts")
        parts.run(stop_after=stop)
        assert parts.epoch == {1: 1, 2: 3, 3: 6}[stop]
    assert parts.finished
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, parts.network.state_dict()[name]), name
    assert [r["validation_nats"] for r in whole.history] == [r["validation_nats"] for r in parts.history]
    written = load_network(whole.weights_file)
    assert written.model_hash == load_network(parts.weights_file).model_hash
    assert written.facts["crystals"] == {"training": 38, "validation": 10, "left_out": 0}
    assert written.facts["epoch"] == whole.best_epoch + 1
    # The second run found the first one's descriptions; another seed must not go on from its checkpoint.
    with pytest.raises(TrainingError, match="other settings or data"):
        trainer(data, tmp_path / "parts", seed=2).run()
    other = trainer(data, tmp_path / "other", seed=2)
    other.run(stop_after=1)
    assert not torch.equal(other.network.element.weight, whole.network.element.weight)


def test_it_learns_what_the_data_has_in_common(data: Path, tmp_path: Path) -> None:
    learnt = trainer(
        data,
        tmp_path / "run",
        seed=2,  # holds out both structures in proportion
        epochs=40,
        batch_size=4,
        learning_rate=0.01,
        drop_elements=1.0,
        drop_property=0.2,
        network={"width": 32, "layers": 2, "dropout": 0.0},
    )
    learnt.run()
    first, best = learnt.history[0], learnt.history[learnt.best_epoch]
    assert best["validation_nats"] < first["validation_nats"] - 8
    # Two groups, three quarters and a quarter of the salts; one position each for cation and anion.
    assert best["group_nats"] < 1.0
    assert best["letters_nats"] < 0.2
    plain = {"known": True, "energy_above_hull": None}  # as the network draws
    generator = make_generator("wyckoff", weights=learnt.weights_file, min_distance=0.5, **plain)
    drawn = list(generator.sample(64, Constraints(n_atoms=(1, 20)), seed=0))
    assert sum(c.provenance.found_space_group in (221, 225) for c in drawn) > 55
    two = [c for c in drawn if set(c.atoms.symbols) & set(CATIONS) and set(c.atoms.symbols) & set(ANIONS)]
    assert len(two) > 50
    # Only fluorides have the large gap.
    wide = generator.sample(64, Constraints(n_atoms=(1, 20), band_gap_ev=(6.0, 6.0)), seed=0)
    # Nothing is told of the hull, of which no crystal had a label.
    assert load_network(learnt.weights_file).facts["labels"] == ["band_gap"]
    default = make_generator("wyckoff", weights=learnt.weights_file, min_distance=0.5, known=True)
    same = list(default.sample(4, Constraints(n_atoms=(1, 20)), seed=0))
    for one, other in zip(same, drawn, strict=False):  # the same but for what the options say
        assert one.atoms == other.atoms
        details = {**one.provenance.details, "options": other.provenance.details["options"]}
        assert dataclasses.replace(one.provenance, details=details) == other.provenance
    for asked, options in (({"energy_above_hull_ev_per_atom": (0.0, 0.0)}, {}), ({}, {"energy_above_hull": 0.1})):
        refusing = make_generator("wyckoff", weights=learnt.weights_file, **options)
        with pytest.raises(GeneratorError, match=r"without labels of energy_above_hull.*can aim at band_gap_ev"):
            refusing.sample(1, Constraints(**asked), 0)
    narrow = generator.sample(64, Constraints(n_atoms=(1, 20), band_gap_ev=(1.0, 1.0)), seed=0)
    fluorides = [sum("F" in c.atoms.symbols for c in some) for some in (wide, narrow)]
    assert fluorides[0] > 45
    assert fluorides[1] < 10
    told = make_generator("wyckoff", weights=learnt.weights_file, min_distance=0.5, guidance=0.0)
    unguided = sum(
        "F" in c.atoms.symbols for c in told.sample(64, Constraints(n_atoms=(1, 20), band_gap_ev=(6.0, 6.0)), 0)
    )
    assert unguided < 30  # guidance 0 takes the probabilities without the target


def test_formulas_do_not_cross_the_split() -> None:
    from mlcalc.crystals import encode

    described = [encode(a) for a in salts()] + [encode(a.repeat((1, 1, 2))) for a in salts()[:10]]
    described += [encode(bulk(c, "fcc", a=4.0)) for c in ("Cu", "Ag")]
    crystals = [c.counts() for c in described]
    training, validation = split_by_formula(crystals, 0.25, seed=3)
    names = [Formula.from_dict(c).reduce()[0].format("hill") for c in crystals]
    assert not {names[k] for k in training} & {names[k] for k in validation}
    assert sorted([*training, *validation]) == list(range(len(crystals)))
    assert split_by_formula(crystals, 0.25, seed=3) == (training, validation)
    assert split_by_formula(crystals, 0.25, seed=4) != (training, validation)


def test_command_survives_a_kill(data: Path, tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    lines = ["name: mine", "data: [$WHERE/salts.jsonl.gz]", "threads: 1", f"network: {json.dumps(SMALL['network'])}"]
    config.write_text("\n".join([*lines, "epochs: 20", "validation_fraction: 0.2", "patience: 20"]), encoding="utf-8")
    command = [str(Path(sys.executable).parent / "mlcalc"), "train-generator", str(config)]
    environment = {**os.environ, "WHERE": str(data.parent), "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    log = tmp_path / "mine" / "log.csv"
    for _ in range(600):
        if log.exists() and len(log.read_text().splitlines()) > 3:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "wyckoff: 38 training and 10 validation crystals (0 left out); " in done.stdout
    assert "; 14 elements" in done.stdout
    assert len(log.read_text().splitlines()) == 21
    name, settings = read_generator_settings(config)
    again = make_trainer(name, dataclasses.replace(settings, data=(str(data),), out=str(tmp_path / "again")))
    again.run()
    assert (
        load_network(tmp_path / "mine" / "mine.safetensors").model_hash == load_network(again.weights_file).model_hash
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "data names no file"),
        ({"data": ["x"], "epoch": 3}, "unknown setting 'epoch'"),
        ({"data": ["x"], "network": {"depth": 3}}, r"unknown setting network\.'depth'"),
        ({"data": ["x"], "epochs": "many"}, "epochs must be a int"),
        ({"data": ["x"], "epochs": 2.5}, "epochs must be a int"),
        ({"data": ["x"], "epochs": 0}, "at least 1"),
        ({"data": ["x"], "validation_fraction": 1.0}, "between 0 and 1"),
        ({"data": ["x"], "network": {"width": 30, "heads": 4}}, "multiple of network.heads"),
        ({"data": ["x"], "drop_property": 2}, "drop_property"),
        ([], "must be a mapping"),
        ({"data": ["x"], "generator": "random"}, "no generator 'random' can be trained; there are: .*wyckoff"),
    ],
)
def test_bad_settings(values: Any, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        generator_settings(values)


def test_transfer_begins_where_the_weights_are(data: Path, tmp_path: Path) -> None:
    learnt = trainer(data, tmp_path / "all")
    learnt.run()
    few = _first(data, 12, tmp_path)
    changes = {"epochs": 1, "learning_rate": 1e-4, "warmup": 0}
    tuned = trainer(few, tmp_path / "tuned", start=str(learnt.weights_file), **changes)
    fresh = trainer(few, tmp_path / "fresh", **changes)
    assert tuned.elements == learnt.elements  # also those that the twelve do not hold
    tuned.run()
    fresh.run()
    assert tuned.best_loss < fresh.best_loss - 2
    assert len(load_network(fresh.weights_file).known) == 12  # held-out ones, too
    known = load_network(tuned.weights_file).known
    assert len(known) == 48
    assert not any(known.add(atoms) for atoms in salts())  # nothing of what the first weights knew is forgotten
    with pytest.raises(TrainingError, match="other settings or data"):
        trainer(few, tmp_path / "tuned", **changes).run()
    bare = tmp_path / "bare.extxyz"
    write(bare, salts()[:6])
    assert trainer(bare, tmp_path / "bare").facts()["labels"] == []
    later = trainer(bare, tmp_path / "later", start=str(learnt.weights_file))
    assert later.facts()["labels"] == ["band_gap"]  # seen before
    strange = tmp_path / "strange.extxyz"
    write(
        strange, [bulk("CsI", "cesiumchloride", a=4.6), bulk("KAt", "rocksalt", a=7.2), bulk("NaCl", "rocksalt", a=5.6)]
    )
    with pytest.raises(TrainingError, match="know no Cs At; leave out"):
        trainer(strange, tmp_path / "strange", start=str(learnt.weights_file))
    with pytest.raises(TrainingError, match="start: no weights file"):
        trainer(few, tmp_path / "none", start=str(tmp_path / "none.safetensors"))


def test_bad_files(tmp_path: Path, data: Path) -> None:
    with pytest.raises(TrainingError, match="no file"):
        trainer(tmp_path / "nothing.jsonl", tmp_path / "run")
    broken = tmp_path / "broken.jsonl"
    broken.write_text(
        '{"species": ["Si"], "frac": [[0, 0, 0]], "cell": [5, 5, 5]}\n{"species": ["Si"]}\n', encoding="utf-8"
    )
    with pytest.raises(CrystalError, match="line 2: KeyError"):
        read_crystals(broken)
    with pytest.raises(TrainingError, match="too few"):
        trainer(_first(data, 1, tmp_path), tmp_path / "run")
    with pytest.raises(TrainingError, match="no config file"):
        read_generator_settings(tmp_path / "no.yaml")
    with pytest.raises(ModelFileError, match="no weights file"):
        make_generator("wyckoff", weights=tmp_path / "no.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelFileError, match="damaged"):
        make_generator("wyckoff", weights=tmp_path / "damaged.safetensors")
    with pytest.raises(ModelFileError, match="no weights of the generator"):
        make_generator(
            "wyckoff", weights=Path(__file__).parents[2] / "mlcalc" / "zoo" / "weights" / "mlearn-Si.safetensors"
        )


def _first(data: Path, count: int, folder: Path) -> Path:
    path = folder / "first.jsonl"
    with gzip.open(data, "rt", encoding="utf-8") as file:
        path.write_text("".join(file.readlines()[:count]), encoding="utf-8")
    return path


def test_labels_are_read_from_both_kinds_of_file(data: Path, tmp_path: Path) -> None:
    rows = read_crystals(data)
    assert len(rows) == 48
    assert rows[0].name == "salt-0"
    assert rows[0].labels == {"band_gap": 6.0}
    atoms = salts()[0]
    atoms.info = {"band_gap": 2.5, "note": "a"}
    atoms.write(tmp_path / "one.extxyz")
    (row,) = read_crystals(tmp_path / "one.extxyz")
    assert row.labels == {"band_gap": 2.5}
    assert row.atoms.get_volume() == pytest.approx(atoms.get_volume())
