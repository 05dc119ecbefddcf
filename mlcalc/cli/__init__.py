"""The ``mlcalc`` command: one module per command group, each with ``register(app)``."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
import warnings

import typer

from mlcalc.errors import MlcalcError

COMMANDS = (
    "relax",
    "md",
    "phonons",
    "eos",
    "elastic",
    "qha",
    "gruneisen",
    "neb",
    "diffusion",
    "heat",
    "check",
    "serve",
    "train",
    "train_generator",
    "grade",
    "export",
    "potentials",
    "generate",
    "crystals",
    "design",
    "latent_map",
    "benchmark_generator",
    "discover",
    "lammps",
    "doctor",
    "demo",
)

app = typer.Typer(
    name="mlcalc",
    help="Trained neural potentials in ASE and LAMMPS: relax, md, phonons, training. Units: eV, Å, GPa, fs, K.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"mlcalc {version('mlcalc')}")
        raise typer.Exit


@app.callback()
def _common(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
    debug: bool = typer.Option(False, "--debug", help="Print the whole traceback of an error; may stand anywhere."),
) -> None:
    """Options before the command."""


for _name in COMMANDS:
    importlib.import_module(f"mlcalc.cli.{_name}").register(app)


def main() -> None:
    """Run the command line; an expected error is one line on stderr and exit status 1."""
    debug = "--debug" in sys.argv[1:]
    arguments = [item for item in sys.argv[1:] if item != "--debug"]
    warnings.showwarning = _show_warning
    os.environ.setdefault("SPGLIB_WARNING", "OFF")  # where it finds no symmetry, results say so
    try:
        app(args=arguments, prog_name="mlcalc")
    # Also files and folders that cannot be read or written, and what a --calculator says that it does not do.
    except (MlcalcError, OSError, NotImplementedError) as error:
        if debug:
            traceback.print_exc()
        else:
            typer.secho(f"error: {error or type(error).__name__}", err=True, fg="red")
        sys.exit(1)


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """Print our own warnings and those meant for users as one line; leave out those meant for developers."""
    if not issubclass(category, (DeprecationWarning, PendingDeprecationWarning, FutureWarning)):
        typer.secho(f"warning: {message}", err=True, fg="yellow")
