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


def test_ranks_are_compared(tmp_path: Path) -> None:
    """A halo that holds the whole crystal: each of two ranks computes all of it."""
    found = run(
        "speed/ranks.py",
        tmp_path / "ranks.json",
        *("--layers", "2", "--sizes", "64", "--steps", "2", "--repeats", "1", "--modes", "halo"),
        *("--plot", str(tmp_path / "ranks.png")),
    )
    one, halo = found["results"]
    assert [(r["mode"], r["ranks"]) for r in (one, halo)] == [("one rank", 1), ("halo", 2)]
    assert [len(r["peak_mib_per_rank"]) for r in (one, halo)] == [1, 2]
    assert one["edges_factor"] == 1.0
    assert halo["edges_factor"] == pytest.approx(2.0, abs=0.01)
    assert one["estimate_mib"] is None
    assert 0.1 < halo["estimate_mib"] < 100.0
    for r in (one, halo):
        assert 50.0 < min(r["peak_mib_per_rank"]) < 2000.0  # libtorch alone takes some hundreds
        assert r["ms_per_atom_and_step"] > 0.0
        assert r["speed_up"] == pytest.approx(one["ms_per_atom_and_step"] / r["ms_per_atom_and_step"])
    assert (tmp_path / "ranks.png").stat().st_size > 10_000


def test_ways_to_relax_many_are_compared(weights: Path, tmp_path: Path) -> None:
    found = run(
        "speed/batched.py",
        tmp_path / "batched.json",
        *("--potential", str(weights), "--structures", "4", "--rounds", "1", "--max-steps", "5", "--one-thread"),
        *("--methods", "one by one", "batched"),
    )
    alone, together = found["results"]
    assert [alone["method"], together["method"]] == ["one by one", "batched"]
    assert together["steps"] == alone["steps"] <= 20
    assert together["same_steps"] == 4
    assert together["speed_up_seconds"] == pytest.approx(alone["seconds"] / together["seconds"])
    assert 16 <= found["atoms"] <= 80


def test_sizes_are_compared(weights: Path, tmp_path: Path) -> None:
    found = run(
        "speed/scaling.py",
        tmp_path / "scaling.json",
        *("--potential", str(weights), "--sizes", "512", "64", "--steps", "4", "--repeats", "1"),
        *("--options", "", "block 32", "--plot", str(tmp_path / "scaling.png")),
    )
    rows = found["results"]
    assert [(r["options"], r["atoms"], r["steps"]) for r in rows] == [
        (options, atoms, steps) for options in ("", "block 32") for atoms, steps in ((64, 4), (512, 1))
    ]
    for small, large in (rows[:2], rows[2:]):
        assert small["times_the_smallest"] == 1.0
        assert small["kb_per_atom"] is None
        assert large["times_the_smallest"] == pytest.approx(
            large["ms_per_atom_and_step"] / small["ms_per_atom_and_step"]
        )
        assert large["kb_per_atom"] * 448 == pytest.approx(1024 * (large["peak_mib"] - small["peak_mib"]), abs=200)
        assert 100 < small["peak_mib"] < 2000
    assert (tmp_path / "scaling.png").stat().st_size > 1000


def test_a_force_call_is_taken_apart(tmp_path: Path) -> None:
    """Compiled operators are fewer and faster, and only they are there."""
    found = run(
        "speed/breakdown.py", tmp_path / "parts.json", "--potentials", "mlearn", "--sizes", "64", "--calls", "2"
    )
    compiled, plain = found["breakdown"]
    assert (compiled["way"], plain["way"]) == ("compiled", "plain")
    assert compiled["atoms"] == plain["atoms"] == 64
    for row in (compiled, plain):
        assert sum(row["shares"].values()) == pytest.approx(1.0)
        assert 0.1 < row["inside_operations"] <= 1.05
    own = [sum(share for name, share in row["shares"].items() if "mlcalc::" in name) for row in (compiled, plain)]
    assert own[0] > 0.3
    assert own[1] < 0.05  # the exchange, which is the identity
    assert compiled["operations_per_call"] < plain["operations_per_call"]
