"""Checkpoints and logs of trainings."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlcalc.errors import TrainingError
from mlcalc.files import write_atomic


def save_checkpoint(path: Path, fingerprint: str, state: Mapping[str, Any]) -> None:
    """Write tensors and numbers, and what run they belong to; whole or not at all."""
    import torch

    buffer = io.BytesIO()
    torch.save({"settings": fingerprint, **state}, buffer)
    write_atomic(path, buffer.getvalue())


def load_checkpoint(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """Return what was saved; None if there is nothing.

    Raises:
        TrainingError: the file cannot be read, or belongs to another run.
    """
    import torch

    if not path.is_file():
        return None
    try:
        saved: dict[str, Any] = torch.load(path, weights_only=True)
    except Exception as error:
        raise TrainingError(f"{path} cannot be read ({error}); delete it to start anew") from error
    if saved.get("settings") != fingerprint:
        raise TrainingError(
            f"{path} belongs to a run with other settings or data; choose another `out` folder or delete it"
        )
    return saved


def write_log(path: Path, fields: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a row an epoch as CSV, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fields)
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue())
