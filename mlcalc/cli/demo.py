"""``mlcalc demo``: an example, from nothing to a vetted crystal of one element in both engines, and a report."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Optional

import typer

from mlcalc.cli._calculator import CalculatorPythonOption


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def demo(
        out: Annotated[Path, typer.Option(help="Folder for the report and everything behind it.")] = Path("demo"),
        elements: Annotated[str, typer.Option(help="Elements, all of them present: Si or Li,O.")] = "Si",
        n: Annotated[int, typer.Option("-n", "--number", help="Candidate cells.", min=1)] = 200,
        seed: Annotated[int, typer.Option(help="Of candidates and dynamics.", min=0)] = 0,
        workers: Annotated[int, typer.Option(help="Processes that relax.", min=1)] = 2,
        md_steps: Annotated[int, typer.Option(help="Steps of 1 fs in each engine; a third warms up.", min=60)] = 1200,
        potential: Annotated[str, typer.Option(help="Potential: a name or a file.")] = "mlearn",
        calculator: Annotated[
            Optional[str], typer.Option(help="Instead: any ASE calculator, module:Class; leaves LAMMPS out.")
        ] = None,
        calculator_python: CalculatorPythonOption = None,
    ) -> None:
        """Search for crystals at random, relax, rank; phonons and dynamics of the best, in ASE and LAMMPS; report."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

        from mlcalc.cli._calculator import make_calculator
        from mlcalc.discovery.demo import DemoSettings, run_demo

        symbols = tuple(e.strip() for e in elements.split(","))
        console = Console()
        bar = Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        tasks: dict[str, TaskID] = {}

        def progress(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bar.add_task(step, total=total)
                if not console.is_terminal:
                    console.print(f"{step} …")
            elif (done, total) == (1, 1):  # over: keep the bar that counted
                task = bar.tasks[tasks[step]]
                bar.update(tasks[step], completed=task.total)
                bar.stop_task(tasks[step])
                return
            bar.update(tasks[step], completed=done, total=total)

        with bar:
            report = run_demo(
                out,
                partial(make_calculator, None, calculator, python=calculator_python)
                if calculator is not None
                else partial(make_calculator, potential, None, dtype="float64"),
                calculator_name=calculator or potential,
                potential=potential if calculator is None else None,
                settings=DemoSettings(
                    elements=symbols,
                    number=n,
                    seed=seed,
                    workers=workers,
                    md_steps=md_steps,
                    md_warmup_steps=md_steps // 3,
                ),
                progress=progress,
            )
        console.print(f"\nreport: [bold]{report}[/bold]", soft_wrap=True, highlight=False)
