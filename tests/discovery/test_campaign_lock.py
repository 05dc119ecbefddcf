"""A campaign's database that another process holds."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ase.db
import pytest
from ase.calculators.emt import EMT

sys.path.insert(0, str(Path(__file__).parent))
from _campaign_script import SETTINGS, campaign, comparable, counts

from mlcalc.discovery import CampaignSettings, _campaign_database
from mlcalc.errors import WorkflowError

SHORT = CampaignSettings(**{**vars(SETTINGS), "phonons": 0, "mesh_phonons": 0, "dynamics": 0})
HOLD = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
connection.execute("UPDATE systems SET ctime = 1.0")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
connection.execute("COMMIT")
"""


@contextmanager
def held(path: Path, seconds: float) -> Iterator[None]:
    """Another process writes to the database for some time."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path), str(seconds)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"locked\n"
            yield
        finally:
            process.terminate()


def test_a_locked_database_is_waited_for_then_named_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign(tmp_path, EMT, settings=SHORT)
    path = tmp_path / "campaign.db"
    before, whole, records = path.read_bytes(), comparable(tmp_path), counts(tmp_path)
    (tmp_path / "report.json").unlink()
    (tmp_path / "report.html").unlink()
    with held(path, 60.0):
        monkeypatch.setattr(_campaign_database, "LOCK_WAIT_S", 1.0)
        start = time.monotonic()
        with pytest.raises(WorkflowError, match=r"campaign.db is locked by another process, after 1 s of waiting"):
            campaign(tmp_path, EMT, settings=SHORT)
        assert 0.9 < time.monotonic() - start < 30
    # All but the database is there, and that is what it was.
    assert path.read_bytes() == before
    assert comparable(tmp_path) == whole
    assert (tmp_path / "report.html").exists()
    assert not list(tmp_path.glob(".campaign.db*"))
    # Once it is free in time, it is written.
    monkeypatch.setattr(_campaign_database, "LOCK_WAIT_S", 60.0)
    with held(path, 2.0):
        start = time.monotonic()
        campaign(tmp_path, EMT, settings=SHORT)
        assert time.monotonic() - start > 0.5
    assert counts(tmp_path) == records
    with ase.db.connect(path) as database:
        rows = list(database.select())
    assert [row.candidate for row in rows] == list(range(6))
    assert all(row.ctime != 1.0 for row in rows)


def test_the_lock_of_ase_is_kept_and_a_stale_one_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign(tmp_path, EMT, settings=SHORT)
    mark = tmp_path / "campaign.db.lock"
    mark.touch()
    monkeypatch.setattr(_campaign_database, "LOCK_WAIT_S", 0.5)
    with pytest.raises(WorkflowError, match=r"campaign.db.lock is there after 0.5 s of waiting: another"):
        campaign(tmp_path, EMT, settings=SHORT)
    # Once it is gone, on it goes.
    monkeypatch.setattr(_campaign_database, "LOCK_WAIT_S", 60.0)
    remover = threading.Timer(1.5, mark.unlink)
    remover.start()
    campaign(tmp_path, EMT, settings=SHORT)
    remover.join()
    # What is no database at all is made anew.
    (tmp_path / "campaign.db").write_bytes(b"nothing " * 200)
    campaign(tmp_path, EMT, settings=SHORT)
    with ase.db.connect(tmp_path / "campaign.db") as database:
        assert database.count() == 6
    assert not mark.exists()
