"""Model files: writing a potential as a TorchScript program that carries its own reference."""

from __future__ import annotations

import os
import warnings

import torch

from mlcalc.deploy import _document
from mlcalc.deploy._reference import make_reference
from mlcalc.deploy.load import DOCUMENT_NAME, ScriptedPotential, load_model
from mlcalc.errors import SettingsError
from mlcalc.files import atomic_path
from mlcalc.potentials.base import Potential
from mlcalc.potentials.precision import in_dtype, parse_dtype


def export(
    potential: Potential, path: str | os.PathLike[str], dtype: str | torch.dtype = "float64"
) -> ScriptedPotential:
    """Write a model file for ASE and LAMMPS, atomically, and return it as loaded back and checked.

    The program stays as scripted: freezing would fix the weights' dtype, and ``optimize_for_inference`` drops what
    the derivative with respect to the edge vectors needs.

    Args:
        potential: any potential; it is not changed.
        path: by convention ``NAME.pt``.
        dtype: float32 or float64.

    Raises:
        SettingsError: if the dtype is another one, the potential cannot be scripted, its members cannot run on many
            ranks together, or it gives NaN or infinity on its reference structure.
        ModelFileError: if the written file does not reproduce its reference.
        FileNotFoundError: if the folder does not exist.
    """
    kind = parse_dtype(dtype)
    exchange_width = int(getattr(potential, "exchange_width", 0))
    if exchange_width < 0:
        sets = " | ".join(" ".join(group) for group in potential.info.element_sets)
        raise SettingsError(f"the members of this potential differ in layers or width; export one set alone: {sets}")
    rounded = in_dtype(potential, kind)
    exact = in_dtype(rounded, torch.float64)
    scripted = _script(rounded)
    try:
        reference = make_reference(exact, scripted, kind)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    document = _document.model_document(
        config=potential.config,
        info=potential.info,
        dtype=kind,
        exchange_width=exchange_width,
        reference=reference.to_dict(),
    )
    with atomic_path(path) as temporary:
        torch.jit.save(scripted, str(temporary), _extra_files={DOCUMENT_NAME: _document.dump(document)})
        loaded = load_model(temporary)
    return loaded


def _script(potential: Potential) -> torch.jit.ScriptModule:
    if isinstance(potential, ScriptedPotential):
        return potential.module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is deprecated and still what LAMMPS can run
        try:
            return torch.jit.script(potential)
        except RuntimeError as error:
            raise SettingsError(f"{type(potential).__name__} cannot be written as TorchScript: {error}") from error
