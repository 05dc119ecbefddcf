"""Committees from the command line and from YAML."""

from pathlib import Path

import pytest
from ase.build import bulk


@pytest.mark.parametrize(
    ("words", "config", "expected"),
    [
        (["-p", "mlearn"], None, "'mlearn'"),
        (["--potential", "mlearn", "--potential", "mlearn"], None, "['mlearn', 'mlearn']"),
        (["-p", "mlearn,mlearn", "-p", "mlearn"], None, "['mlearn', 'mlearn', 'mlearn']"),
        ([], "potential: mlearn", "'mlearn'"),
        ([], "potential: [mlearn, mlearn]", "['mlearn', 'mlearn']"),
        (["-p", "mlearn"], "potential: [mlearn, mlearn]", "'mlearn'"),
    ],
)
def test_potentials_are_told(mlcalc, tmp_path: Path, words: list[str], config: str | None, expected: str) -> None:
    bulk("Si").write(tmp_path / "POSCAR")
    if config:
        (tmp_path / "c.yaml").write_text(config)
        words = [*words, "--config", str(tmp_path / "c.yaml")]
    status, _, stderr = mlcalc("relax", tmp_path / "POSCAR", "--out", tmp_path / "o", *words)
    assert status == 0, stderr
    assert f"potential={expected}," in (tmp_path / "o/relax.json").read_text()
