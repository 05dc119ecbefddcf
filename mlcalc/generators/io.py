"""Candidates on disk: one multi-frame extended XYZ file, or a folder of CIF files with one JSON of provenance."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import ase.io
from ase import Atoms

from mlcalc.errors import GeneratorError
from mlcalc.files import atomic_path, write_atomic
from mlcalc.generators.base import Candidate, Provenance

_KEY = "mlcalc_provenance"
_SIDE_FILE = "provenance.json"
# What ASE's extended XYZ brings back as it was; quotes, backslashes, line ends and all beyond ASCII are escaped.
_SAFE = "".join(chr(code) for code in range(32, 127) if chr(code) not in '%"\\')


def write_candidates(path: str | Path, candidates: Iterable[Candidate]) -> int:
    """Write candidates to ``path``: extended XYZ if it ends in ``.extxyz`` or ``.xyz``, else a folder of CIF files.

    The extended XYZ file is written beside its final name and renamed, so that it is whole or not there.

    Returns:
        How many were written.
    """
    path = Path(path)
    if path.suffix not in (".extxyz", ".xyz"):
        return _write_cifs(path, candidates)
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for candidate in candidates:
            ase.io.write(file, _with_info(candidate), format="extxyz")
            count += 1
    return count


def read_candidates(path: str | Path) -> Iterator[Candidate]:
    """Read candidates back, or take every frame of any file ASE can read as a candidate of its own.

    Args:
        path: a file, or a folder of CIF files.

    Raises:
        GeneratorError: nothing there, or a file that cannot be read (named).
    """
    path = Path(path)
    if path.is_dir():
        yield from _read_folder(path)
        return
    if not path.exists():
        raise GeneratorError(f"{path}: no such file or folder of candidates")
    for index, atoms in enumerate(_read(path)):
        yield _from_info(atoms, path, index)


@dataclass(frozen=True)
class Unreadable:
    """A file that was to be a candidate and cannot be read, and why."""

    file: str
    reason: str


def read_what_can_be(path: str | Path) -> Iterator[Candidate | Unreadable]:
    """Read candidates as ``read_candidates`` does; of a folder, files that cannot be read come as ``Unreadable``.

    Raises:
        GeneratorError: nothing there, a single file that cannot be read, or a folder of nothing but such files.
    """
    path = Path(path)
    if not path.is_dir():
        yield from read_candidates(path)
        return
    known, files = _folder(path)
    good = 0
    bad: list[Unreadable] = []
    for index, file in enumerate(files):
        try:
            found = list(_of_file(file, index, known))
            if not found:
                raise GeneratorError(f"{file}: cannot be read as a structure (it holds none)")
        except GeneratorError as error:
            bad.append(Unreadable(str(file), str(error)))
            yield bad[-1]
            continue
        good += 1
        yield from found
    if not good:
        raise GeneratorError(f"{path}: none of {len(files)} CIF files can be read; the first: {bad[0].reason}")


def _with_info(candidate: Candidate) -> Atoms:
    atoms = candidate.atoms.copy()
    atoms.calc = None
    p = candidate.provenance
    atoms.info[_KEY] = json.dumps(_texts(p.to_dict(), lambda text: quote(text, safe=_SAFE)))
    # The two that people look for, in plain sight.
    atoms.info["generator"] = p.generator
    if p.found_space_group is not None:
        atoms.info["space_group"] = p.found_space_group
    return atoms


def _from_info(atoms: Atoms, path: Path, index: int) -> Candidate:
    stored = atoms.info.pop(_KEY, None)
    if stored is None:
        return Candidate(atoms, Provenance(generator="file", index=index, details={"file": str(path)}))
    atoms.info.pop("generator", None)
    atoms.info.pop("space_group", None)
    # ASE turns what looks like JSON into dictionaries on reading.
    values = stored if isinstance(stored, dict) else json.loads(stored)
    return Candidate(atoms, Provenance.from_dict(_texts(values, unquote)))


def _texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return JSON data with all texts changed, names too."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(key): _texts(one, change) for key, one in value.items()}
    return [_texts(one, change) for one in value] if isinstance(value, list | tuple) else value


def _read(path: Path) -> list[Atoms]:
    try:
        frames = ase.io.read(path, index=":")
    except Exception as error:
        raise GeneratorError(f"{path}: cannot be read as a structure ({type(error).__name__}: {error})") from error
    return frames if isinstance(frames, list) else [frames]


def _write_cifs(folder: Path, candidates: Iterable[Candidate]) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    provenance: dict[str, dict[str, object]] = {}
    for candidate in candidates:
        name = f"{len(provenance):05d}_{candidate.atoms.get_chemical_formula(empirical=True)}.cif"
        ase.io.write(folder / name, candidate.atoms, format="cif")
        provenance[name] = candidate.provenance.to_dict()
    write_atomic(folder / _SIDE_FILE, json.dumps(provenance, indent=1))
    return len(provenance)


def _read_folder(folder: Path) -> Iterator[Candidate]:
    known, files = _folder(folder)
    for index, file in enumerate(files):
        yield from _of_file(file, index, known)


def _folder(folder: Path) -> tuple[dict[str, dict[str, Any]], list[Path]]:
    """Return the provenance that is known, and the CIF files."""
    files = sorted(folder.glob("*.cif"))
    if not files:
        raise GeneratorError(f"{folder}: a folder without CIF files")
    side = folder / _SIDE_FILE
    return json.loads(side.read_text(encoding="utf-8")) if side.exists() else {}, files


def _of_file(file: Path, index: int, known: dict[str, dict[str, Any]]) -> Iterator[Candidate]:
    for atoms in _read(file):
        if file.name in known:
            atoms.info = {}
            yield Candidate(atoms, Provenance.from_dict(known[file.name]))
        else:
            yield _from_info(atoms, file, index)
