"""Trained potentials that ship with mlcalc, by name, and ``load``, which also takes published ones and files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from mlcalc.deploy import load_model, load_weights
from mlcalc.errors import ModelFileError, UnknownElementError
from mlcalc.files import is_model_file
from mlcalc.foundation import load_checkpoint, load_published, published
from mlcalc.potentials.base import Potential
from mlcalc.potentials.per_element import PerElement
from mlcalc.potentials.precision import in_dtype, parse_dtype
from mlcalc.zoo._entries import WEIGHTS, ZooEntry, find_entries

__all__ = ["ZooEntry", "entries", "load"]


def entries() -> dict[str, ZooEntry]:
    """Return every potential that ships, by name."""
    return find_entries(WEIGHTS)


def load(
    source: str | os.PathLike[str] | Potential,
    dtype: str | torch.dtype | None = None,
    elements: Sequence[str] | None = None,
) -> Potential:
    """Return a potential from a name, a file, or a potential.

    Args:
        source: a name in the zoo or of a published potential (``sevennet-0``), a weights file (``.safetensors``), a
            model file (``.pt``, ``.pt2``), a published checkpoint (``.pth``), or a ``Potential``, which is returned
            itself if nothing has to change.
        dtype: float32 or float64; None keeps what is there.
        elements: keep only what these need. Of a family of potentials this drops the other members; a single
            potential stays whole.

    Raises:
        ModelFileError: if there is no such name or file, or the file is damaged.
        UnknownElementError: if one of ``elements`` is not covered.
        SettingsError: for another dtype.
    """
    wanted = None if dtype is None else parse_dtype(dtype)
    potential = source if isinstance(source, Potential) else _from_name_or_file(source, wanted, elements)
    if elements is not None:
        potential = _restrict(potential, elements)
    if wanted is not None and potential.dtype != wanted:
        potential = in_dtype(potential, wanted)
    return potential


def _from_name_or_file(
    source: str | os.PathLike[str], dtype: torch.dtype | None, elements: Sequence[str] | None
) -> Potential:
    path = Path(source)
    if path.suffix == ".safetensors":
        return load_weights(path, dtype)
    if is_model_file(path):
        return load_model(path, dtype)
    if path.suffix == ".pth":
        return load_checkpoint(path, dtype)
    if str(source) in published():
        return load_published(str(source), dtype)
    known = entries()
    entry = known.get(str(source))
    if entry is None:
        names = f"known names: {', '.join(sorted([*known, *published()]))}"
        if path.exists():
            raise ModelFileError(
                f"{path}: potentials are files ending in .safetensors, .pt, .pt2 or .pth, or names; {names}"
            )
        raise ModelFileError(
            f"no potential named {str(source)!r}; {names}; or give a file ending in .safetensors, .pt, .pt2 or .pth"
        )
    files = entry.files
    if elements is not None and len(files) > 1:
        wanted = [file for file, info in zip(files, entry.infos(), strict=True) if set(info.elements) & set(elements)]
        files = tuple(wanted) or files
    members = [load_weights(file, dtype) for file in files]
    return members[0] if len(entry.files) == 1 else PerElement(members, name=entry.name)


def _restrict(potential: Potential, elements: Sequence[str]) -> Potential:
    missing = [symbol for symbol in elements if symbol not in potential.info.elements]
    if missing:
        raise UnknownElementError(
            f"{potential.info.name or 'the potential'} does not cover {', '.join(missing)}; "
            f"it covers {', '.join(potential.info.elements)}"
        )
    if not isinstance(potential, PerElement):
        return potential
    members = [member for member in potential.parts() if set(member.info.elements) & set(elements)]
    if len(members) == 1:
        return members[0]
    return potential if len(members) == len(potential.parts()) else PerElement(members, name=potential.info.name)
