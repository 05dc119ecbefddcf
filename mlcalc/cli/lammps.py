"""``mlcalc lammps``: the plugin."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command group to the application."""
    group = typer.Typer(help="The LAMMPS plugin, pair_style mlcalc.", no_args_is_help=True)

    @group.command()
    def build(force: bool = typer.Option(False, help="Compile even if the plugin is up to date.")) -> None:
        """Compile the plugin for the installed torch and LAMMPS; otherwise the first ``lmp`` does it."""
        from mlcalc.lammps.build import build_plugin

        typer.echo(f"{build_plugin(force=force)}")

    @group.command()
    def status() -> None:
        """Say whether the plugin is built, for which versions and where."""
        from mlcalc.lammps.build import plugin_status

        found = plugin_status()
        for name, value in found.to_dict().items():
            typer.echo(f"{name:16} {value}")
        if found.problem:
            raise typer.Exit(1)

    app.add_typer(group, name="lammps")
