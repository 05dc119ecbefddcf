"""Config files: defaults, paths, and one clear error per mistake."""

import pytest

from mlcalc.errors import TrainingError
from mlcalc.training.settings import LossSettings, read_settings, settings_from_dict


def test_a_file_name_is_enough_and_paths_are_relative_to_the_config(tmp_path, monkeypatch):
    config = tmp_path / "c.yaml"
    config.write_text("data: {train: [mine.xyz]}\n")
    monkeypatch.chdir("/")
    settings = read_settings(config)
    assert settings.data.train == (str(tmp_path / "mine.xyz"),)
    assert settings.out == str(tmp_path / "potential")
    assert settings.model.architecture == "equivariant"


def test_environment_variables_in_paths(tmp_path, monkeypatch):
    config = tmp_path / "c.yaml"
    config.write_text("data: {train: [$SOMEWHERE/mine.xyz]}\n")
    monkeypatch.setenv("SOMEWHERE", "/data")
    assert read_settings(config).data.train == ("/data/mine.xyz",)


def test_dictionaries_round_trip():
    settings = settings_from_dict({"data": {"train": "a.xyz"}, "loss": {"energy": 3, "stress": [0, 1]}})
    assert settings.loss == LossSettings(energy=(3.0, 3.0), stress=(0.0, 1.0))
    assert settings_from_dict(settings.to_dict()) == settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data": {"train": ["a.xyz"]}, "optimiser": {}}, "unknown setting 'optimiser'"),
        ({"data": {"train": ["a.xyz"], "fraction": 1}}, "unknown setting data.'fraction'"),
        ({}, "data.train names no file"),
        ({"data": {"train": ["a.xyz"], "validation_fraction": 1.5}}, "between 0 and 1"),
        ({"data": {"train": ["a.xyz"]}, "optimizer": {"epochs": "many"}}, "optimizer.epochs must be a int"),
        ({"data": {"train": ["a.xyz"]}, "loss": {"energy": [1, 2, 3]}}, "loss.energy takes one number or"),
        ({"data": {"train": ["a.xyz"]}, "model": {"zbl": "perhaps"}}, "model.zbl must be true or false"),
        ({"data": {"train": ["a.xyz"], "folds": 4, "fold": 4}}, "data.fold lie between 0 and"),
        ({"data": {"train": ["a.xyz"]}, "model": 3}, "model. must be a mapping"),
    ],
)
def test_mistakes_are_named(values, message):
    with pytest.raises(TrainingError) as error:
        settings_from_dict(values)
    assert message in str(error.value)


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(TrainingError, match="no config file"):
        read_settings(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("data: [")
    with pytest.raises(TrainingError, match="not valid YAML"):
        read_settings(tmp_path / "bad.yaml")
