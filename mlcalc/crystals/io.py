"""Reading sets of crystals with labels."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import ase.io
from ase import Atoms

from mlcalc.errors import CrystalError


@dataclass(frozen=True)
class LabelledCrystal:
    """One crystal and what is known about it.

    Attributes:
        atoms: the structure.
        labels: numbers by name, as in the file; what is missing or not a number is left out.
        name: how the file names it, or its position there.
    """

    atoms: Atoms
    labels: dict[str, float]
    name: str


def read_crystals(path: str | Path) -> list[LabelledCrystal]:
    """Read crystals from JSON lines or any file that ASE reads.

    Args:
        path: ``.jsonl`` or ``.jsonl.gz``, one object a line with ``cell`` (3, 3) in Å, ``species`` and ``frac``
            (fractional coordinates), everything numeric beside them or under ``labels`` being a label; or a file of
            structures, whose ``info`` holds the labels.

    Raises:
        CrystalError: no such file, or a line or file that cannot be read (named).
    """
    path = Path(path)
    if not path.is_file():
        raise CrystalError(f"no file {path}")
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        try:
            frames = ase.io.read(path, index=":")
        except Exception as error:
            raise CrystalError(f"{path}: cannot be read as structures ({type(error).__name__}: {error})") from error
        frames = frames if isinstance(frames, list) else [frames]
        return [LabelledCrystal(a, _numbers(a.info), str(k)) for k, a in enumerate(frames)]
    found = []
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    for k, line in enumerate(content.decode("utf-8").splitlines()):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            atoms = Atoms(row["species"], cell=row["cell"], scaled_positions=row["frac"], pbc=True)
        except (KeyError, TypeError, ValueError) as error:
            raise CrystalError(f"{path}, line {k + 1}: {type(error).__name__}: {error}") from error
        labels = row.get("labels")
        inner = _numbers(labels) if isinstance(labels, dict) else {}
        found.append(LabelledCrystal(atoms, _numbers(row) | inner, str(row.get("id", k))))
    return found


def _numbers(values: dict[str, object]) -> dict[str, float]:
    return {
        k: float(v)
        for k, v in values.items()
        if isinstance(v, (int, float)) and not isinstance(v, bool) and v == v  # not NaN
    }
