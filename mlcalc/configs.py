"""Config files of trainings: nested dataclasses from YAML, with errors that name the setting."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from mlcalc.errors import TrainingError


def build_settings(cls: Any, values: Any, sections: Mapping[str, type], where: str = "") -> Any:
    """Return a dataclass built from what a config says; numbers and texts take the type of their default.

    Args:
        cls: dataclass with a default for every field.
        values: by field; a field whose default is a pair of numbers takes one number too, one of texts a single text.
        sections: fields that are dataclasses themselves.
        where: what comes before the names of the fields in errors, e.g. ``"model."``.

    Raises:
        TrainingError: naming an unknown setting or a wrong type.
    """
    if not isinstance(values, dict):
        raise TrainingError(f"{where or 'the config'} must be a mapping of settings, not {type(values).__name__}")
    known = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise TrainingError(f"unknown setting {where}{unknown[0]!r}; known here: {', '.join(known)}")
    built: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{where}{key}"
        if key in sections:
            built[key] = build_settings(sections[key], value, sections, f"{name}.")
        elif known[key].default_factory is dict:
            if not isinstance(value or {}, dict):
                raise TrainingError(f"{name} must be a mapping, not {value!r}")
            built[key] = dict(value or {})
        else:
            built[key] = _converted(value, known[key].default, name)
    return cls(**built)


def _converted(value: Any, default: Any, name: str) -> Any:
    if value is None:
        raise TrainingError(f"{name} is empty")
    if isinstance(default, tuple):
        numbers = bool(default) and isinstance(default[0], float)
        if isinstance(value, (str, int, float)):
            value = (value, value) if numbers else (value,)
        made = tuple(float(v) if numbers else str(v) for v in value)
        if default and len(made) != len(default):
            raise TrainingError(f"{name} takes one number or [start, end], not {value!r}")
        return made
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise TrainingError(f"{name} must be true or false, not {value!r}")
        return value
    kind: Any = type(default)
    try:
        if kind is int and float(value) != int(value):
            raise ValueError("not a whole number")
        return kind(value)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"{name} must be a {kind.__name__}, not {value!r}") from error


def read_config(path: str | Path) -> tuple[Any, Callable[[str], str]]:
    """Return what a YAML file says, and what makes its paths absolute.

    ``~`` and ``$VARIABLES`` are expanded, other relative paths are taken from the file's folder.

    Raises:
        TrainingError: the file is missing or no YAML.
    """
    path = Path(path)
    if not path.is_file():
        raise TrainingError(f"no config file {path}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise TrainingError(f"{path} is not valid YAML: {error}") from error
    folder = path.resolve().parent

    def resolve(name: str) -> str:
        expanded = Path(os.path.expandvars(name)).expanduser()
        # A variable comes from the shell, where relative means relative to the working directory.
        return str(Path.cwd() / expanded if "$" in name else folder / expanded)

    return values, resolve
