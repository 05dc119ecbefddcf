"""Model files: loading, checking against their own reference, and the potential they become."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Dict, Optional

import torch
from torch import Tensor

import mlcalc.ops  # noqa: F401  (the archive calls mlcalc::exchange)
from mlcalc.deploy import _document
from mlcalc.deploy._reference import Reference
from mlcalc.errors import ModelFileError
from mlcalc.potentials.base import Potential
from mlcalc.potentials.precision import parse_dtype

DOCUMENT_NAME = "mlcalc.json"


class ScriptedPotential(Potential):
    """A loaded model file on the potential contract; it pickles, copies and changes dtype like any module.

    Args:
        module: the TorchScript program.
        document: the file's JSON document.

    Attributes:
        document: the same.
        exchange_width: most numbers per atom in one exchange between layers, 0 if none.
    """

    def __init__(self, module: torch.jit.ScriptModule, document: dict[str, Any]) -> None:
        super().__init__()
        self.module = module
        self.document = document
        self.info = _document.read_info(document, Path("model"))
        self.config = dict(document.get("config", {}))
        self.exchange_width = int(document["exchange_width"])
        self.train(False)

    def forward(
        self, species: Tensor, edge_index: Tensor, edge_vectors: Tensor, extra: Optional[Dict[str, Tensor]] = None
    ) -> Tensor:
        """Return (N,) energies in eV; see ``Potential.forward``."""
        # Specialisation to the shapes of the first calls takes seconds and then runs slower than none: shapes change
        # at every step. The switch belongs to this thread and this call.
        with torch.jit.optimized_execution(False):
            return self.module(species, edge_index, edge_vectors, extra)

    def __prepare_scriptable__(self) -> torch.jit.ScriptModule:
        """Let other potentials that hold this one be scripted."""
        return self.module

    def __reduce__(self) -> tuple[Callable[..., ScriptedPotential], tuple[bytes, dict[str, Any]]]:
        buffer = io.BytesIO()
        torch.jit.save(self.module, buffer)
        return _revive, (buffer.getvalue(), self.document)


def _revive(program: bytes, document: dict[str, Any]) -> ScriptedPotential:
    return ScriptedPotential(torch.jit.load(io.BytesIO(program)), document)


def load_model(
    path: str | os.PathLike[str], dtype: str | torch.dtype | None = None, check: bool = True
) -> ScriptedPotential:
    """Load a model file and check that it reproduces its own reference.

    A model file is a program: load only files from people you trust.

    Args:
        path: written by ``export``.
        dtype: float32 or float64; None keeps that of the file. The check runs before the change. A file exported in
            float32 and loaded in float64 computes in float64 with weights that were rounded.
        check: compare with the reference.

    Raises:
        ModelFileError: if the file is missing, damaged, foreign, of a later format, or does not reproduce its
            reference.
    """
    file = Path(path)
    module, text = _open(file)
    document = _document.read_model(text, file)
    potential = ScriptedPotential(module, document)
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
    _require_zip(file)
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith(f"/extra/{DOCUMENT_NAME}")]
            text = archive.read(names[0]) if names else b""
    except (zipfile.BadZipFile, OSError) as error:
        raise ModelFileError(f"{file}: damaged archive ({error}); {_AGAIN}") from error
    if not text:
        raise ModelFileError(f"{file}: {_FOREIGN}")
    return _document.read_model(text, file)


_AGAIN = "copy the file again or write a new one with `mlcalc export`"
_FOREIGN = "not a model file of mlcalc (no mlcalc.json inside); make one with `mlcalc export`"


def _require_zip(file: Path) -> None:
    if not file.is_file():
        raise ModelFileError(f"{file}: no such file")
    if not zipfile.is_zipfile(file):
        what = "an empty file" if file.stat().st_size == 0 else "truncated or no TorchScript archive at all"
        raise ModelFileError(f"{file}: {what}; {_AGAIN}")


def _open(file: Path) -> tuple[torch.jit.ScriptModule, str]:
    _require_zip(file)
    extra: dict[str, Any] = {DOCUMENT_NAME: ""}
    try:
        module = torch.jit.load(str(file), map_location="cpu", _extra_files=extra)
    except Exception as error:  # torch raises RuntimeError, ValueError, UnicodeError … on foreign and damaged archives
        document = read_document(file)  # says more, where this is not a model file or its document is unreadable
        version = document["torch_version"]
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelFileError(
            f"{file}: cannot be loaded by torch {torch.__version__} ({reason}). Exported by torch {version}: if that "
            f"differs, export it again here; otherwise it is damaged, {_AGAIN}"
        ) from error
    text = extra[DOCUMENT_NAME]
    if not text:
        raise ModelFileError(f"{file}: {_FOREIGN}")
    return module, text


def _check(potential: ScriptedPotential, document: dict[str, Any], file: Path) -> None:
    try:
        reference = Reference(**{"tables": {}, **document["reference"]})
        complaint = reference.complaint(potential, parse_dtype(document["dtype"]))
    except (TypeError, ValueError, RuntimeError, IndexError, KeyError) as error:
        raise ModelFileError(f"{file}: its reference cannot be evaluated ({error}); {_AGAIN}") from error
    if complaint:
        raise ModelFileError(
            f"{file}: does not reproduce its own reference: {complaint}. Weights were changed, the file is damaged, "
            f"or torch {torch.__version__} computes something else than torch {document['torch_version']}, which "
            "exported it. Export it again from the weights with `mlcalc export`"
        )
