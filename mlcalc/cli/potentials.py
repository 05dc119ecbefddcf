"""``mlcalc potentials``: what can be loaded by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from mlcalc.potentials.base import PotentialInfo


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def potentials(
        name: Annotated[Optional[str], typer.Argument(help="Only this potential, with its card or licence.")] = None,
        cost: Annotated[bool, typer.Option(help="Time a force call of each on this machine.")] = True,
    ) -> None:
        """List the potentials that have a name: those that ship, and published ones from their authors' packages."""
        from mlcalc.errors import ModelFileError
        from mlcalc.foundation import published
        from mlcalc.zoo import entries

        shipped, others = entries(), published()
        names = [*shipped, *others]
        if name is not None and name not in names:
            raise ModelFileError(f"{name} is not in the zoo; known: {', '.join(names)}")
        for each in names if name is None else [name]:
            if each in shipped:
                typer.echo(f"{each}  (ships with mlcalc, {shipped[each].size / 1e6:.2f} MB)")
                for info in shipped[each].infos():
                    _describe(info)
                typer.echo("  source    trained by mlcalc, see its card: mlcalc potentials " + each)
            else:
                version = others[each].version() or "is not installed, pip install 'mlcalc[foundation]'"
                typer.echo(f"{each}  (weights: {others[each].package} {version})")
                _describe(others[each].info)
                typer.echo(f"  source    {others[each].info.provenance['source']}")
            if cost:
                _cost(each)
        if name in shipped and (card := shipped[name].card) is not None:
            typer.echo("\n" + card.read_text(encoding="utf-8"))
        elif name in others:
            typer.echo("\n" + others[name].info.provenance["licence_text"])


def _describe(info: PotentialInfo) -> None:
    known = " ".join(info.elements)
    typer.echo(f"  elements  {known if len(info.elements) < 10 else f'{len(info.elements)}: {known}'}")
    typer.echo(f"  range     cutoff {info.cutoff:g} Å, {info.layers} layer{'s' if info.layers > 1 else ''}")
    typer.echo(f"  energies  {info.energy_scale}")
    typer.echo(f"  data      {info.training_data}")
    typer.echo(f"  licence   {info.licence}")


def _cost(name: str) -> None:
    from mlcalc.calculators.cost import call_cost
    from mlcalc.errors import ModelFileError
    from mlcalc.zoo import load

    try:
        result = call_cost(load(name))
    except ModelFileError as error:  # one that cannot be loaded keeps none of the others from the list
        typer.echo(f"  cost      unknown: {error}")
        return
    typer.echo(
        f"  cost      {result.time_per_atom_ms:.3g} ms per atom and force call here ({result.formula}, {result.dtype}, "
        f"{result.device}, {result.threads} thread{'s' if result.threads > 1 else ''})"
    )
