"""``mlcalc export``: a potential as a model file for ASE and LAMMPS."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def export(
        potential: Annotated[str, typer.Argument(help="Name in the zoo, weights file (.safetensors) or model file.")],
        out: Annotated[Path, typer.Argument(help="Model file to write, NAME.pt.")],
        dtype: Annotated[str, typer.Option(help="float32 (fast MD) or float64 (phonons, parity).")] = "float64",
        elements: Annotated[
            Optional[str], typer.Option(help="Keep only what these need: Si, or Li,Mo. For a family of potentials.")
        ] = None,
    ) -> None:
        """Write a model file (TorchScript) and check that it reproduces the potential."""
        from mlcalc.deploy import export as write
        from mlcalc.zoo import load

        symbols = [symbol.strip() for symbol in elements.split(",")] if elements else None
        if out.suffix != ".pt":
            raise typer.BadParameter(f"{out}: model files end in .pt", param_hint="OUT")
        model = write(load(potential, elements=symbols), out, dtype)
        info, tolerance = model.info, model.document["reference"]["tolerance"]
        typer.echo(
            f"{out}: {', '.join(info.elements)}, {dtype}, cutoff {info.cutoff:g} Å, {info.layers} layers, "
            f"{out.stat().st_size / 1e6:.2f} MB; reproduces its reference within {tolerance['energy']:.1e} eV/atom, "
            f"{tolerance['forces']:.1e} eV/Å"
        )
