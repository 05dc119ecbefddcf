"""The benchmarks of crystals and generators run, and count what they say they count."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from ase.build import bulk

from mlcalc.generators._weights import find_weights

FOLDER = Path(__file__).parents[2] / "benchmarks" / "crystals"


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("known") / "known.jsonl"
    rows = []
    for atoms in (bulk("Si"), bulk("NaCl", "rocksalt", a=5.6), bulk("Ti")):
        row = {
            "species": list(atoms.symbols),
            "cell": atoms.cell.tolist(),
            "frac": atoms.get_scaled_positions().tolist(),
        }
        rows.append(json.dumps(row))
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def run(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(FOLDER / script), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_round_trip_counts(known: Path, tmp_path: Path) -> None:
    printed = run("round_trip.py", str(known), "--symprec", "0.01", "--json", str(tmp_path / "r.json"))
    assert "both              3 of 3  100.000 %" in printed
    assert json.loads((tmp_path / "r.json").read_text())["both"] == 3


def test_figures_of_a_generator_and_its_card(known: Path, tmp_path: Path) -> None:
    figures_file = tmp_path / "f.json"
    known_formula = ("--formula", "NaCl", "--atoms", "4", "--reference", str(known))
    run("generate.py", "wyckoff", "-n", "20", "--threads", "1", *known_formula, "--json", str(figures_file))
    figures = json.loads(figures_file.read_text())
    assert figures["n"] == 20
    assert figures["new_formula_percent"] == 0.0
    assert 0 < figures["unique_percent"] <= 100
    assert figures["new_fingerprint_percent"] < 100  # rock salt is among what it proposes
    run("card.py", "--figures", str(figures_file), "--out", str(tmp_path / "card.md"))
    card = (tmp_path / "card.md").read_text(encoding="utf-8")
    shipped = find_weights("wyckoff").with_suffix(".md").read_text(encoding="utf-8")
    assert card.split("## What it draws")[0] == shipped.split("## What it draws")[0]


@pytest.fixture(scope="module")
def sets(known: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the sets that the scripts read, with a few crystals each."""
    folder = tmp_path_factory.mktemp("sets")
    for name in ("perov_5_train", "perov_5_val", "mp_crystals_train"):
        (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(known.read_bytes()))
    return folder


def test_codecs_are_measured(sets: Path, tmp_path: Path) -> None:
    printed = run("codecs.py", "-n", "0", "--data", str(sets), "--json", str(tmp_path / "c.json"))
    found = json.loads((tmp_path / "c.json").read_text())["mp_crystals_train"]
    assert {"bond", "density", "bond string"} <= set(found)
    for name in ("bond", "density", "bond string with lengths"):
        assert found[name]["crystals"] == 3
        assert found[name]["matched_percent"] == 100.0
        assert found[name]["rmse_ang"] < 1e-3
        assert f"| mp_crystals_train, 3 | {name} | 100.00 |" in printed


def test_the_gallery_is_put_on_its_page(sets: Path, known: Path, tmp_path: Path) -> None:
    page = tmp_path / "gallery.md"
    page.write_text("before\n<!-- written by benchmarks/crystals/gallery.py: begin -->\nold\n<!-- end -->\nafter\n")
    given = ("--data", str(sets), "--page", str(page), "--images", str(tmp_path), "-n", "1")
    run("gallery.py", *given, "--candidates", f"mine={known}")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "## The generator mine\n\n![Si, Fd-3m](gallery-mine.png)" in text
    for name in ("gallery-real-crystals", "gallery-mine", "codec-bond", "codec-density"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
