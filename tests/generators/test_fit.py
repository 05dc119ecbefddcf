"""The loop that all trainings of generators share, on the smallest of networks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mlcalc.errors import TrainingError
from mlcalc.generators._fit import Fit, FitSettings
from mlcalc.generators.training import generator_settings


class Line(Fit[FitSettings, nn.Module]):
    """Fits a slope of 3 to noisy points; what it writes passes through dropout."""

    columns = ("loss", "error")
    criterion = "error"

    def __init__(self, folder: Path, wrong: float | None = None, **changes: Any) -> None:
        super().__init__(FitSettings(name="line", data=("none",), out=str(folder), warmup=0, **changes))
        self.training, self.validation, self.left_out, self.content = [1] * 8, [1], 0, "points"
        self.wrong = wrong
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.prepare(nn.Sequential(nn.Linear(1, 1, bias=False), nn.Dropout(0.5)))

    @property
    def slope(self) -> float:
        return float(next(self.network.parameters()).detach())

    def train_epoch(self) -> dict[str, float]:
        x = torch.randn(8, 1)
        loss = ((self.network(x) - 3 * x - 0.1 * torch.randn(8, 1)) ** 2).mean()
        self.step(loss, 0, 1)
        return {"loss": float(loss.detach())}

    def validate(self) -> dict[str, float]:
        assert not self.network.training
        if self.wrong is not None and self.epoch == 2:
            return {"error": self.wrong}
        return {"error": abs(self.slope - 3)}

    def write_weights(self, path: Path) -> None:
        path.write_text(f"{self.network(torch.ones(64, 1)).mean().item()!r}")


def test_the_best_average_is_what_comes_out(tmp_path: Path) -> None:
    fit = Line(tmp_path, epochs=30, learning_rate=0.5, ema=0.5, weight_decay=0.0)
    fit.run()
    errors = [row["error"] for row in fit.history]
    assert fit.best_epoch == errors.index(min(errors))
    assert abs(fit.slope - 3) == pytest.approx(min(errors), abs=1e-6)
    # Dropout draws the slope on, past where it is best: the best epoch is not the last one.
    assert errors[0] > min(errors) + 1
    assert errors[-1] > min(errors) + 0.05


def test_files_do_not_depend_on_dropout_nor_the_callers_randomness_on_files(tmp_path: Path) -> None:
    fit = Line(tmp_path, epochs=4, learning_rate=0.1)
    fit.run()
    written = fit.weights_file.read_text()
    assert float(written) == pytest.approx(fit.slope, abs=1e-6)
    state = torch.get_rng_state()
    Line(tmp_path, epochs=4, learning_rate=0.1).run()
    assert torch.equal(torch.get_rng_state(), state)
    assert fit.weights_file.read_text() == written


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_judgement_that_is_no_number_ends_the_run(wrong: float, tmp_path: Path) -> None:
    fit = Line(tmp_path, wrong, epochs=5, learning_rate=0.1)
    with pytest.raises(TrainingError, match=f"error became {wrong} in epoch 2; lower learning_rate"):
        fit.run()
    again = Line(tmp_path, epochs=5, learning_rate=0.1)
    again.run(stop_after=1)
    assert again.epoch == 3  # it went on from the checkpoint of the second epoch


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data": None}, "data is empty"),
        ({"data": ["x"], "seed": -1}, "seed must not be negative"),
        ({"data": ["x"], "generator": ["flow"]}, "no generator"),
        ({"data": ["x"], "generator": "flow", "match_crystals": 0}, "match_crystals at least 1"),
        ({"data": ["x"], "generator": "gan", "codec": "density"}, "codec must be a mapping"),
        ({"data": ["x"], "network": {"heads": 0}}, "multiple of network.heads"),
        ({"data": ["x"], "generator": "vae", "network": {"heads": 0}}, "multiple of network.heads"),
    ],
)
def test_bad_settings_of_any_generator(values: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        generator_settings(values)


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(TrainingError, match="choose another `out`"):
        Line(tmp_path / "file")
