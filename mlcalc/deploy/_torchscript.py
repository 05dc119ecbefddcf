"""Model files in TorchScript: a program that holds the network itself."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Dict, Optional

import torch
from torch import Tensor

import mlcalc.ops  # noqa: F401  (the archive calls mlcalc::exchange)
from mlcalc.deploy import _document
from mlcalc.deploy._operators import register
from mlcalc.errors import SettingsError
from mlcalc.potentials.base import Potential


class ScriptedPotential(Potential):
    """A loaded TorchScript file on the potential contract; it pickles, copies and changes dtype like any module.

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
        wanted = [name for name in self.info.outputs if extra is not None and name in extra]
        # A plain dict would be copied on its way into the program, and outputs lost.
        given: Any = torch.jit.script(dict(extra)) if extra is not None and wanted else extra
        # Specialisation to the shapes of the first calls takes seconds and then runs slower than none: shapes change
        # at every step. The switch belongs to this thread and this call.
        with torch.jit.optimized_execution(False):
            energies = self.module(species, edge_index, edge_vectors, given)
        if extra is not None:
            extra.update({name: given[name] for name in wanted})
        return energies

    def __prepare_scriptable__(self) -> torch.jit.ScriptModule:
        """Let other potentials that hold this one be scripted."""
        return self.module

    def __reduce__(self) -> tuple[Callable[..., ScriptedPotential], tuple[bytes, dict[str, Any]]]:
        buffer = io.BytesIO()
        torch.jit.save(self.module, buffer)
        return _revive, (buffer.getvalue(), self.document)


def _revive(program: bytes, document: dict[str, Any]) -> ScriptedPotential:
    register(document)
    return ScriptedPotential(torch.jit.load(io.BytesIO(program)), document)


def script(potential: Potential) -> torch.jit.ScriptModule:
    """Return the program of a potential.

    Raises:
        SettingsError: if it cannot be scripted.
    """
    if isinstance(potential, ScriptedPotential):
        return potential.module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is deprecated and still what LAMMPS can run
        try:
            return torch.jit.script(potential)
        except RuntimeError as error:
            raise SettingsError(f"{type(potential).__name__} cannot be written as TorchScript: {error}") from error


def write(program: torch.jit.ScriptModule, document: dict[str, Any], path: Path) -> None:
    """Write the archive."""
    torch.jit.save(program, str(path), _extra_files={_document.NAME: _document.dump(document)})


def read(path: Path, document: dict[str, Any]) -> ScriptedPotential:
    """Load the archive; torch raises whatever it likes on damaged ones."""
    return ScriptedPotential(torch.jit.load(str(path), map_location="cpu"), document)
