"""``mlcalc demo`` as a user types it, small, with the potential that ships, in both engines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.xdist_group("mpi")
def test_the_main_job_with_the_shipped_potential(tmp_path: Path) -> None:
    options = ("--out", "demo", "-n", "10", "--md-steps", "60", "--seed", "2")
    command = [str(Path(sys.executable).parent / "mlcalc"), "demo", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "200"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert str(tmp_path / "demo" / "report.html") in done.stdout
    assert "MD in LAMMPS …" in done.stdout
    record = json.loads((tmp_path / "demo" / "report.json").read_text(encoding="utf-8"))
    assert record["search"]["stages"][0]["entered"] == 10
    # The potential says how crowded its training data were, so that the funnel knows where it extrapolates.
    assert len(record["search"]["settings"]["trusted_neighbors_ang"]) == 12
    assert record["search"]["settings"]["largest_grade"] == 1.5
    outside = record["search"]["extrapolated"]
    assert len(outside) == record["search"]["stages"][3]["entered"] - record["search"]["stages"][3]["passed"] > 0
    assert all(c["grade"] > 1.5 or c["reason"] == "more crowded than the training data" for c in outside)
    assert all(c["grade"] <= 1.5 for c in record["search"]["relaxed"])
    assert record["parity"]["agrees"] is True
    assert [row["ranks"] for row in record["parity"]["rows"]] == [1, 2]
    for row in record["parity"]["rows"]:
        assert row["energy_difference_ev_per_atom"] < 1e-9
        assert row["force_difference_ev_per_ang"] < 1e-8
    assert record["parity"]["largest_force_ev_per_ang"] > 0.1  # not two zeros
    assert [run["engine"] for run in record["md"]["runs"]] == ["ase", "lammps"]
    assert record["potential"]["elements"] == ["Si"]
    page = (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    assert "in both" in page
    assert "Not ranked: extrapolated" in page
