"""The candidates of a campaign as rows of ASE databases."""

from __future__ import annotations

import json
import sqlite3
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ase.db
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlcalc.discovery._campaign_result import CampaignResult, Gathered
from mlcalc.errors import WorkflowError
from mlcalc.files import atomic_path
from mlcalc.workflows import WorkflowWarning

#: How long another process may write to a database before a campaign gives up waiting, s.
LOCK_WAIT_S = 30.0
_POLL_S = 0.1


def write_database(path: Path, result: CampaignResult, gathered: Gathered) -> None:
    """Make the database anew from the records; a row a candidate, whatever became of it.

    One that another process writes to is not replaced under its hands, where what it writes would be lost.

    Raises:
        WorkflowError: another process has locked the database for longer than ``LOCK_WAIT_S``.
    """
    with (
        _locked(path, LOCK_WAIT_S),
        atomic_path(path) as temporary,
        ase.db.connect(temporary, type="db", use_lock_file=False) as database,
    ):
        for atoms, keys, data in _rows(result, gathered):
            database.write(atoms, key_value_pairs=keys, data=data)


@contextmanager
def _locked(path: Path, wait_s: float) -> Iterator[None]:
    """Wait for others, and hold SQLite's lock for writing of a database that is there; it ends with this process.

    The lock file that ASE's own commands use is waited for, not made: after a kill it would stay.
    """
    if not path.exists():
        yield
        return
    lost = "the campaign is whole on disk, and the same command writes its rows once the database is free"
    mark, end = path.with_name(f"{path.name}.lock"), time.monotonic() + wait_s
    while mark.exists():
        if time.monotonic() > end:
            raise WorkflowError(
                f"{mark} is there after {wait_s:g} s of waiting: another process writes to the database, or one that "
                f"did was killed, and then delete the file; {lost}"
            )
        time.sleep(_POLL_S)
    left = max(0.0, end - time.monotonic())
    with closing(sqlite3.connect(path, timeout=left, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.DatabaseError as error:
            # A file that is no database, or cannot be written to, has no lock either: it is replaced.
            if "locked" in str(error):
                raise WorkflowError(
                    f"{path} is locked by another process, after {wait_s:g} s of waiting: close what writes to it; "
                    f"{lost}"
                ) from error
        yield


def check_shared(url: str) -> None:
    """Make sure, before any work, that a database can be spoken to in principle.

    Raises:
        WorkflowError: not the address of a server, or the package for it is missing.
    """
    kind = url.split("://")[0]
    if "://" not in url or kind not in ("postgresql", "postgres"):
        raise WorkflowError(f"--database {url!r}: give postgresql://USER:PASSWORD@HOST:PORT/NAME")
    if find_spec("ase_db_backends") is None:
        raise WorkflowError("--database needs ase-db-backends: pip install 'mlcalc[postgresql]'")


def write_shared(url: str, result: CampaignResult, gathered: Gathered, campaign: str) -> None:
    """Write the rows of a campaign to a database that others use too; rows of an earlier call are replaced.

    Whatever goes wrong there is only a warning: the campaign itself is on disk, and the same call writes again.

    Args:
        url: of a server, as ``ase.db.connect`` takes it.
        result: of the campaign.
        gathered: its records.
        campaign: key ``campaign`` of its rows.

    Warns:
        WorkflowWarning: the database cannot be reached or written.
    """
    try:
        with ase.db.connect(url) as database:
            old = [row.id for row in database.select(campaign=campaign)]
            for atoms, keys, data in _rows(result, gathered):
                database.write(atoms, key_value_pairs={**keys, "campaign": campaign}, data=data)
            database.delete(old)
    except Exception as error:  # the driver's own errors, of which we know no base class
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        warnings.warn(
            f"the database {_without_password(url)} cannot be written, {type(error).__name__}: {first}. The campaign "
            "is whole on disk; the same command writes it there later",
            WorkflowWarning,
            stacklevel=2,
        )


def _without_password(url: str) -> str:
    kind, _, rest = url.partition("://")
    return f"{kind}://{rest.rpartition('@')[2]}"


def _rows(result: CampaignResult, gathered: Gathered) -> Iterator[tuple[Atoms, dict[str, Any], dict[str, Any]]]:
    ranks = {member: crystal for crystal in result.ranked for member in crystal.members}
    for index, given in enumerate(gathered.pool):
        reached, record = gathered.reached(index)
        relaxed = gathered.of("relaxation").get(index, {}).get("status") == "ok"
        atoms = gathered.final(index) if relaxed else given.copy()
        atoms.info = {}
        keys: dict[str, Any] = {"candidate": index, "stage": reached, "ok": record["status"] == "ok"}
        if record["status"] != "ok":
            keys["reason"] = record["reason"]
        if relaxed:
            atoms.calc = SinglePointCalculator(atoms, energy=gathered.last(index)["energy_ev"])
        if index in ranks:
            crystal = ranks[index]
            keys |= {"crystal_rank": crystal.rank, "known": bool(crystal.known_as)}
            numbers = {
                "above_hull": crystal.energy_above_hull_ev_per_atom,
                "free_energy": crystal.free_energy_ev_per_atom,
            }
            keys |= {key: value for key, value in numbers.items() if value is not None}
        stories = {stage: _story(gathered, stage, index) for stage in gathered.records if stage != "unreadable"}
        yield atoms, keys, {k: v for k, v in stories.items() if v}


def _story(gathered: Gathered, stage: str, index: int) -> dict[str, Any]:
    record = gathered.of(stage).get(index, {})
    return json.loads(json.dumps({k: v for k, v in record.items() if k not in ("atoms", "index", "stage")}))
