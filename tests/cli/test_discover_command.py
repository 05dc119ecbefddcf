"""``mlcalc discover``: a small campaign, gone on with, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import pytest
from ase.build import bulk

from mlcalc.generators import read_candidates

EMT = ["--calculator", "ase.calculators.emt:EMT"]
SMALL = [
    "--reference-atoms",
    1,
    "--phonons",
    1,
    "--mesh-phonons",
    0,
    "--dynamics",
    0,
    "--max-steps",
    100,
    "--fmax",
    0.05,
]


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


def test_two_processes_and_files_that_cannot_be_read(mlcalc, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, atoms in (("a", bulk("Cu", a=3.7)), ("c", bulk("Cu", "bcc", a=2.9)), ("d", bulk("Cu", a=3.3))):
        ase.io.write(folder / f"{name}.cif", atoms)
    (folder / "b.cif").write_text("data_nothing\n_cell_length_a x\n", encoding="utf-8")
    call = ["discover", "--elements", "Cu", "--generator", "none", "--candidates", folder, *EMT, *SMALL]
    status, stdout, stderr = mlcalc(*call, "--workers", 2, "--out", tmp_path / "o")
    assert status == 0, stderr
    report = json.loads((tmp_path / "o/report.json").read_text(encoding="utf-8"))
    assert report["candidates"] == 3
    assert len(report["unreadable"]) == 1
    assert "b.cif: cannot be read as a structure" in report["unreadable"][0]
    assert "left out:" in stdout
    # Each record was made once, by a worker.
    files = [path for path in (tmp_path / "o/records").glob("*.jsonl") if path.name.startswith("relaxation-")]
    made = [json.loads(line)["index"] for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    assert sorted(made) == [0, 0, 1, 1, 2, 2]  # with symmetry and without
    copper = report["ranked"][0]
    assert abs(copper["energy_above_hull_ev_per_atom"]) < 5e-3
    # Nothing but files that cannot be read is an error.
    for name in "acd":
        (folder / f"{name}.cif").unlink()
    status, _, stderr = mlcalc(*call, "--out", tmp_path / "p")
    assert status == 1
    assert "none of 1 CIF files can be read; the first:" in stderr


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
    start = ["discover", "--elements", "Cu", *EMT, "--out", tmp_path / "o"]
    for options, message in (
        (["--parsl", tmp_path / "none.py"], "none.py: no such file; give a Python file that defines config"),
        (["--parsl", tmp_path / "none.py", "--workers", 2], "--parsl brings workers of its own: leave --workers out"),
        (["--md-engine", "lammps"], "engine='lammps' runs potentials, not the calculator EMT"),
        (["--md-engine", "namd"], "md_engine 'namd': dynamics run in ase or lammps"),
        (["--free-energy-k", 300, "--mesh-phonons", 0], "free_energy_k needs mesh_phonons above 0"),
        (["--database", "mine.db"], "give postgresql://USER:PASSWORD@HOST:PORT/NAME"),
    ):
        status, _, stderr = mlcalc(*start, *options)
        assert status == 1
        assert message in " ".join(stderr.split())
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("name", ["flow", "gan", "vae", "wyckoff"])
def test_every_trained_generator_feeds_a_campaign(name: str, mlcalc, tmp_path: Path) -> None:
    call = [
        "discover",
        "--elements",
        "Al,Cu",
        "--generator",
        name,
        "-n",
        3,
        "--atoms",
        "2-5",
        "--seed",
        1,
        *EMT,
        *SMALL,
    ]
    status, _, stderr = mlcalc(*call, "--phonons", 0, "--out", tmp_path / "o")
    assert status == 0, stderr
    report = json.loads((tmp_path / "o/report.json").read_text(encoding="utf-8"))
    assert report["candidates"] == 3
    drawn = read_candidates(tmp_path / "o/candidates.extxyz")
    assert [(c.provenance.generator, set(c.atoms.symbols)) for c in drawn] == [(name, {"Al", "Cu"})] * 3
    stages = {stage["name"]: stage for stage in report["stages"]}
    # Who was not relaxed was stopped before, and is counted there.
    stopped = [k for stage in ("distances", "uniqueness") for ids in stages[stage]["failures"].values() for k in ids]
    assert stages["relaxation"]["entered"] == 3 - len(stopped) > 0
