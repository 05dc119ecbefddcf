"""The JSON documents inside weights files and model files: written, read and checked in this one place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from mlcalc.errors import ModelFileError
from mlcalc.potentials.base import PotentialInfo
from mlcalc.potentials.precision import DTYPES, dtype_name

NAME = "mlcalc.json"  # of the document in a model file's archive
FORMAT = 1
KIND = "mlcalc-potential"
UNITS = {"energy": "eV", "length": "angstrom"}


def dump(document: dict[str, Any]) -> str:
    """Return compact JSON; floating-point numbers survive the round trip bit by bit.

    Raises:
        ValueError: if a number is NaN or infinite.
    """
    return json.dumps(document, separators=(",", ":"), allow_nan=False)


def weights_document(config: dict[str, Any], info: PotentialInfo, checksum: str) -> dict[str, Any]:
    """Return the document of a weights file."""
    return {
        "format": FORMAT,
        "architecture": config["architecture"],
        "config": config,
        "info": info.to_dict(),
        "sha256": checksum,
    }


def model_document(
    config: dict[str, Any],
    info: PotentialInfo,
    dtype: torch.dtype,
    exchange_width: int,
    program: str,
    instruction_set: dict[str, Any] | None,
    command: str,
) -> dict[str, Any]:
    """Return the document of a model file, its reference apart."""
    document = {
        "format": FORMAT,
        "kind": KIND,
        "info": info.to_dict(),
        "units": UNITS,
        "dtype": dtype_name(dtype),
        "torch_version": torch.__version__.split("+")[0],
        "exchange_width": exchange_width,
        "architecture": config.get("architecture", "unknown"),
        "config": config,
        "program": program,
        "command": command,
    }
    if instruction_set is not None:  # and the program takes which centres' energies count, see _aotinductor.py
        document |= {"instruction_set": instruction_set, "counted": True}
    return document


def read(text: str | bytes, path: Path, required: tuple[str, ...]) -> dict[str, Any]:
    """Parse a document and check its version and that nothing is missing.

    Raises:
        ModelFileError: if the document is not JSON, incomplete, or of a later format than this version reads.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ModelFileError(
            f"{path}: its mlcalc document is damaged ({error}); get or export the file again"
        ) from error
    if not isinstance(document, dict) or not isinstance(document.get("format"), int):
        raise ModelFileError(f"{path}: its mlcalc document has no format number; get or export the file again")
    if document["format"] > FORMAT:
        raise ModelFileError(
            f"{path}: written in format {document['format']}, this mlcalc reads up to {FORMAT}; upgrade mlcalc"
        )
    missing = [key for key in required if key not in document]
    if missing:
        raise ModelFileError(f"{path}: its mlcalc document lacks {', '.join(missing)}; get or export the file again")
    return document


def read_model(text: str | bytes, path: Path) -> dict[str, Any]:
    """Parse the document of a model file.

    Raises:
        ModelFileError: if it is damaged, of a later format, of another kind or in other units.
    """
    document = read(text, path, ("kind", "info", "units", "dtype", "torch_version", "exchange_width", "reference"))
    if document["kind"] != KIND:
        raise ModelFileError(f"{path}: holds {document['kind']!r}, not {KIND!r}")
    if document["units"] != UNITS:
        raise ModelFileError(f"{path}: in units {document['units']}, this mlcalc reads {UNITS}; export the file again")
    if document["dtype"] not in DTYPES:
        raise ModelFileError(f"{path}: unknown dtype {document['dtype']!r}; export the file again")
    return document


def read_info(document: dict[str, Any], path: Path) -> PotentialInfo:
    """Return what the document declares about the potential.

    Raises:
        ModelFileError: if fields are missing or unknown.
    """
    try:
        return PotentialInfo.from_dict(document["info"])
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelFileError(f"{path}: cannot read what it declares ({error}); get or export the file again") from error
