"""Campaigns that are killed go on: nothing lost, nothing done twice."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from _campaign_script import MortalEMT, campaign, comparable, counts

from mlcalc.discovery import CampaignResult

SCRIPT = Path(__file__).parent / "_campaign_script.py"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CampaignResult]:
    folder = tmp_path_factory.mktemp("campaign")
    return folder, campaign(folder)


def killed(folder: Path, stage: str, number: int, workers: int) -> None:
    command = [sys.executable, str(SCRIPT), str(folder), stage, str(number), str(workers)]
    ended = subprocess.run(command, check=False, timeout=300)
    assert ended.returncode == -signal.SIGKILL
    assert not (folder / "report.json").exists()


def test_killed_anywhere_it_goes_on(tmp_path: Path, whole: tuple[Path, CampaignResult]) -> None:
    for stage, number in (
        ("relaxation", 15),
        ("references", 30),
        ("phonons", 2),
        ("phonons on a mesh", 2),
        ("dynamics", 10),
    ):
        killed(tmp_path, stage, number, 1)
    # Of the last record half a line is left.
    with (tmp_path / "records" / "main.jsonl").open("ab") as file:
        file.write(b'{"stage": "dynamics", "ind')
    before = counts(tmp_path)
    assert {stage for stage, _ in before} >= {"relaxation", "references", "phonons", "phonons on a mesh"}
    MortalEMT.calls.clear()
    campaign(tmp_path)
    assert set(MortalEMT.calls) == {"dynamics"}
    assert comparable(tmp_path) == comparable(whole[0])
    assert counts(tmp_path) == counts(whole[0])
    assert set(counts(tmp_path).values()) == {1}
    MortalEMT.calls.clear()
    campaign(tmp_path)
    assert not MortalEMT.calls
    assert comparable(tmp_path) == comparable(whole[0])


def test_killed_with_its_workers_it_goes_on(tmp_path: Path, whole: tuple[Path, CampaignResult]) -> None:
    for stage, number in (("relaxation", 2), ("references", 2), ("phonons", 1)):
        killed(tmp_path, stage, number, 2)
        if stage == "references":  # relaxed by the workers, and on disk whether the cache has them or not
            relaxed = [file.name for file in (tmp_path / "records").glob("references-*.jsonl")]
            assert sum(name == "references" for name, _ in counts(tmp_path)) >= 2
            assert relaxed
    # Half a line of a worker's, too.
    part = next(path for path in (tmp_path / "records").glob("*.jsonl") if path.name != "main.jsonl")
    with part.open("ab") as file:
        file.write(b'{"stage": "relaxation", "index": 3, "stat')
    before = counts(tmp_path)
    assert sum(stage == "relaxation" for stage, _ in before) >= 2
    campaign(tmp_path, workers=2)
    assert comparable(tmp_path) == comparable(whole[0])
    assert counts(tmp_path) == counts(whole[0])
