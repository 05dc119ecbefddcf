"""``mlcalc check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from mlcalc.cli._calculator import CalculatorOption, CalculatorPythonOption, DeviceOption, DispersionOption, DtypeOption
from mlcalc.cli._inputs import ConfigOption, OutOption

if TYPE_CHECKING:
    from mlcalc.workflows import CheckItem

_COLOURS = {"pass": "green", "fail": "bold red", "reported": "cyan", "not applicable": "dim"}
_SHORT = {"fail": "FAIL", "not applicable": "n/a"}


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def check(
        potential: Annotated[
            Optional[str], typer.Argument(help="Name in the zoo, weights file or model file; A,B: a committee.")
        ] = None,
        calculator: CalculatorOption = None,
        calculator_python: CalculatorPythonOption = None,
        dispersion: DispersionOption = None,
        elements: Annotated[
            Optional[str],
            typer.Option(help="Si, or Na,Cl: what the test structures are made of; default: those of the potential."),
        ] = None,
        structure: Annotated[Optional[Path], typer.Option(help="Test on this structure instead.")] = None,
        only: Annotated[Optional[str], typer.Option(help="Names of checks, separated by commas; default: all.")] = None,
        rattle: Annotated[float, typer.Option(help="Random displacements of the test structures, Å.")] = 0.05,
        reach: Annotated[float, typer.Option(help="Distance up to which jumps are searched, Å.")] = 12.0,
        seed: Annotated[int, typer.Option(help="Of displacements, directions and velocities.")] = 0,
        out: OutOption = Path("check"),
        config: ConfigOption = None,
        dtype: DtypeOption = None,
        device: DeviceOption = None,
    ) -> None:
        """Test whether energy, forces and stress of a calculator belong together; exit status 1 if a check fails.

        Writes check.json and check.png; for a family of potentials, one folder for each.
        """
        from rich.console import Console

        from mlcalc.cli._calculator import make_calculator
        from mlcalc.cli._inputs import folder_of, progress_bar, read_structures
        from mlcalc.errors import WorkflowError
        from mlcalc.records import write_json
        from mlcalc.workflows import check as run
        from mlcalc.workflows import plot_check

        engine = make_calculator(potential, calculator, dtype, device, calculator_python, dispersion)
        if structure is not None and elements is not None:
            raise WorkflowError("give either --elements or --structure, not both")
        cases = [] if structure is None else read_structures([structure])
        if len(cases) > 1:
            raise WorkflowError(f"--structure {structure} holds {len(cases)} structures: give one")
        atoms = cases[0][1] if cases else None
        symbols = None if elements is None else [symbol.strip() for symbol in elements.split(",")]
        names = None if only is None else [name.strip() for name in only.split(",")]
        sets = getattr(getattr(engine, "info", None), "element_sets", ()) if potential is not None else ()
        groups = [symbols] if symbols or atoms is not None or not sets else [list(group) for group in sets]
        failed = []
        for group in groups:
            title = ",".join(group or [])
            folder = folder_of(out, title, len(groups))
            with progress_bar(f"check {title}", None) as update:

                def report(done: int, total: int, name: str, update: Any = update) -> None:
                    update(done, f"of {total}: {name}")

                result = run(
                    engine,
                    atoms,
                    elements=group,
                    only=names,
                    rattle=rattle,
                    reach=reach,
                    seed=seed,
                    progress=report,
                )
            write_json(folder / "check.json", result.to_dict())
            plot_check(result, folder / "check.png")
            Console().print(_table(result.checks))
            for item in result.checks:
                if item.status == "fail":
                    typer.secho(f"{item.name}: {item.explanation}; look at {item.where_to_look}", fg="red")
            failed += [f"{title} {name}".strip() for name in result.failed]
            typer.echo(
                f"{result.settings['calculator']}: {', '.join(result.settings['elements'])}, {result.evaluations} "
                f"evaluations in {result.wall_time_s:.1f} s; {folder / 'check.json'}, {folder / 'check.png'}"
            )
        if failed:
            typer.secho(f"failed: {', '.join(failed)}", fg="red")
            raise typer.Exit(1)
        typer.secho("all checks passed", fg="green")


def _table(items: tuple[CheckItem, ...]) -> Any:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False)
    for heading in ("check", "status"):
        table.add_column(heading, no_wrap=True)
    for heading in ("figure", "tolerance"):
        table.add_column(heading, no_wrap=True, justify="right")
    table.add_column("unit", no_wrap=True)
    table.add_column("where, or why not")
    for item in items:
        table.add_row(
            item.name,
            f"[{_COLOURS[item.status]}]{_SHORT.get(item.status, item.status)}[/]",
            "" if item.value is None else f"{item.value:.1e}",
            "" if item.tolerance is None else f"{item.tolerance:.1e}",
            item.unit,
            item.explanation.replace("[", "\\["),
        )
    return table
