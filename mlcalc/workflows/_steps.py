"""Records of the finished steps of a workflow, kept in one file so that a killed run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlcalc.errors import WorkflowError
from mlcalc.records import jsonable, write_json


class FinishedSteps:
    """JSON records of steps that are done, in order; written after each one where there is a folder.

    Args:
        folder: where the file is; None keeps nothing on disk. Made if need be.
        name: of the file.
        identity: everything that a record depends on: structure, calculator, settings.

    Raises:
        WorkflowError: the file there belongs to another run.
    """

    def __init__(self, folder: str | Path | None, name: str, identity: dict[str, Any]) -> None:
        self.path = None if folder is None else Path(folder) / name
        self.identity = jsonable(identity)
        self.records: list[dict[str, Any]] = []
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            return
        document = json.loads(self.path.read_text(encoding="utf-8"))
        then, now = document["identity"], self.identity
        if then != now:
            changed = [key for key in {**then, **now} if then.get(key) != now.get(key)]
            raise WorkflowError(
                f"{self.path} belongs to another run (different: {', '.join(changed)}): "
                "choose another folder, or delete it"
            )
        self.records = document["steps"]

    def add(self, record: dict[str, Any]) -> None:
        """Keep the record of one more step."""
        self.records.append(jsonable(record))
        if self.path is not None:
            write_json(self.path, {"identity": self.identity, "steps": self.records})
