"""Model files: writing a potential as a program that carries its own reference."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from mlcalc.deploy import _aotinductor, _document, _instruction_set, _torchscript
from mlcalc.deploy._aotinductor import CompiledPotential
from mlcalc.deploy._exchanges import calls
from mlcalc.deploy._reference import make_reference
from mlcalc.deploy._torchscript import ScriptedPotential
from mlcalc.deploy.load import load_model
from mlcalc.deploy.tables import BOUND, with_intervals, with_tables
from mlcalc.errors import SettingsError
from mlcalc.files import atomic_path
from mlcalc.potentials.base import Potential
from mlcalc.potentials.precision import in_dtype, parse_dtype

SUFFIXES = {"torchscript": ".pt", "aotinductor": ".pt2"}


def export(
    potential: Potential,
    path: str | os.PathLike[str],
    dtype: str | torch.dtype = "float64",
    format: str | None = None,
    march: str | None = None,
    command: str = "",
    tables: bool | None = None,
    bound: float = BOUND,
) -> ScriptedPotential | CompiledPotential:
    """Write a model file for ASE and LAMMPS, atomically, and return it as loaded back and checked.

    Radial networks become tables where compiled operators read them, in float32; the file says what that changes.

    TorchScript programs stay as scripted: freezing would fix the weights' dtype, and ``optimize_for_inference`` drops
    what the derivative with respect to the edge vectors needs. AOTInductor compiles energies and derivative together,
    which takes about a minute and needs a C++ compiler here, but not where the file is used.

    Args:
        potential: any potential; it is not changed.
        path: by convention ``NAME.pt``, ``NAME.pt2`` if compiled.
        dtype: float32 or float64.
        format: ``"torchscript"`` or ``"aotinductor"``; None goes by the name of the file.
        march: of a compiled file, the processor to compile for, as compilers name it (``-march``), ``"native"`` for
            this one. None is ``x86-64-v3``, which every x86-64 processor since 2013 runs, or ``armv8-a``.
        command: the command that makes the file; where a compiled one cannot run, users are told to repeat it.
        tables: whether radial networks become tables; None makes them in float32 and leaves float64 exact.
        bound: by how much tables may change force components on a reference set, eV/Å.

    Raises:
        SettingsError: if an option is another one or does not fit the file's name, the potential cannot be scripted or
            compiled, its members cannot run on many ranks together, its exchanges between layers do not fit what it
            declares, tables miss their bound, or it gives NaN or infinity on its reference structure.
        ModelFileError: if the written file does not reproduce its reference.
        FileNotFoundError: if the folder does not exist.
    """
    kind = parse_dtype(dtype)
    program = format_of(path, format)
    if march is not None and program != "aotinductor":
        raise SettingsError(f"march {march} is for compiled files: --format aotinductor, NAME.pt2")
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"folder {target.parent} does not exist; make it first")
    if isinstance(potential, CompiledPotential):
        raise SettingsError("a compiled file cannot be exported again; export the potential it was made from")
    if int(getattr(potential, "exchange_width", 0)) < 0:
        sets = " | ".join(" ".join(group) for group in potential.info.element_sets)
        raise SettingsError(f"the members of this potential differ in layers or width; export one set alone: {sets}")
    if program == "aotinductor":
        _aotinductor.refuse(potential)
    rounded = in_dtype(potential, kind)
    exact = in_dtype(rounded, torch.float64)  # before scripting, which takes some modules apart
    made = None
    if tables or (tables is None and kind == torch.float32):
        rounded, made = with_tables(rounded, bound)
        exact = with_intervals(exact, made)
    width, operators = calls(exact)
    compiled: Any
    writer: Any
    if program == "aotinductor":
        compiled, record = _aotinductor.compile_files(rounded, march or _instruction_set.portable())
        writer = _aotinductor
    else:
        compiled, record, writer = _torchscript.script(rounded), None, _torchscript
    document = _document.model_document(potential.config, potential.info, kind, width, program, record, command)
    document |= {"operators": operators, "tables": made.to_dict() if made is not None else None}
    with atomic_path(target) as temporary:
        writer.write(compiled, document, temporary)
        draft = writer.read(temporary, document)
        try:
            document["reference"] = make_reference(exact, draft, kind).to_dict()
        except ValueError as error:
            raise SettingsError(str(error)) from error
        writer.write(compiled, document, temporary)
        loaded = load_model(temporary)
    return loaded


def format_of(path: str | os.PathLike[str], format: str | None = None) -> str:
    """Return ``"torchscript"`` or ``"aotinductor"``, from ``format`` or else the ending of the name.

    Raises:
        SettingsError: an unknown format or ending, or two that do not fit.
    """
    suffix = Path(path).suffix
    endings = " or ".join(f"{ending} ({name})" for name, ending in SUFFIXES.items())
    if format is not None and format not in SUFFIXES:
        raise SettingsError(f"unknown format {format!r}: choose from {', '.join(SUFFIXES)}")
    if suffix not in SUFFIXES.values() or (format is not None and SUFFIXES[format] != suffix):
        wanted = endings if format is None else f"{SUFFIXES[format]} for format {format}"
        raise SettingsError(f"{path}: model files end in {wanted}")
    return next(name for name, ending in SUFFIXES.items() if ending == suffix)
