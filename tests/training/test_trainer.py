"""Training: learns, resumes after a kill to the same bits, and its loss is the one written down."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import yaml

from mlcalc.deploy import load_model, load_weights
from mlcalc.errors import TrainingError
from mlcalc.training.dataset import read_labelled
from mlcalc.training.loss import residuals, weights_at
from mlcalc.training.metrics import errors, predict
from mlcalc.training.run import finish, train
from mlcalc.training.settings import LossSettings, settings_from_dict
from mlcalc.training.trainer import Trainer


def settings(values, out, **sections):
    merged = {**values, "out": str(out)}
    for name, section in sections.items():
        merged[name] = {**values.get(name, {}), **section} if isinstance(section, dict) else section
    return settings_from_dict(merged)


def weights(potential) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in potential.parameters()])


def test_loss_is_the_weighted_sum_of_mean_squares(values, tmp_path):
    trainer = Trainer(settings(values, tmp_path))
    batch = trainer.train_set.batch([0, 1, 2])
    got = residuals(trainer.potential, batch)
    chosen = [trainer.training[k] for k in (0, 1, 2)]
    p = predict(trainer.potential, chosen)
    de = np.array([(e - d.energy) / 4 for e, d in zip(p.energies, chosen, strict=True)])
    df = np.concatenate([f - d.forces for f, d in zip(p.forces, chosen, strict=True)])
    ds = np.array(
        [
            (s - d.stress) * d.atoms.get_volume() / 4
            for s, d in zip(p.stresses, chosen, strict=True)
            if d.stress is not None
        ]
    )
    w = weights_at(LossSettings(energy=(1.0, 100.0), forces=(2.0, 2.0), stress=(0.0, 4.0)), 0.5)
    assert (w.energy, w.forces, w.stress) == pytest.approx((10.0, 2.0, 2.0))
    expected = 10 * np.mean(de**2) + 2 * np.mean(df**2) + 2 * np.mean(ds**2)
    assert float(got.loss(w)) == pytest.approx(expected, rel=1e-4)


def test_validation_frames_are_never_trained_on(values, tmp_path):
    trainer = Trainer(settings(values, tmp_path))
    positions = [d.atoms.positions.tobytes() for d in trainer.training]
    assert len(trainer.training) + len(trainer.validation) == 24
    assert not any(d.atoms.positions.tobytes() in positions for d in trainer.validation)


@pytest.fixture(scope="module")
def finished(emt_file, tmp_path_factory):
    values = {
        "name": "emt",
        "data": {
            "train": [str(emt_file)],
            "energy_key": "REF_energy",
            "forces_key": "REF_forces",
            "stress_key": "REF_stress",
            "validation_fraction": 0.2,
        },
        "model": {"cutoff": 4.0, "network": {"channels": 6, "n_radial": 6, "l_max": 3}},
        "optimizer": {"epochs": 60, "batch_size": 3, "ema": 0.98},
    }
    return train(settings_from_dict({**values, "out": str(tmp_path_factory.mktemp("run") / "emt")}))


def test_learns_emt(finished):
    """Errors on unseen frames fall far below the spread of the labels."""
    overall = finished.metrics["validation"]["overall"]
    assert overall["forces_rmse_ev_per_ang"] < 0.25
    assert overall["energy_rmse_mev_per_atom"] < 20


def test_a_test_fold_is_kept_out_and_reported(values, tmp_path):
    trainer = Trainer(settings(values, tmp_path / "fold", data={"folds": 3, "fold": 1}, optimizer={"epochs": 1}))
    seen = {d.atoms.positions.tobytes() for d in (*trainer.training, *trainer.validation)}
    assert len(trainer.test) == 8
    assert len(trainer.training) + len(trainer.validation) == 16
    assert not any(d.atoms.positions.tobytes() in seen for d in trainer.test)
    result = finish(trainer)
    assert result.metrics["test"]["overall"]["n_structures"] == 8
    assert "Errors on the test set" in (result.folder / "card.md").read_text()


def test_test_files_are_read(values, emt_file, tmp_path):
    assert len(Trainer(settings(values, tmp_path / "files", data={"test": str(emt_file)})).test) == 24


def test_folder_holds_everything(finished):
    folder = finished.folder
    for name in ("config.yaml", "log.csv", "metrics.json", "card.md", "parity.png", "learning.png", "checkpoint.pt"):
        assert (folder / name).stat().st_size > 0, name
    rows = list(csv.DictReader((folder / "log.csv").open()))
    assert [int(r["epoch"]) for r in rows] == list(range(finished.epochs))
    assert json.loads((folder / "metrics.json").read_text())["validation"] == finished.metrics["validation"]
    assert (folder / "parity.png").read_bytes()[:4] == b"\x89PNG"


def test_files_give_the_metrics_that_were_written(finished, emt_file):
    config = settings_from_dict(yaml.safe_load((finished.folder / "config.yaml").read_text()))
    trainer = Trainer(config)
    for potential in (load_weights(finished.folder / "emt.safetensors"), load_model(finished.folder / "emt.pt")):
        got = errors(predict(potential, trainer.validation))
        for key, value in finished.metrics["validation"]["overall"].items():
            assert got[key] == pytest.approx(value, rel=1e-3), key
    assert len(read_labelled(emt_file, config.data)) == 24


def test_same_seed_same_weights_other_seed_others(values, tmp_path):
    one = Trainer(settings(values, tmp_path / "a")).run(stop_after=2)
    two = Trainer(settings(values, tmp_path / "b")).run(stop_after=2)
    other = Trainer(settings(values, tmp_path / "c", seed=6)).run(stop_after=2)
    assert torch.equal(weights(one), weights(two))
    assert not torch.equal(weights(one), weights(other))


def test_random_state_of_the_caller_is_left_alone(values, tmp_path):
    state = torch.random.get_rng_state()
    Trainer(settings(values, tmp_path / "a")).run(stop_after=1)
    assert torch.equal(state, torch.random.get_rng_state())


def test_killed_and_resumed_gives_the_same_weights_as_unbroken(values, tmp_path):
    """A real SIGKILL, in the middle of whatever the process was doing."""
    unbroken = Trainer(settings(values, tmp_path / "unbroken")).run()
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({**values, "out": "killed"}))
    command = [sys.executable, "-c", "from mlcalc.cli import main; main()", "train", str(config), "--threads", "1"]
    log = tmp_path / "killed" / "log.csv"
    kills = 0
    for target in (2, 4):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 240
        while process.poll() is None and time.monotonic() < deadline:
            if log.is_file() and len(log.read_text().splitlines()) > target:
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.002)
        _, errors_out = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), errors_out.decode()
    assert kills >= 1
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        resumed = Trainer(settings(values, tmp_path / "killed"))
        potential = resumed.run()
    finally:
        torch.set_num_threads(threads)
    assert resumed.finished
    assert torch.equal(weights(potential), weights(unbroken))


def test_stops_early(values, tmp_path):
    trainer = Trainer(
        settings(
            values, tmp_path, optimizer={"learning_rate": 1e-9, "final_learning_rate": 1e-9, "patience": 1, "ema": 0.0}
        )
    )
    trainer.best_loss = 0.0
    trainer.best_epoch = 0
    trainer.run()
    assert trainer.epoch == 2


def test_keep_last_takes_the_last_epoch(values, tmp_path):
    """Whatever the validation loss says, and without stopping early; the same run keeping the best keeps another."""
    options = {"learning_rate": 0.01, "epochs": 4, "patience": 0}
    last = Trainer(settings(values, tmp_path / "last", optimizer={**options, "keep": "last"}))
    last.best_loss = 0.0  # nothing to come is better
    last.run()
    assert (last.epoch, last.best_epoch) == (4, 3)
    assert all(torch.equal(last.best[name], last.ema[name]) for name in last.ema)
    best = Trainer(settings(values, tmp_path / "best", optimizer={**options, "keep": "best"}))
    best.best_loss, best.best_epoch = 0.0, 0
    kept = best.run()
    assert best.epoch == 1
    assert not torch.equal(weights(kept), weights(last.potential))


def test_keep_is_best_or_last(values, tmp_path):
    with pytest.raises(TrainingError, match=r"optimizer\.keep must be best or last, not 'first'"):
        settings(values, tmp_path, optimizer={"keep": "first"})


def test_stress_offset_is_found(emt_file, values, tmp_path):
    """Labels shifted by a constant isotropic stress: the offset is fitted, and forces do not suffer."""
    import ase.io

    frames = ase.io.read(emt_file, ":")
    for atoms in frames:
        if "REF_stress" in atoms.info:
            atoms.info["REF_stress"] = np.asarray(atoms.info["REF_stress"]).reshape(3, 3) + 0.5 * np.eye(3)
    ase.io.write(tmp_path / "shifted.xyz", frames)
    data = {**values["data"], "train": [str(tmp_path / "shifted.xyz")]}
    run = settings(
        values,
        tmp_path / "run",
        data=data,
        loss={"stress_offset": True},
        optimizer={"epochs": 40, "learning_rate": 0.02},
    )
    trainer = Trainer(run)
    trainer.run()
    assert float(trainer.best["stress_offset"]) == pytest.approx(0.5, abs=0.1)


def test_checkpoints_of_other_runs_and_broken_ones_are_refused(values, tmp_path):
    Trainer(settings(values, tmp_path)).run(stop_after=1)
    with pytest.raises(TrainingError, match="other settings or data"):
        Trainer(settings(values, tmp_path, seed=9)).run()
    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(TrainingError, match="cannot be read"):
        Trainer(settings(values, tmp_path)).run()


def test_a_loss_that_explodes_is_reported_and_the_checkpoint_kept(values, tmp_path):
    Trainer(settings(values, tmp_path)).run(stop_after=1)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    trainer = Trainer(settings(values, tmp_path))
    trainer.train_set.data[0].forces[:] = np.nan
    with pytest.raises(TrainingError, match="the loss became nan"):
        trainer.run()
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_unlisted_element_is_named(values, tmp_path):
    with pytest.raises(TrainingError, match="'Cu'"):
        Trainer(settings(values, tmp_path, data={"elements": ["Si"]}))


def test_schnet_trains_too(values, tmp_path):
    run = settings(
        values, tmp_path, model={"architecture": "schnet", "network": {"channels": 8}}, optimizer={"epochs": 12}
    )
    trainer = Trainer(run)
    trainer.run()
    first, last = trainer.history[0], trainer.history[-1]
    assert last["forces_rmse_ev_per_ang"] < 0.9 * first["forces_rmse_ev_per_ang"]
