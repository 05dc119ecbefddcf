"""``mlcalc crystals``: crystals in the representations that generators learn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command group to the application."""
    group = typer.Typer(help="Crystals as images, nets of bonds and densities.", no_args_is_help=True)
    app.add_typer(group, name="crystals")

    @group.command()
    def show(
        files: Annotated[list[Path], typer.Argument(help="Structures: JSON lines, or anything ASE reads.")],
        kind: Annotated[str, typer.Option("--as", help="coordinate, bond, density, or all of them: gallery.")],
        out: Annotated[Path, typer.Option("--out", "-o", help="Picture: PNG, PDF or SVG.")] = Path("crystals.png"),
        most: Annotated[int, typer.Option(help="Show no more than the first so many.", min=1)] = 8,
    ) -> None:
        """Write a picture of crystals in one representation, a row for each."""
        from mlcalc.crystals import pictures
        from mlcalc.crystals.io import read_crystals
        from mlcalc.figures import save_figure

        found = [item.atoms for path in files for item in read_crystals(path)]
        crystals = [(pictures.title_of(atoms), atoms) for atoms in found[:most]]
        figure = pictures.gallery(crystals) if kind == "gallery" else pictures.show(crystals, kind)
        save_figure(figure, out)
        left = f" ({len(found) - most} more are left out: --most)" if len(found) > most else ""
        typer.echo(f"{len(crystals)} crystals in {out}{left}")
