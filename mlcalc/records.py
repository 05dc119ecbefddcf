"""Results as JSON, and what identifies the structure and the calculator behind them."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
from ase import Atoms

from mlcalc.files import write_atomic


def jsonable(value: Any) -> Any:
    """Turn arrays, paths, Atoms and nested containers into plain JSON types; NaN and infinities become None."""
    if isinstance(value, Atoms):
        return {
            "symbols": value.get_chemical_symbols(),
            "positions": value.positions.tolist(),
            "cell": value.cell.array.tolist(),
            "pbc": value.pbc.tolist(),
        }
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, np.ndarray):
        return jsonable(value.tolist())
    if isinstance(value, np.generic):
        return jsonable(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "to_dict"):
        return value.to_dict()
    return value


class Record:
    """What dataclasses of results share: ``to_dict``.

    Attributes:
        unsaved: names of fields that are objects for further work and no part of the record.
    """

    unsaved: ClassVar[tuple[str, ...]] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        names = [item.name for item in fields(cast(Any, self)) if item.name not in self.unsaved]
        return {name: jsonable(getattr(self, name)) for name in names}


def write_json(path: Path, document: Any) -> None:
    """Write ``document`` (anything ``jsonable`` takes) atomically."""
    write_atomic(path, json.dumps(jsonable(document), indent=1) + "\n")


def describe_calculator(calculator: Any) -> str:
    """Name a calculator in a result's settings: its class and what it was told."""
    kind = type(calculator)
    text = f"{kind.__module__}.{kind.__qualname__}"
    parameters = getattr(calculator, "parameters", None)
    if parameters:
        text += f"({', '.join(f'{key}={parameters[key]!r}' for key in sorted(parameters))})"
    return text


def structure_hash(atoms: Atoms) -> str:
    """Return a digest of a structure: elements, masses, cell, positions, momenta, initial moments and charges."""
    digest = hashlib.sha256()
    for array in (atoms.numbers, atoms.pbc, atoms.get_masses(), atoms.cell.array, atoms.positions, atoms.get_momenta()):
        digest.update(np.ascontiguousarray(array).tobytes())
    for name in ("initial_magmoms", "initial_charges"):
        if atoms.has(name) and atoms.get_array(name).any():
            digest.update(name.encode() + np.ascontiguousarray(atoms.get_array(name)).tobytes())
    return digest.hexdigest()
