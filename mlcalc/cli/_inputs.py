"""What the workflow commands share: YAML options, structures from files, progress, where results go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
import yaml

from mlcalc.errors import WorkflowError


def _read_config(context: typer.Context, path: Optional[Path]) -> Optional[Path]:
    """Make the file's values the defaults of this command, so that the command line wins."""
    if path is None:
        return None
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise WorkflowError(f"--config {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise WorkflowError(f"--config {path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise WorkflowError(f"--config {path}: expected `option: value` lines")
    names = {
        option.lstrip("-").replace("-", "_"): str(item.name)
        for item in context.command.params
        for option in item.opts
        if item.name not in ("config", "help") and (option.startswith("--") or not option.startswith("-"))
    }
    given = {str(key).replace("-", "_"): value for key, value in values.items()}
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise WorkflowError(f"--config {path}: unknown option {', '.join(unknown)}; known: {', '.join(sorted(names))}")
    repeatable = {str(item.name) for item in context.command.params if getattr(item, "multiple", False)}
    for key, value in given.items():
        if names[key] in repeatable and not isinstance(value, list):
            given[key] = [value]
    context.default_map = {**(context.default_map or {}), **{names[key]: value for key, value in given.items()}}
    return path


ConfigOption = Annotated[
    Optional[Path],
    typer.Option(
        "--config", is_eager=True, callback=_read_config, help="YAML file of options; the command line wins over it."
    ),
]
FilesArgument = Annotated[list[Path], typer.Argument(help="Structures: anything ASE reads; all frames of each.")]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder for results.")]


def read_structures(files: list[Path]) -> list[tuple[str, Any]]:
    """Return (unique name, Atoms) of every frame in ``files``.

    Raises:
        WorkflowError: a file that is missing, empty or not a structure.
    """
    from ase.io import read

    found: list[tuple[str, Any]] = []
    for path in files:
        if not path.is_file():
            raise WorkflowError(f"{path}: no such file")
        try:
            frames = read(path, ":")
        except Exception as error:  # every format of ASE has errors of its own
            raise WorkflowError(f"{path} cannot be read as a structure: {type(error).__name__}: {error}") from error
        if not frames:
            raise WorkflowError(f"{path} holds no structures")
        for index, atoms in enumerate(frames):
            found.append((path.stem if len(frames) == 1 else f"{path.stem}-{index:04d}", atoms))
    names: dict[str, int] = {}
    unique = []
    for name, atoms in found:
        names[name] = names.get(name, 0) + 1
        unique.append((name if names[name] == 1 else f"{name}.{names[name]}", atoms))
    return unique


def folder_of(out: Path, name: str, count: int) -> Path:
    """Return ``out`` for a single structure, ``out/name`` for one of several; made if need be."""
    folder = out if count == 1 else out / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def progress_bar(title: str, total: int | None) -> Iterator[Callable[[int, str], None]]:
    """Yield ``update(done, note)`` of a progress bar on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=total, note="")

        def update(done: int, note: str) -> None:
            bar.update(task, completed=done, note=note)

        yield update


def three_integers(text: str | None, option: str) -> tuple[int, int, int] | None:
    """Read ``"2 2 2"``, ``"2,2,2"``, ``"2x2x2"`` or ``"2"``.

    Raises:
        WorkflowError: anything else, or integers below 1.
    """
    if text is None:
        return None
    parts = str(text).strip("[]() ").replace("x", " ").replace(",", " ").split()
    try:
        numbers = [int(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        numbers = numbers * 3
    if len(numbers) != 3 or min(numbers) < 1:
        raise WorkflowError(f"{option} {text!r}: give one or three integers above 0, e.g. '2 2 2'")
    return numbers[0], numbers[1], numbers[2]


def length_or_three_integers(text: str, option: str) -> float | tuple[int, int, int]:
    """Read a mesh: ``"50.0"`` is a length in Å, ``"2 2 2"`` are numbers of points.

    Raises:
        WorkflowError: anything else, or a length that is not positive.
    """
    try:
        length = float(text)
    except ValueError:
        return three_integers(text, option) or (1, 1, 1)
    if not 0 < length < float("inf"):
        raise WorkflowError(f"{option} {text!r}: a length must be positive")
    return length


def numbers(text: str, option: str) -> list[float]:
    """Read ``"0.1 0.2"``, ``"0.1, 0.2"`` or ``"[0.1, 0.2]"``.

    Raises:
        WorkflowError: anything else.
    """
    try:
        return [float(part) for part in str(text).strip("[]() ").replace(",", " ").split()]
    except ValueError as error:
        raise WorkflowError(f"{option} {text!r}: give numbers, e.g. '0.1 0.2'") from error
