"""Append-only JSON lines that survive a kill at any moment."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from mlcalc.errors import WorkflowError
from mlcalc.files import write_atomic

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskFullError(WorkflowError):
    """A campaign cannot write; it stops, since whatever comes next could not be kept either."""


@contextmanager
def enough_room(where: Path) -> Iterator[None]:
    """Turn the operating system's word for a full disk into one that says how to go on.

    Raises:
        DiskFullError: the disk is full, or a quota or limit is reached.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise DiskFullError(
            f"{where} cannot be written: {error.strerror}; make room and give the same command again, nothing on disk "
            "is lost"
        ) from error


class Journal:
    """One JSON document a line; each line is on disk before ``append`` returns.

    A line cut short by a kill is dropped on the next opening. One process at a time holds the file.

    Args:
        path: the file; made if missing.

    Raises:
        WorkflowError: another process holds the file, a line in its middle is damaged, or the disk is full.
    """

    def __init__(self, path: Path):
        self.path = path
        # Without a buffer: what could not be written must not come again when the file is closed.
        self._file = open(path, "a+b", buffering=0)  # noqa: SIM115 - closed in close()
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise WorkflowError(f"{path} is in use by another process; wait for it or choose another folder") from None
        self._records = self._load()

    def _load(self) -> list[dict[str, Any]]:
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._file.truncate(whole)
        records = []
        for number, line in enumerate(content[:whole].splitlines(), start=1):
            try:
                records.append(json.loads(line))
            except ValueError:
                self._file.close()
                raise WorkflowError(f"{self.path}, line {number}: damaged record; delete the line to redo it") from None
        return records

    @property
    def records(self) -> list[dict[str, Any]]:
        """Everything appended so far, in order."""
        return list(self._records)

    def append(self, record: dict[str, Any]) -> None:
        """Add one record and wait until it is on disk.

        Raises:
            DiskFullError: the disk is full.
        """
        line = json.dumps(record, allow_nan=False).encode() + b"\n"
        with enough_room(self.path):
            while line:
                line = line[self._file.write(line) :]
            os.fsync(self._file.fileno())
        self._records.append(record)

    def close(self) -> None:
        """Let the file go."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def claim_folder(
    folder: Path, document: dict[str, Any], before: Mapping[str, Mapping[str, Any]] | None = None
) -> list[str]:
    """Write what the campaign is, or make sure that it is the one already there.

    Args:
        folder: of the campaign; it is there.
        document: parts by name, each with its values by key; JSON-ready.
        before: by part and key, what stands for values that a folder of an earlier version does not name. They are
            written there, so that the folder is bound to them from now on.

    Returns:
        Keys whose values were taken from ``before``.

    Raises:
        WorkflowError: the folder holds another campaign; what differs first is named.
    """
    path = folder / "campaign.json"
    document = json.loads(json.dumps(document))
    if not path.exists():
        write_atomic(path, json.dumps(document, indent=1))
        return []
    there = json.loads(path.read_text(encoding="utf-8"))
    taken: list[str] = []
    for part, values in json.loads(json.dumps(before or {})).items():
        missing = {key: value for key, value in values.items() if key not in there.get(part, {})}
        there[part] = {**there.get(part, {}), **missing}
        taken += missing
    for part, values in document.items():
        for key, old, new in _differences(there.get(part, {}), values):
            raise WorkflowError(
                f"{folder} holds another campaign: {key} was {old!r}, now {new!r}; choose another folder"
            )
    if taken:
        write_atomic(path, json.dumps(there, indent=1))
    return taken


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield where two documents differ, "key, key within it", and both values there."""
    for key in sorted({*old, *new}):
        one, two = old.get(key), new.get(key)
        if isinstance(one, dict) and isinstance(two, dict):
            yield from ((f"{key}, {inner}", a, b) for inner, a, b in _differences(one, two))
        elif one != two:
            yield key, one, two
