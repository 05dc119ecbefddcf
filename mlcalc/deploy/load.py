"""Model files: loading, and checking against their own reference."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from mlcalc.deploy import _aotinductor, _document, _instruction_set, _torchscript
from mlcalc.deploy._aotinductor import CompiledPotential
from mlcalc.deploy._operators import register
from mlcalc.deploy._reference import Reference
from mlcalc.deploy._torchscript import ScriptedPotential
from mlcalc.errors import ModelFileError
from mlcalc.potentials.precision import dtype_name, parse_dtype

_AGAIN = "copy the file again or write a new one with `mlcalc export`"
_FOREIGN = "not a model file of mlcalc (no mlcalc.json inside); make one with `mlcalc export`"


def load_model(
    path: str | os.PathLike[str], dtype: str | torch.dtype | None = None, check: bool = True
) -> ScriptedPotential | CompiledPotential:
    """Load a model file and check that it reproduces its own reference.

    A model file is a program: load only files from people you trust.

    Args:
        path: written by ``export``.
        dtype: float32 or float64; None keeps that of the file. The check runs before the change. A TorchScript file
            exported in float32 and loaded in float64 computes in float64 with weights that were rounded; a compiled
            file has its type for good.
        check: compare with the reference.

    Raises:
        ModelFileError: if the file is missing, damaged, foreign, of a later format, compiled for another processor,
            torch or dtype, or does not reproduce its reference.
    """
    file = Path(path)
    document = read_document(file)
    compiled = document.get("program") == "aotinductor"
    if compiled:
        complaint = _mismatch(document, dtype)
        if complaint:
            raise ModelFileError(f"{file}: {complaint}. Export it anew here: {_command(document, dtype)}")
    if not register(document):
        raise ModelFileError(
            f"{file}: calls compiled operators, which are not here: set MLCALC_OPS to 1 and install a C++ compiler, or "
            "use the weights, or a file made with --format torchscript"
        )
    try:
        potential = (_aotinductor if compiled else _torchscript).read(file, document)
    except ModelFileError:
        raise
    except Exception as error:  # torch raises RuntimeError, ValueError, UnicodeError … on damaged archives
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelFileError(
            f"{file}: cannot be loaded by torch {torch.__version__} ({reason}). Exported by torch "
            f"{document['torch_version']}: if that differs, export it again here; otherwise it is damaged, {_AGAIN}"
        ) from error
    stored = parse_dtype(document["dtype"])
    if potential.dtype != stored:
        raise ModelFileError(f"{file}: says {document['dtype']} but holds {potential.dtype}; export it again")
    if check:
        _check(potential, document, file)
    if dtype is not None:
        potential.to(parse_dtype(dtype))
    return potential


def read_document(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the JSON document of a model file without loading its program.

    Raises:
        ModelFileError: as ``load_model``.
    """
    file = Path(path)
    if not file.is_file():
        raise ModelFileError(f"{file}: no such file")
    if not zipfile.is_zipfile(file):
        what = "an empty file" if file.stat().st_size == 0 else "truncated or no archive at all"
        raise ModelFileError(f"{file}: {what}; {_AGAIN}")
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith(f"/extra/{_document.NAME}")]
            text = archive.read(names[0]) if names else b""
    except (zipfile.BadZipFile, OSError) as error:
        raise ModelFileError(f"{file}: damaged archive ({error}); {_AGAIN}") from error
    if not text:
        raise ModelFileError(f"{file}: {_FOREIGN}")
    return _document.read_model(text, file)


def _mismatch(document: dict[str, Any], dtype: str | torch.dtype | None) -> str:
    """Return why a compiled program must not be loaded here, or an empty string."""
    lacking = _instruction_set.missing(document.get("instruction_set", {}))
    if lacking:
        march = document.get("instruction_set", {}).get("march", "?")
        return f"compiled for another processor ({march}): {lacking}"
    running = torch.__version__.split("+")[0]
    if document["torch_version"] != running:
        return f"compiled for torch {document['torch_version']}, this is torch {running}"
    if dtype is not None and parse_dtype(dtype) != parse_dtype(document["dtype"]):
        return f"compiled for {document['dtype']}, not {dtype_name(dtype)}"
    return ""


def _command(document: dict[str, Any], dtype: str | torch.dtype | None) -> str:
    kind = document["dtype"] if dtype is None else dtype_name(dtype)
    if document.get("command") and kind == document["dtype"]:
        return str(document["command"])
    return f"mlcalc export POTENTIAL FILE.pt2 --format aotinductor --dtype {kind}"


def _check(potential: ScriptedPotential | CompiledPotential, document: dict[str, Any], file: Path) -> None:
    try:
        reference = Reference(**document["reference"])
        complaint = reference.complaint(potential, parse_dtype(document["dtype"]))
    except (TypeError, ValueError, RuntimeError, IndexError, KeyError) as error:
        raise ModelFileError(f"{file}: its reference cannot be evaluated ({error}); {_AGAIN}") from error
    if complaint:
        raise ModelFileError(
            f"{file}: does not reproduce its own reference: {complaint}. Weights were changed, the file is damaged, "
            f"or torch {torch.__version__} computes something else than torch {document['torch_version']}, which "
            "exported it. Export it again from the weights with `mlcalc export`"
        )
