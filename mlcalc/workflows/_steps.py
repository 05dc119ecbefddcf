"""What a killed run goes on from: records of finished steps, and arrays, each with everything that they depend on."""

from __future__ import annotations

import json
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlcalc.errors import WorkflowError
from mlcalc.files import write_atomic
from mlcalc.records import jsonable, write_json


class FinishedSteps:
    """JSON records of steps that are done, in order; written after each one where there is a folder.

    Args:
        folder: where the file is; None keeps nothing on disk. Made if need be.
        name: of the file.
        identity: everything that a record depends on: structure, calculator, settings.

    Raises:
        WorkflowError: the file there belongs to another run, or is damaged.
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
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
            then, records = dict(document["identity"]), list(document["steps"])
        except (ValueError, KeyError, TypeError) as error:
            raise damaged(self.path, error) from error
        _refuse_another(self.path, then, self.identity)
        self.records = records

    def add(self, record: dict[str, Any]) -> None:
        """Keep the record of one more step."""
        self.records.append(jsonable(record))
        if self.path is not None:
            write_json(self.path, {"identity": self.identity, "steps": self.records})


def save_arrays(path: Path, identity: dict[str, Any], **arrays: Any) -> None:
    """Write arrays atomically to an NPZ file, with everything that they depend on."""
    buffer = BytesIO()
    text = json.dumps(jsonable(identity), sort_keys=True)
    np.savez(buffer, allow_pickle=False, identity=np.array(text), **arrays)
    write_atomic(path, buffer.getvalue())


def load_arrays(path: Path, identity: dict[str, Any]) -> dict[str, NDArray[Any]] | None:
    """Return what ``save_arrays`` wrote for the same ``identity``; None where there is no file.

    Raises:
        WorkflowError: the file belongs to another run, or is damaged.
    """
    if not path.exists():
        return None
    arrays, then = read_archive(path, "identity")
    _refuse_another(path, then, jsonable(identity))
    return arrays


def read_archive(path: Path, note: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the arrays of an NPZ file and the JSON object in its array ``note``.

    Raises:
        WorkflowError: the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return arrays, dict(json.loads(str(arrays.pop(note))))
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise damaged(path, error) from error


def _refuse_another(path: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    changed = [key for key in {**then, **now} if then.get(key) != now.get(key)]
    if changed:
        raise WorkflowError(
            f"{path} belongs to another run (different: {', '.join(changed)}): choose another folder, or delete it"
        )


def damaged(path: Path, error: Exception) -> WorkflowError:
    """Return the error that names a file which cannot be read, and the way out."""
    return WorkflowError(
        f"{path} is damaged ({type(error).__name__}: {error}): delete it; the steps that it held are then done again"
    )
