"""``mlcalc discover``: a small campaign, gone on with, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
from ase.build import bulk

EMT = ["--calculator", "ase.calculators.emt:EMT"]
SMALL = ["--reference-atoms", 1, "--phonons", 1, "--dynamics", 0, "--max-steps", 100, "--fmax", 0.05]


def test_a_campaign_of_files_and_further_references(mlcalc, tmp_path: Path) -> None:
    ase.io.write(tmp_path / "mine.extxyz", [bulk("Cu", a=3.7), bulk("Cu", a=1.4), bulk("Ag", a=4.2)])
    ase.io.write(tmp_path / "known.extxyz", [bulk("Cu", "hcp", a=2.5, c=4.1)])
    call = ["discover", "--elements", "Cu", "--generator", "none", "--candidates", tmp_path / "mine.extxyz", *EMT]
    call += ["--references", tmp_path / "known.extxyz", *SMALL, "--out", tmp_path / "o"]
    status, stdout, _ = mlcalc(*call)
    assert status == 0
    report = json.loads((tmp_path / "o/report.json").read_text(encoding="utf-8"))
    assert report["candidates"] == 3
    rows = {row["formula"]: row for row in report["ranked"]}
    assert rows["Cu"]["dynamically_stable"] is True
    assert abs(rows["Cu"]["energy_above_hull_ev_per_atom"]) < 5e-3
    # Silver has no reference in a campaign about copper: not a number, and said.
    assert rows["Ag"]["energy_above_hull_ev_per_atom"] is None
    assert rows["Ag"]["rank"] == 2
    assert "unknown" in stdout
    stages = {stage["name"]: stage for stage in report["stages"]}
    assert stages["distances"]["failures"] == {"atoms too close": [1]}
    assert stages["energy above hull"]["failures"] == {"no reference of an element": [2]}
    sources = {source["source"]: source for source in report["references"]["sources"]}
    assert sources[str(tmp_path / "known.extxyz")]["offered"] == 1

    status, _, stderr = mlcalc(*call, "--seed", 7)
    assert status == 1
    assert "holds another campaign: seed was 0, now 7" in stderr


def test_what_cannot_be_is_said_before_any_work(mlcalc, tmp_path: Path) -> None:
    status, _, stderr = mlcalc("discover", "--elements", "Cu", "--generator", "none", *EMT, "--out", tmp_path / "o")
    assert status == 1
    assert "--generator none needs --candidates" in stderr
    missing = tmp_path / "nothing.xyz"
    status, _, stderr = mlcalc("discover", "--elements", "Cu", "--candidates", missing, *EMT, "--out", tmp_path / "o")
    assert status == 1
    assert f"no such file or folder: {missing}" in stderr
    status, _, stderr = mlcalc("discover", "--elements", "Cu", "--out", tmp_path / "o")
    assert status == 1
    assert "give either --potential" in stderr
    assert not (tmp_path / "o").exists()
