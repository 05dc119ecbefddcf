from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ase.db
import ase.io
import pytest
from ase.build import bulk

sys.path.insert(0, str(Path(__file__).parent))
from _campaign_script import SETTINGS, MortalEMT, campaign, candidates

from mlcalc.discovery import CampaignResult, CampaignSettings, judge_novelty, run_campaign
from mlcalc.discovery._campaign_result import Gathered
from mlcalc.discovery._campaign_summary import summarise
from mlcalc.discovery._shards import read_records
from mlcalc.errors import WorkflowError
from mlcalc.generators import read_candidates


def comparable(result: CampaignResult) -> dict[str, Any]:
    values = result.to_dict()
    del values["cost"]
    del values["references"]["wall_time_s"]
    return rounded(values)


def rounded(value: Any) -> Any:
    """Leave out the digits that depend on what a calculator's neighbour list held before."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return round(value, 5) if isinstance(value, float) else value


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CampaignResult]:
    folder = tmp_path_factory.mktemp("campaign")
    return folder, campaign(folder)


def test_every_candidate_is_counted(whole: tuple[Path, CampaignResult]) -> None:
    folder, result = whole
    assert result.candidates == 6
    assert result.stages[0].entered == 6
    for before, after in zip(result.stages, result.stages[1:], strict=False):
        assert after.entered == before.passed
        assert after.entered == after.passed + sum(map(len, after.failures.values()))
    stages = {stage.name: stage for stage in result.stages}
    assert stages["distances"].failures == {"atoms too close": [0]}
    assert stages["uniqueness"].failures == {"duplicate": [2]}  # 5 has another volume, and ends in the same crystal
    assert stages["phonons"].passed >= 1
    assert stages["phonons on a mesh"].failures == {"not tried": [5]}
    assert stages["dynamics"].passed == 1
    assert json.loads((folder / "report.json").read_text(encoding="utf-8"))["candidates"] == 6


def test_copper_is_recognised_and_on_the_hull(whole: tuple[Path, CampaignResult]) -> None:
    folder, result = whole
    close_packed = next(c for c in result.ranked if 1 in c.members)
    assert 5 in close_packed.members
    assert close_packed.space_group == 225
    assert any("A_cF4_225_a" in name for name in close_packed.known_as)
    assert close_packed.energy_above_hull_ev_per_atom == pytest.approx(0.0, abs=2e-3)
    assert close_packed.formation_energy_ev_per_atom == pytest.approx(0.0, abs=2e-3)
    above = [c.energy_above_hull_ev_per_atom for c in result.ranked]
    assert above == sorted(above)
    tried = [c for c in result.ranked if c.held_in_dynamics is not None]
    assert [c.held_in_dynamics for c in tried] == [True]  # copper does not melt at 600 K
    assert result.references.missing == ()
    # The database has a row for each candidate; ranked.extxyz a frame for each crystal.
    with ase.db.connect(folder / "campaign.db") as database:
        rows = list(database.select())
    assert [row.candidate for row in rows] == list(range(6))
    assert rows[0].reason == "atoms too close"
    assert rows[1].crystal_rank == close_packed.rank
    assert len(ase.io.read(folder / "ranked.extxyz", ":")) == len(result.ranked)


def test_what_a_relaxation_leaves_takes_no_crystal_off_the_hull(whole: tuple[Path, CampaignResult]) -> None:
    folder, result = whole
    records: dict[str, dict[int, dict[str, Any]]] = {}
    for record in read_records(folder / "records"):
        if record["index"] != 3:  # hcp, which EMT puts below fcc
            if "enthalpy_ev" in record:
                record["enthalpy_ev"] += 1e-6
            records.setdefault(record["stage"], {}).setdefault(record["index"], record)
    pool = [candidate.atoms for candidate in read_candidates(folder / "candidates.extxyz")]
    fcc, bcc = summarise(Gathered(pool, records), result.references, result.settings).ranked
    assert fcc.known_as
    assert 1e-7 < fcc.energy_above_hull_ev_per_atom < 1e-5
    assert fcc.on_hull is True
    assert bcc.known_as
    assert bcc.on_hull is False


def test_any_executor_does_the_work(tmp_path: Path, whole: tuple[Path, CampaignResult]) -> None:
    with ThreadPoolExecutor(1) as executor:
        result = campaign(tmp_path, executor=executor)
    assert comparable(result) == comparable(whole[1])
    # The workers' records lie beside those of this process, a file a shard.
    names = {path.name for path in (tmp_path / "records").iterdir()}
    assert {"main.jsonl", "owner"} < names
    assert sum(name.startswith("phonons-on-a-mesh-") for name in names) == 1


def test_another_campaign_is_refused(whole: tuple[Path, CampaignResult]) -> None:
    folder, _ = whole
    with pytest.raises(WorkflowError, match="holds another campaign: md_steps was 20, now 1000"):
        run_campaign(
            candidates,
            MortalEMT,
            folder,
            elements=("Cu",),
            settings=CampaignSettings(**{**vars(SETTINGS), "md_steps": 1000}),
        )


def test_equal_crystals_and_known_ones() -> None:
    salt = bulk("NaCl", "rocksalt", a=5.64)
    cubic = bulk("NaCl", "rocksalt", a=5.66, cubic=True)
    cubic.rotate(30, "x", rotate_cell=True)
    shrunk = bulk("NaCl", "rocksalt", a=5.2)
    other = bulk("NaCl", "cesiumchloride", a=3.4)
    found = judge_novelty([salt, cubic, shrunk, other], [-3.0, -3.001, -2.5, -2.9], [("salt", salt, -3.0)])
    assert [n.same_as for n in found] == [1, 1, 2, 3]  # the lowest stands for a crystal
    assert [n.known_as for n in found] == [("salt",), ("salt",), (), ()]
    # A reference of quite another energy is another crystal.
    far = judge_novelty([salt], [-3.0], [("salt", salt, -4.0)])
    assert far[0].known_as == ()
