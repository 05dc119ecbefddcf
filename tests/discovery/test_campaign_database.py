"""Rows of a campaign in a shared database: a server of PostgreSQL, started here."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ase.db
import pytest
from ase.calculators.emt import EMT

sys.path.insert(0, str(Path(__file__).parent))
from _campaign_script import SETTINGS, campaign

from mlcalc.discovery import CampaignSettings
from mlcalc.workflows import WorkflowWarning

pytest.importorskip("ase_db_backends")
SHORT = CampaignSettings(**{**vars(SETTINGS), "phonons": 0, "mesh_phonons": 0, "dynamics": 0})


def programs() -> Path | None:
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


@pytest.fixture
def server() -> Iterator[str]:
    bin_folder = programs()
    if bin_folder is None:
        pytest.skip("no PostgreSQL: install postgresql to test shared databases")
    with tempfile.TemporaryDirectory(prefix="mlcalc-postgres-") as name:
        yield from _serve(bin_folder, Path(name))


def _serve(bin_folder: Path, folder: Path) -> Iterator[str]:
    user: str | None = None
    if os.getuid() == 0:  # its programs refuse to run as root
        user = "nobody"
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def call(*command: object) -> None:
        subprocess.run([str(word) for word in command], check=True, user=user, cwd="/", capture_output=True)

    call(bin_folder / "initdb", "-D", folder / "data", "-U", "me", "-A", "trust", "--no-sync")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    start = [bin_folder / "pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log", "-o", options, "start"]
    call(*start)
    try:
        yield f"postgresql://me@127.0.0.1:{port}/postgres"
    finally:
        call(bin_folder / "pg_ctl", "-D", folder / "data", "-m", "immediate", "stop")


def test_rows_are_shared_and_written_once(tmp_path: Path, server: str) -> None:
    unreachable = "postgresql://me:secret@127.0.0.1:1/postgres"
    with pytest.warns(WorkflowWarning, match="cannot be written, OperationalError.*the same command writes") as told:
        result = campaign(tmp_path, EMT, settings=SHORT, database=unreachable)
    assert "secret" not in str(told[0].message)
    assert (tmp_path / "report.json").exists()
    for _ in range(2):  # later, and again: rows are replaced
        campaign(tmp_path, EMT, settings=SHORT, database=server)
    with ase.db.connect(tmp_path / "campaign.db") as database:
        own = {row.candidate: row for row in database.select()}
    with ase.db.connect(server) as database:
        shared = {row.candidate: row for row in database.select()}
        assert database.count() == len(own) == result.candidates
    for index, row in own.items():
        assert shared[index].ok == row.ok
        assert shared[index].get("above_hull") == row.get("above_hull")
        assert shared[index].toatoms() == row.toatoms()
        assert shared[index].campaign.startswith("c")
    assert any(row.get("above_hull") is not None for row in shared.values())
