"""Campaigns that are killed, whose disk is full, whose files are damaged: nothing lost, nothing done twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ase.calculators.emt import EMT

sys.path.insert(0, str(Path(__file__).parent))
from _campaign_script import SETTINGS, FragileEMT, MortalEMT, RaisingEMT, campaign

from mlcalc.discovery import CampaignResult, CampaignSettings
from mlcalc.discovery._shards import read_records
from mlcalc.errors import WorkflowError

SCRIPT = Path(__file__).parent / "_campaign_script.py"


def comparable(folder: Path) -> Any:
    """Return ``report.json`` without times, and without digits that depend on what a neighbour list held before."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    del report["references"]["wall_time_s"]
    for cost in report["cost"].values():
        del cost["wall_time_s"]
    return rounded(report)


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(value, 4) + 0.0 if isinstance(value, float) else value


def counts(folder: Path) -> Counter[tuple[str, int]]:
    return Counter((record["stage"], record["index"]) for record in read_records(folder / "records"))


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
    for stage, number in (("relaxation", 15), ("phonons", 8), ("phonons on a mesh", 2), ("dynamics", 10)):
        killed(tmp_path, stage, number, 1)
    # Of the last record half a line is left.
    with (tmp_path / "records" / "main.jsonl").open("ab") as file:
        file.write(b'{"stage": "dynamics", "ind')
    before = counts(tmp_path)
    assert {stage for stage, _ in before} >= {"relaxation", "phonons", "phonons on a mesh"}
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
    for stage, number in (("relaxation", 2), ("phonons", 1), ("dynamics", 0)):
        killed(tmp_path, stage, number, 2)
    # Half a line of a worker's, too.
    part = next(path for path in (tmp_path / "records").glob("*.jsonl") if path.name != "main.jsonl")
    with part.open("ab") as file:
        file.write(b'{"stage": "relaxation", "index": 3, "stat')
    before = counts(tmp_path)
    assert sum(stage == "relaxation" for stage, _ in before) >= 2
    campaign(tmp_path, EMT, workers=2)
    assert comparable(tmp_path) == comparable(whole[0])
    assert counts(tmp_path) == counts(whole[0])


def test_workers_that_outlive_their_campaign_stop(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as executor, pytest.raises(WorkflowError, match="another call goes on with this camp"):
        campaign(tmp_path, _LateFactory(tmp_path / "records" / "owner"), executor=executor)
    assert not [stage for stage, _ in counts(tmp_path) if stage.startswith("relaxation")]


class _LateFactory:
    """Builds EMT in a worker, while another call takes over."""

    def __init__(self, owner: Path) -> None:
        self.owner = owner

    def __call__(self) -> EMT:
        self.owner.write_text("another", encoding="utf-8")
        return EMT()


def test_who_takes_a_worker_along_is_found(tmp_path: Path) -> None:
    settings = CampaignSettings(**{**vars(SETTINGS), "phonons": 0, "mesh_phonons": 0, "dynamics": 0})
    result = campaign(tmp_path, FragileEMT, settings=settings, workers=2)
    stages = {stage.name: stage for stage in result.stages}
    assert stages["relaxation"].failures == {"worker died": [3]}
    assert stages["relaxation"].passed == stages["relaxation"].entered - 1


def test_a_calculator_that_raises_is_counted(tmp_path: Path) -> None:
    result = campaign(tmp_path, RaisingEMT)
    stages = {stage.name: stage for stage in result.stages}
    assert stages["relaxation"].failures == {"ArithmeticError": [3]}
    assert stages["relaxation"].passed == stages["relaxation"].entered - 1


def test_a_worker_without_its_calculator_says_what_to_do(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as executor, pytest.raises(WorkflowError, match="worker cannot do its shard, ZeroDiv"):
        campaign(tmp_path, _Broken(), executor=executor)


class _Broken:
    def __call__(self) -> EMT:
        raise ZeroDivisionError("no such environment")


def test_a_full_disk_stops_it_and_it_goes_on(tmp_path: Path, whole: tuple[Path, CampaignResult]) -> None:
    room = (whole[0] / "records" / "main.jsonl").stat().st_size // 2
    code = (
        "import sys, resource\nfrom pathlib import Path\n"
        "sys.path.insert(0, sys.argv[1])\nimport _campaign_script as s\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)\n"
        "try:\n    s.campaign(Path(sys.argv[2]))\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    command = [sys.executable, "-c", code, str(SCRIPT.parent), str(tmp_path), str(room)]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
    assert "main.jsonl cannot be written: File too large; make room and give the same command again" in told
    assert counts(tmp_path)
    campaign(tmp_path)
    assert comparable(tmp_path) == comparable(whole[0])
    assert counts(tmp_path) == counts(whole[0])


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "phonons-12.jsonl").write_text('{"stage": "pho\n{}\n', encoding="utf-8")
    with pytest.raises(WorkflowError, match=r"phonons-12.jsonl, line 1: damaged record; delete the line to redo it"):
        campaign(tmp_path)
