"""The comparison of speed with other codes: real, tiny runs of mlcalc and SNAP, and the arithmetic between rounds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mlcalc.deploy import save_weights
from mlcalc.potentials.base import PotentialInfo
from mlcalc.potentials.registry import build

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "speed"))

from _peer_summary import Sample, summarise, table

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "speed" / "peers.py"
SECONDS, ROUNDS, ATOMS = 0.4, 2, 64


def peers(out: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--out", str(out), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **variables})


def test_mlcalc_and_snap_are_timed_in_one_run(tmp_path: Path) -> None:
    torch.manual_seed(3)
    info = PotentialInfo(elements=("Si",), cutoff=4.0, layers=1, name="small")
    config = {"architecture": "schnet", "network": {"layers": 1, "channels": 8}, "zbl": False}
    weights = tmp_path / "small.safetensors"
    save_weights(build(config, info, torch.float64).eval(), weights)
    done = peers(
        tmp_path / "out",
        *("--only", "mlcalc", "snap", "--formats", "torchscript", "--dtypes", "float64", "--potential", str(weights)),
        *("--sizes", str(ATOMS), "--seconds", str(SECONDS), "--rounds", str(ROUNDS)),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "peers.json").read_text())
    assert not found["unavailable"]
    assert found["rounds"] == ROUNDS
    costs = {(r["engine"], r["peer"]): r for r in found["results"]}
    assert set(costs) == {("ase", "mlcalc eager"), ("lammps", "mlcalc torchscript"), ("lammps", "SNAP")}
    assert {p["peer"] for p in found["peers"]} == {peer for _, peer in costs}
    assert all(p["versions"] for p in found["peers"])
    for (_, peer), r in costs.items():
        # Every measurement lasts as long as it was told to: calls, atoms and units are those of the times.
        least, most = (r["calls"] * ATOMS * r["wall_ms"][end] * 1e-3 for end in ("low", "high"))
        assert least < 1.5 * ROUNDS * SECONDS
        assert most > 0.5 * ROUNDS * SECONDS
        assert r["rounds"] == ROUNDS
        assert 0.0 < r["cpu_share"] < 1.15  # one thread
        assert r["processor_ms"]["low"] <= r["processor_ms"]["median"] <= r["processor_ms"]["high"]
        if peer != "SNAP":
            assert r["times_mlcalc"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    snap, ours = costs["lammps", "SNAP"], costs["lammps", "mlcalc torchscript"]
    assert snap["reference"] == "mlcalc torchscript"
    ratio, theirs, own = snap["times_mlcalc"], snap["processor_ms"], ours["processor_ms"]
    assert theirs["low"] / own["high"] <= 1.001 * ratio["low"]
    assert ratio["high"] <= 1.001 * theirs["high"] / own["low"]
    assert (tmp_path / "out" / "peers.png").read_bytes().startswith(b"\x89PNG")
    assert done.stdout.count("| lammps | 64 | float64 |") == 2


def test_a_peer_that_cannot_be_installed_is_named_with_the_reason(tmp_path: Path) -> None:
    done = peers(
        tmp_path / "out",
        *("--only", "chgnet", "--sizes", "8", "--environments", str(tmp_path / "environments")),
        PIP_NO_INDEX="1",
        PIP_CONFIG_FILE=os.devnull,
    )
    assert done.returncode != 0
    assert "no peer could be measured" in done.stderr
    text = (tmp_path / "out" / "peers.json").read_text()
    assert "://" not in text
    (missing,) = json.loads(text)["unavailable"]
    assert missing["peer"] == "CHGNet"
    assert "No matching distribution found" in missing["reason"]
    assert "CHGNet, float32: not measured" in done.stdout


def sample(peer: str, number: int, processor_s: float) -> Sample:
    return Sample(
        number, "lammps", peer, "float64", atoms=50, calls=20, wall_s=2.0 * processor_s, processor_s=processor_s
    )


def test_ratios_are_taken_round_by_round() -> None:
    """A machine that is four times slower in one round widens the range of costs, not that of their ratio."""
    slow = (1.0, 2.0, 4.0)
    samples = [sample("mlcalc torchscript", n, s) for n, s in enumerate(slow)]
    samples += [sample("SNAP", n, 3.0 * s) for n, s in enumerate(slow)]
    ours, theirs = summarise(samples)
    assert (ours.peer, theirs.peer) == ("mlcalc torchscript", "SNAP")
    assert ours.processor_ms.median == pytest.approx(2.0)  # 2 s / (20 calls · 50 atoms)
    assert (theirs.processor_ms.low, theirs.processor_ms.high) == pytest.approx((3.0, 12.0))
    assert theirs.wall_ms.median == pytest.approx(12.0)
    assert theirs.cpu_share == pytest.approx(0.5)
    assert theirs.calls == 60
    assert theirs.times_mlcalc is not None
    assert (theirs.times_mlcalc.low, theirs.times_mlcalc.high) == pytest.approx((3.0, 3.0))
    assert "| 6.0000 | 3.0000–12.0000 | 12.0000 | 50 % | 3.00 | 3.00–3.00 |" in table([theirs])


def test_a_ratio_needs_mlcalc_with_the_same_numbers_and_atoms() -> None:
    theirs = sample("SNAP", 0, 1.0)
    for other in (
        replace(sample("mlcalc torchscript", 0, 1.0), dtype="float32"),
        replace(sample("mlcalc torchscript", 0, 1.0), atoms=64),
        replace(sample("mlcalc eager", 0, 1.0), engine="ase"),
        sample("mlcalc torchscript", 1, 1.0),
    ):
        (cost,) = (c for c in summarise([theirs, other]) if c.peer == "SNAP")
        assert cost.times_mlcalc is None
        assert cost.reference is None
    fast = sample("mlcalc aotinductor", 0, 0.25)
    (cost,) = (c for c in summarise([theirs, sample("mlcalc torchscript", 0, 1.0), fast]) if c.peer == "SNAP")
    assert cost.reference == "mlcalc aotinductor"
    assert cost.times_mlcalc is not None
    assert cost.times_mlcalc.median == pytest.approx(4.0)


def test_two_samples_of_a_round_are_refused() -> None:
    with pytest.raises(ValueError, match="second sample"):
        summarise([sample("SNAP", 0, 1.0), sample("SNAP", 0, 1.0)])
