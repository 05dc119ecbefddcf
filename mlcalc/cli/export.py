"""``mlcalc export``: a potential as a model file for ASE and LAMMPS."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Optional

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def export(
        potential: Annotated[str, typer.Argument(help="Name in the zoo, weights file (.safetensors) or model file.")],
        out: Annotated[Path, typer.Argument(help="Model file to write: NAME.pt, or NAME.pt2 if compiled.")],
        dtype: Annotated[str, typer.Option(help="float32 (fast MD) or float64 (phonons, parity).")] = "float64",
        format: Annotated[
            Optional[str], typer.Option(help="torchscript or aotinductor (compiled); default: by the name of OUT.")
        ] = None,
        march: Annotated[
            Optional[str],
            typer.Option(help="Processor to compile for, e.g. native; default: x86-64-v3, any since 2013, or armv8-a."),
        ] = None,
        elements: Annotated[
            Optional[str], typer.Option(help="Keep only what these need: Si, or Li,Mo. For a family of potentials.")
        ] = None,
        tables: Annotated[
            Optional[bool],
            typer.Option(
                help="Tables in the place of radial networks: faster, forces change by a stated bit. "
                "Default: in float32."
            ),
        ] = None,
    ) -> None:
        """Write a model file (TorchScript or AOTInductor) and check that it reproduces the potential."""
        from mlcalc.deploy import export as write
        from mlcalc.zoo import load

        symbols = [symbol.strip() for symbol in elements.split(",")] if elements else None
        options = {"--dtype": dtype, "--format": format, "--march": march, "--elements": elements}
        given = [word for option, value in options.items() if value is not None for word in (option, value)]
        given += [] if tables is None else ["--tables" if tables else "--no-tables"]
        command = shlex.join(["mlcalc", "export", potential, str(out), *given])
        model = write(load(potential, elements=symbols), out, dtype, format, march, command, tables)
        info, tolerance = model.info, model.document["reference"]["tolerance"]
        elements_text = ", ".join(info.elements) if len(info.elements) < 10 else f"{len(info.elements)} elements"
        typer.echo(
            f"{out}: {elements_text}, {dtype}, cutoff {info.cutoff:g} Å, {info.layers} layers, "
            f"{out.stat().st_size / 1e6:.2f} MB; reproduces its reference within {tolerance['energy']:.1e} eV/atom, "
            f"{tolerance['forces']:.1e} eV/Å"
        )
        made = model.document["tables"]
        if made:
            typer.echo(
                f"radial tables of {made['intervals']} intervals change forces on a reference set by "
                f"{made['force_deviation']:.1e} eV/Å (allowed {made['bound']:.0e}; --no-tables for none)"
            )
