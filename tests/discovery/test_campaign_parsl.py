"""Campaigns through Parsl's own executor of pilot jobs, on this machine, with a worker killed on the way."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("parsl")
sys.path.insert(0, str(Path(__file__).parent))
from _campaign_script import SETTINGS, OnceFragileEMT, campaign, counts

from mlcalc.discovery import CampaignSettings
from mlcalc.discovery.parsl_pool import parsl_executor
from mlcalc.errors import WorkflowError

CONFIG = """
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

config = Config(
    executors=[
        HighThroughputExecutor(
            label="here",
            address="127.0.0.1",
            max_workers_per_node=2,
            provider=LocalProvider(init_blocks=1, max_blocks=1, worker_init={init!r}),
        )
    ],
    run_dir={folder!r},
    initialize_logging=False,
)
"""


def test_a_killed_worker_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]
    mark = tmp_path / "killed"
    init = f"export OMP_NUM_THREADS=1 MARK={mark} PYTHONPATH={':'.join(paths)}:$PYTHONPATH"
    config = tmp_path / "config.py"
    config.write_text(CONFIG.format(init=init, folder=str(tmp_path / "parsl")), encoding="utf-8")
    settings = CampaignSettings(**{**vars(SETTINGS), "mesh_phonons": 0})
    monkeypatch.setenv("MARK", "/dev/null")  # it exists: nobody dies in this process
    with parsl_executor(config) as executor:
        result = campaign(tmp_path / "campaign", OnceFragileEMT, settings=settings, executor=executor)
    assert int(mark.read_text(encoding="utf-8")) > 0  # the worker that is no more
    stages = {stage.name: stage for stage in result.stages}
    assert stages["relaxation"].failures == {}
    assert stages["relaxation"].passed == 4
    assert stages["dynamics"].passed == 1
    made = counts(tmp_path / "campaign")
    assert set(made.values()) == {1}
    assert {index for stage, index in made if stage == "relaxation with symmetry"} == {1, 3, 4, 5}
    # References are work like any other.
    offered = sum(source.offered for source in result.references.sources)
    assert sum(stage == "references" for stage, _ in made) == offered > 0
    assert list((tmp_path / "campaign" / "records").glob("references-*.jsonl"))


def test_what_is_wrong_with_a_config_is_said(tmp_path: Path) -> None:
    def told(text: str | None) -> str:
        path = tmp_path / "config.py"
        if text is not None:
            path.write_text(text, encoding="utf-8")
        with pytest.raises(WorkflowError) as caught, parsl_executor(path):
            pass
        return str(caught.value)

    assert "config.py: no such file; give a Python file that defines config" in told(None)
    assert "config.py: defines no config; it must define config = parsl.config.Config(…)" in told("other = 1")
    assert "config.py: config is a int; it must" in told("config = 1")
    assert "config.py cannot be run: NameError: name 'unheard_of' is not defined" in told("config = unheard_of")
