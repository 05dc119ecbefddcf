"""Fine-tuning: what it starts from is what was there, shifted to the labels; then it learns."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from mlcalc.calculators import MLCalculator
from mlcalc.deploy import load_weights, save_weights
from mlcalc.errors import TrainingError
from mlcalc.potentials.base import Potential, PotentialInfo
from mlcalc.potentials.registry import build
from mlcalc.training.metrics import predict
from mlcalc.training.run import train
from mlcalc.training.settings import read_settings, settings_from_dict
from mlcalc.training.trainer import Trainer
from mlcalc.zoo import load

ELEMENTS = ("Al", "Cu", "Ag")


def general(architecture: str = "nequip", **network: Any) -> Potential:
    """Random weights for three elements, in a place of energies of their own."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        info = PotentialInfo(elements=ELEMENTS, cutoff=4.0, layers=2, name="general", licence="MIT, Somebody")
        made = build({"architecture": architecture, "network": {"layers": 2, **network}}, info, torch.float64)
    made.set_energies([-1.0, -20.0, -300.0], 5.0)
    return made


@pytest.fixture
def source(tmp_path: Path) -> Path:
    save_weights(general(channels=[8, 4]), tmp_path / "general.safetensors")
    return tmp_path / "general.safetensors"


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Cu and Ag, the latter first among elements by name of the file, labelled by EMT."""
    random, found = np.random.default_rng(0), []
    for k in range(12):
        atoms = bulk("Cu", cubic=True) * (2, 1, 1)
        atoms.numbers[random.permutation(8)[: k % 8]] = 47
        atoms.set_cell(atoms.cell.array * 1.08, scale_atoms=True)
        atoms.positions += random.normal(scale=0.1, size=atoms.positions.shape)
        atoms.calc = EMT()
        labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        found.append(atoms)
    write(tmp_path / "frames.xyz", found)
    return tmp_path / "frames.xyz"


def settings(source: Path | str, frames: Path, out: Path, **model: Any) -> Any:
    values = {
        "name": "tuned",
        "out": str(out),
        "data": {"train": [str(frames)], "validation_fraction": 0.2},
        "model": {"start": str(source), "grade": 8, **model},
        "optimizer": {"epochs": 8, "batch_size": 2, "learning_rate": 5e-3, "ema": 0.9},
    }
    return settings_from_dict(values)


def forces(potential: Potential | Path, atoms: Atoms) -> np.ndarray:
    atoms = atoms.copy()
    atoms.calc = MLCalculator(potential, dtype="float64")
    return atoms.get_forces()


def test_fewer_elements_in_another_order_are_the_same_network(source: Path, frames: Path, tmp_path: Path) -> None:
    chosen = settings(source, frames, tmp_path / "run")
    chosen = dataclasses.replace(chosen, data=dataclasses.replace(chosen.data, elements=("Ag", "Cu")))
    trainer = Trainer(chosen)
    atoms = trainer.training[0].atoms
    assert trainer.potential.info.elements == ("Ag", "Cu")
    assert trainer.potential.info.licence == "MIT, Somebody"
    assert trainer.potential.info.provenance["start"] == source.name
    difference = forces(trainer.potential, atoms) - forces(source, atoms)
    assert np.abs(difference).max() < 1e-4
    assert np.abs(forces(source, atoms)).max() > 1e-2
    # Energies are where the labels are: no constant per element makes them better.
    wanted = np.array([d.energy for d in trainer.training])
    sizes = np.array([len(d.atoms) for d in trainer.training])
    left = (wanted - predict(trainer.potential, trainer.training).energies) / sizes
    counts = np.array([[np.sum(d.atoms.numbers == z) for z in (47, 29)] for d in trainer.training]) / sizes[:, None]
    assert np.abs(counts.T @ left).max() < 1e-3
    assert np.abs(left).max() < 5.0


def test_it_learns_and_can_start_again(source: Path, frames: Path, tmp_path: Path) -> None:
    first = Trainer(settings(source, frames, tmp_path / "a"))
    before = np.mean(np.abs(np.concatenate([f - d.forces for f, d in _pairs(first)])))
    result = train(settings(source, frames, tmp_path / "run"))
    after = result.metrics["training"]["overall"]["forces_mae_ev_per_ang"]
    assert after < 0.8 * before
    kept = load_weights(result.folder / "tuned.safetensors")
    assert kept.info.provenance["start"] == source.name
    assert kept.info.outputs == ("grade",)
    # A finished run is resumed without a further epoch, also by another path to the same weights.
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(source.read_bytes())
    assert train(settings(copy, frames, tmp_path / "run")).epochs == 8
    save_weights(general(channels=[8, 4, 2]), copy)
    with pytest.raises(TrainingError, match="other settings or data"):
        train(settings(copy, frames, tmp_path / "run"))
    # And what was tuned, grade and all, is a start itself.
    again = Trainer(settings(result.folder / "tuned.safetensors", frames, tmp_path / "again"))
    atoms = again.training[0].atoms
    assert np.abs(forces(again.potential, atoms) - forces(kept, atoms)).max() < 1e-5


def _pairs(trainer: Trainer) -> list[tuple[np.ndarray, Any]]:
    return list(zip(predict(trainer.potential, trainer.training).forces, trainer.training, strict=True))


def test_a_published_potential(frames: Path, tmp_path: Path) -> None:
    trainer = Trainer(settings("sevennet-0", frames, tmp_path / "run"))
    atoms = trainer.training[3].atoms
    assert trainer.potential.info.elements == ("Cu", "Ag")
    wanted = forces(load("sevennet-0", "float64"), atoms)
    assert np.abs(forces(trainer.potential, atoms) - wanted).max() < 2e-5
    assert "Permission is hereby granted" in trainer.potential.info.provenance["licence_text"]


def test_bad_starts_are_named(source: Path, frames: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"leave model\.cutoff, model\.network away"):
        Trainer(settings(source, frames, tmp_path / "run", cutoff=4.0, network={"channels": [4]}))
    with pytest.raises(TrainingError, match=r"model\.start: no potential named 'sevennet-9'"):
        Trainer(settings("sevennet-9", frames, tmp_path / "run"))
    with pytest.raises(TrainingError, match=r"model\.start: mlearn.* does not cover"):
        Trainer(settings("mlearn", frames, tmp_path / "run"))
    other = tmp_path / "schnet.safetensors"
    save_weights(general("schnet"), other)
    with pytest.raises(TrainingError, match=r"made for Al, Cu, Ag together; set data\.elements so"):
        Trainer(settings(other, frames, tmp_path / "run"))


def test_paths_count_from_the_config_and_names_stay(tmp_path: Path) -> None:
    for start, wanted in (("sevennet-0", "sevennet-0"), ("w.safetensors", str(tmp_path / "w.safetensors"))):
        (tmp_path / "c.yaml").write_text(f"data: {{train: [a.xyz]}}\nmodel: {{start: {start}}}\n")
        assert read_settings(tmp_path / "c.yaml").model.start == wanted
