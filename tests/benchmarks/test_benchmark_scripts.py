"""The benchmarks run and their numbers fit together, on a small network with random weights."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mlcalc.deploy import save_weights
from mlcalc.potentials.base import PotentialInfo
from mlcalc.potentials.registry import build

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    info = PotentialInfo(elements=("Si",), cutoff=4.0, layers=1, name="small")
    config = {"architecture": "schnet", "network": {"layers": 1, "channels": 8}, "zbl": False}
    path = tmp_path_factory.mktemp("benchmarks") / "small.safetensors"
    save_weights(build(config, info, torch.float64).eval(), path)
    return path


def run(script: str, out: Path, *arguments: str) -> Any:
    command = [sys.executable, str(BENCHMARKS / script), *arguments, "--json", str(out)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


def test_parts_of_a_step_make_up_the_whole(weights: Path, tmp_path: Path) -> None:
    found = run(
        "speed/step.py",
        tmp_path / "speed.json",
        *("--potential", str(weights), "--sizes", "64", "--dtypes", "float32", "--steps", "20", "--repeats", "3"),
    )
    found_kinds = [(r["engine"], r["format"]) for r in found["results"]]
    assert found_kinds == [("ase", "eager"), ("ase", "torchscript"), ("lammps", "torchscript")]
    for r in found["results"]:
        parts = [r[f"{name}_ms"] for name in ("list", "edges", "model")]
        assert all(part >= 0.0 for part in parts)
        assert r["model_ms"] > 0.0
        assert 0.0 < r["total_ms"] < 50.0
        # Medians of parts; far apart only if a timer counts something else, or in other units.
        assert sum(parts) == pytest.approx(r["total_ms"], rel=0.8)
        assert 10.0 < r["edges_per_atom"] < 22.0  # 4 + 12 within 4 Å in the crystal, which flies apart here
        assert 0.0 < r["cpu_share"] < 1.1


def test_drift_is_measured_in_both_engines(weights: Path, tmp_path: Path) -> None:
    found = run(
        "drift/nve.py",
        tmp_path / "drift.json",
        *("--potential", str(weights), "--atoms", "8", "--ps", "0.1", "--warm-ps", "0.02"),
        *("--engines", "ase", "lammps"),
    )
    assert [r["engine"] for r in found["results"]] == ["ase", "lammps"]
    for r in found["results"]:
        assert math.isfinite(r["drift_ev_per_atom_per_ps"])
        assert r["drift_ev_per_atom_per_ps"] != 0.0
        assert r["fluctuation_ev_per_atom"] < 1e-3
        assert 10.0 < r["temperature_k"] < 2000.0
