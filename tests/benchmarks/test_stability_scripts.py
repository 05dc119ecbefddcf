"""What the training of the stability score keeps apart, and what its figures count."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import ase.io.jsonio
import pytest
from ase.build import bulk

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "crystals" / "stability.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("stability_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["stability_script"] = module
    spec.loader.exec_module(module)
    return module


def test_chemical_systems_are_whole_in_one_part(script: ModuleType) -> None:
    parts = [script.part(f"A{k}-B", set()) for k in range(4000)]
    shares = {name: 100 * parts.count(name) / len(parts) for name in set(parts)}
    assert shares["test"] == pytest.approx(script.TEST, abs=2)
    assert shares["validation"] == pytest.approx(script.VALIDATION, abs=1.5)
    outside = next(f"A{k}-B" for k, name in enumerate(parts) if name == "training")
    assert script.part(outside, {outside}) == "test"
    assert script.system(bulk("NaCl", "rocksalt", a=5.6)) == script.system(bulk("ClNa", "cesiumchloride", a=3.4))


def test_scores_are_compared_by_hand(script: ModuleType) -> None:
    found = script.comparison([0.0, 1.0, None, 0.05, float("nan")], [0.0, 1.0, 5.0, 0.3, 0.0])
    assert found["crystals"] == 3
    assert found["mae"] == pytest.approx(0.25 / 3)
    assert found["median_absolute_error"] == 0.0
    assert found["spearman"] == pytest.approx(1.0)
    assert found["metastable_percent"] == pytest.approx(100 / 3)
    assert found["metastable_of_best_third_percent"] == 100.0


def test_a_block_made_twice_counts_once(script: ModuleType, tmp_path: Path) -> None:
    text = ase.io.jsonio.encode(bulk("Cu"))
    record = {"source": "random", "block": 0, "number": 0, "atoms": text, "relaxed": text}
    lines = [{**record, "e_above_hull": 0.1}, {**record, "e_above_hull": 0.1}, {**record, "number": 1, "reason": "x"}]
    lines += [{**record, "number": 2, "e_above_hull": None}, {"source": "random", "block": 0, "drawn": 2}]
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    assert [(r["number"], len(r["atoms"])) for r in script.read_labels(path)] == [(0, 1)]
