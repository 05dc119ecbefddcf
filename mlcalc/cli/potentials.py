"""``mlcalc potentials``: what the zoo holds."""

from __future__ import annotations

from typing import Annotated, Optional

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def potentials(
        name: Annotated[Optional[str], typer.Argument(help="Print this potential's card instead of the list.")] = None,
    ) -> None:
        """List the trained potentials that ship, or print the model card of one."""
        from mlcalc.errors import ModelFileError
        from mlcalc.zoo import entries

        known = entries()
        if name is not None:
            card = known[name].card if name in known else None
            if card is None:
                what = "has no card" if name in known else f"is not in the zoo; known: {', '.join(known) or 'none'}"
                raise ModelFileError(f"{name} {what}")
            typer.echo(card.read_text(encoding="utf-8"))
            return
        if not known:
            typer.echo("the zoo is empty in this installation")
        for entry in known.values():
            infos = entry.infos()
            typer.echo(f"{entry.name}  ({entry.size / 1e6:.2f} MB)")
            for info in infos:
                typer.echo(
                    f"  {' '.join(info.elements)}: cutoff {info.cutoff:g} Å, {info.layers} layers, "
                    f"energies {info.energy_scale}, licence {info.licence}"
                )
