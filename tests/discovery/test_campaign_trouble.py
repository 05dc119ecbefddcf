"""Campaigns in trouble: workers that die, a full disk, damaged records, calculators that raise."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

sys.path.insert(0, str(Path(__file__).parent))
from _campaign_script import SETTINGS, FragileEMT, RaisingEMT, campaign, counts

from mlcalc.discovery import CampaignSettings, ReferenceStructure, run_campaign
from mlcalc.errors import WorkflowError
from mlcalc.generators import Candidate, Provenance

SHORT = CampaignSettings(**{**vars(SETTINGS), "phonons": 0, "mesh_phonons": 0, "dynamics": 0})


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
    result = campaign(tmp_path, FragileEMT, settings=SHORT, workers=2)
    stages = {stage.name: stage for stage in result.stages}
    assert stages["relaxation"].failures == {"worker died": [3]}
    assert stages["relaxation"].passed == stages["relaxation"].entered - 1


def test_a_reference_that_takes_a_worker_along_is_found(tmp_path: Path) -> None:
    def one() -> Iterator[Candidate]:
        yield Candidate(bulk("Cu", a=3.6), Provenance("hand"))

    pair = ReferenceStructure("hexagonal", "by hand", bulk("Cu", "hcp", a=2.55, c=4.2))
    for _ in range(2):  # the second time from the records
        result = run_campaign(
            one, FragileEMT, tmp_path, elements=("Cu",), settings=SHORT, workers=2, references=lambda: [pair]
        )
        own = {source.source: source for source in result.references.sources}["by hand"]
        assert (own.offered, own.relaxed, own.failures) == (1, 0, {"worker died": ["hexagonal"]})
        assert result.references.missing == ()
    assert set(counts(tmp_path).values()) == {1}


def test_a_calculator_that_raises_is_counted(tmp_path: Path) -> None:
    result = campaign(tmp_path, RaisingEMT, settings=SHORT)
    stages = {stage.name: stage for stage in result.stages}
    assert stages["relaxation"].failures == {"ArithmeticError": [3]}
    assert stages["relaxation"].passed == stages["relaxation"].entered - 1


def test_a_worker_without_its_calculator_says_what_to_do(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as executor, pytest.raises(WorkflowError, match="worker cannot do its shard, ZeroDiv"):
        campaign(tmp_path, _Broken(), executor=executor)


class _Broken:
    def __call__(self) -> EMT:
        raise ZeroDivisionError("no such environment")


def test_a_full_disk_stops_it_and_it_goes_on(tmp_path: Path) -> None:
    code = (
        "import sys, resource\nfrom pathlib import Path\n"
        "sys.path.insert(0, sys.argv[1])\nimport _campaign_script as s\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)\n"
        "try:\n    s.campaign(Path(sys.argv[2]))\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path), "4000"]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
    assert "main.jsonl cannot be written: File too large; make room and give the same command again" in told
    before = counts(tmp_path)
    assert ("uniqueness", 1) in before
    assert not (tmp_path / "report.json").exists()
    campaign(tmp_path)
    after = counts(tmp_path)
    assert before < after
    assert set(after.values()) == {1}
    assert (tmp_path / "report.json").exists()


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "phonons-12.jsonl").write_text('{"stage": "pho\n{}\n', encoding="utf-8")
    with pytest.raises(WorkflowError, match=r"phonons-12.jsonl, line 1: damaged record; delete the line to redo it"):
        campaign(tmp_path)
