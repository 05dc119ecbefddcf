"""``mlcalc latent-map``: where a generator puts crystals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command(name="latent-map")
    def latent_map(
        crystals: Annotated[Path, typer.Argument(help="File of crystals with labels (JSON lines, extended XYZ, …).")],
        label: Annotated[str, typer.Option(help="Label that colours them, e.g. heat_all.")],
        out: Annotated[Path, typer.Option(help="Page ending in .html, or picture ending in .png, .svg or .pdf.")],
        weights: Annotated[
            Optional[Path],
            typer.Option(help="Weights of a vae: of mlcalc train-generator, or a name of some that ship."),
        ] = None,
        designed: Annotated[Optional[Path], typer.Option(help="Crystals of mlcalc design to lay over them.")] = None,
    ) -> None:
        """Draw the latent space of the generator vae in two dimensions, coloured by a property."""
        from mlcalc.crystals.io import read_crystals
        from mlcalc.discovery import latent_map as maps
        from mlcalc.generators import read_candidates

        over = [candidate.atoms for candidate in read_candidates(designed)] if designed else []
        found = maps.latent_map(read_crystals(crystals), label, weights, over)
        write = maps.write_latent_page if out.suffix == ".html" else maps.draw_latent_map
        write(found, out)
        typer.echo(f"{len(found.names)} crystals, {len(over)} designed ({found.left_out} left out): {out}")
