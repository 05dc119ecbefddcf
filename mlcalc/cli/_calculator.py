"""``--potential NAME|FILE`` (several: a committee) or ``--calculator module:Class``: one way to get a calculator."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from mlcalc.errors import WorkflowError
from mlcalc.files import is_model_file

PotentialOption = Annotated[
    Optional[list[str]],
    typer.Option(
        "--potential", "-p", metavar="TEXT", help="Name in the zoo, weights file or model file; several: a committee."
    ),
]
CalculatorOption = Annotated[
    Optional[str],
    typer.Option("--calculator", help="Any ASE calculator as module:Class, e.g. ase.calculators.emt:EMT."),
]
CalculatorPythonOption = Annotated[
    Optional[str],
    typer.Option("--calculator-python", help="Run --calculator in another environment: its bin/python."),
]
DispersionOption = Annotated[
    Optional[str],
    typer.Option(help="Add D3 to --potential: d3bj, d3zero, with -atm behind three-body; e.g. d3bj:scan for SCAN."),
]
DtypeOption = Annotated[
    Optional[str], typer.Option("--dtype", help="float32 or float64 for --potential; default: that of the potential.")
]
Float64Option = Annotated[
    Optional[str],
    typer.Option("--dtype", help="Of --potential; default float64, which derivatives by differences want."),
]
DeviceOption = Annotated[Optional[str], typer.Option("--device", help="Where --potential runs: cpu (default), cuda.")]


def read_potentials(given: str | Sequence[str] | None) -> str | list[str] | None:
    """Return the potential that was named, or a list of those of a committee: ``-p a.pt -p b.pt`` or ``-p a.pt,b.pt``.

    What is the path of a file is not taken apart.
    """
    words = [given] if isinstance(given, str) else list(given or [])
    names = [name.strip() for word in words for name in ([word] if Path(word).exists() else word.split(","))]
    names = [name for name in names if name]
    return names if len(names) > 1 else names[0] if names else None


def make_calculator(
    potential: str | Sequence[str] | None,
    calculator: str | None,
    dtype: str | None = None,
    device: str | None = None,
    python: str | None = None,
    dispersion: str | None = None,
    tables: bool | None = None,
) -> Any:
    """Return the ASE calculator that a command was asked for.

    Args:
        potential: zoo name or file, or several for a committee, see ``read_potentials``.
        calculator: ``"module:Class"``.
        dtype: of the potential; None keeps its own.
        device: of the potential; None is the CPU.
        python: interpreter of the environment that the calculator is in; None is this one.
        dispersion: ``"method"`` or ``"method:functional"``, added to the potential.
        tables: of a potential, as of ``MLCalculator``.

    Raises:
        WorkflowError: not exactly one of the two, a class that cannot be imported or made, or an option of the
            potential beside a calculator.
        ModelFileError: the potential cannot be found or read.
        RemoteStartError: the calculator cannot be made in the other environment.
    """
    potential = read_potentials(potential)
    check_choice(potential, calculator, python)
    if potential is not None:
        from mlcalc.calculators.ase import MLCalculator

        try:
            added: dict[str, Any] = {}
            if dispersion is not None:
                method, _, functional = dispersion.partition(":")
                added = {"dispersion": method, "dispersion_functional": functional or None}
            return MLCalculator(potential, dtype=dtype, device=device or "cpu", tables=tables, **added)
        except (ValueError, RuntimeError) as error:
            raise WorkflowError(str(error)) from error
    assert calculator is not None
    for option, value in (("--dtype", dtype), ("--device", device), ("--dispersion", dispersion)):
        if value is not None:
            raise WorkflowError(f"{option} {value} is for --potential; a --calculator has its own")
    if python is not None:
        from mlcalc.calculators.remote import RemoteCalculator

        return RemoteCalculator(python, calculator)
    module, separator, name = calculator.partition(":")
    if not separator or not name:
        raise WorkflowError(f"--calculator {calculator!r}: give module:Class, e.g. ase.calculators.emt:EMT")
    try:
        made = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise WorkflowError(f"--calculator {calculator!r} cannot be imported: {error}") from error
    try:
        result = made()
    except TypeError as error:
        raise WorkflowError(f"--calculator {calculator!r} cannot be made: {error}") from error
    if not hasattr(result, "get_potential_energy"):
        raise WorkflowError(f"--calculator {calculator!r} is not an ASE calculator")
    return result


def precise_calculator(
    potential: str | Sequence[str] | None,
    calculator: str | None,
    dtype: str | None,
    device: str | None,
    python: str | None = None,
    dispersion: str | None = None,
    tables: bool | None = None,
) -> Any:
    """Return the same as ``make_calculator``; a potential is in float64 unless ``dtype`` says otherwise."""
    precision = dtype or (None if potential is None else "float64")
    return make_calculator(potential, calculator, precision, device, python, dispersion, tables)


def dynamics_calculator(
    potential: str | Sequence[str] | None,
    calculator: str | None,
    engine: str,
    dtype: str | None,
    device: str | None,
    python: str | None = None,
    dispersion: str | None = None,
) -> tuple[Any, str | None]:
    """Return what ``md`` takes as calculator and as dtype.

    The default, float64 except for model files, is the same for both engines, so that they write the same record.

    Raises:
        WorkflowError: options that do not fit the engine.
    """
    potential = read_potentials(potential)
    check_choice(potential, calculator, python)
    is_file = any(is_model_file(one) for one in ([potential] if isinstance(potential, str) else potential or []))
    precision = dtype or (None if potential is None or is_file else "float64")
    if engine != "lammps":
        return make_calculator(potential, calculator, precision, device, python, dispersion), None
    if potential is None:
        raise WorkflowError("--engine lammps runs pair_style mlcalc: give --potential instead of --calculator")
    if device is not None:
        raise WorkflowError(f"--device {device} is for --engine ase; LAMMPS chooses its own: leave it out")
    if dispersion is not None:
        raise WorkflowError(
            f"--dispersion {dispersion} is for --engine ase; in your own input of LAMMPS, pair_style hybrid/overlay "
            "adds its dispersion/d3"
        )
    if dtype is not None and is_file:
        raise WorkflowError(
            f"--dtype {dtype}: in LAMMPS {potential} runs in the dtype it was exported in; leave --dtype out, or "
            "export the potential again (mlcalc export … --dtype)"
        )
    return potential, precision


def check_choice(potential: str | Sequence[str] | None, calculator: str | None, python: str | None = None) -> None:
    """Raise WorkflowError unless exactly one of the two is given, and ``--calculator-python`` with the second only."""
    if (potential is None) == (calculator is None):
        raise WorkflowError(
            "give either --potential NAME|FILE (names: mlcalc potentials) or --calculator module:Class"
            + ("" if potential is None else ", not both")
        )
    if potential is not None and python is not None:
        raise WorkflowError("--calculator-python is for --calculator; a --potential runs in this environment")
