"""A data file and settings for a run of seconds."""

from pathlib import Path

import ase.io
import pytest
from emt_data import emt_frames


@pytest.fixture(scope="session")
def emt_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "emt.xyz"
    ase.io.write(path, emt_frames(24))
    return path


@pytest.fixture
def values(emt_file):
    return {
        "name": "emt",
        "seed": 5,
        "data": {
            "train": [str(emt_file)],
            "energy_key": "REF_energy",
            "forces_key": "REF_forces",
            "stress_key": "REF_stress",
            "validation_fraction": 0.2,
        },
        "model": {"cutoff": 4.0, "network": {"channels": 4, "n_radial": 5, "l_max": 2}},
        "optimizer": {"epochs": 6, "batch_size": 3, "warmup": 1},
    }
