"""``mlcalc train-generator``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command(name="train-generator")
    def train_generator(
        config: Annotated[Path, typer.Argument(help="YAML file; `data: [crystals.jsonl.gz]` is enough.")],
        out: Annotated[Optional[Path], typer.Option(help="Folder of the run (default: `out` of the config).")] = None,
        threads: Annotated[Optional[int], typer.Option(help="Torch threads (default: as torch likes).")] = None,
        epochs: Annotated[Optional[int], typer.Option(help="Override epochs.")] = None,
        start: Annotated[
            Optional[Path], typer.Option("--from", help="Weights to begin from, of the same generator (transfer).")
        ] = None,
    ) -> None:
        """Train a generator on crystals: `generator` in the config names it. The same command again resumes."""
        import dataclasses

        import torch
        from rich.console import Console
        from rich.progress import Progress

        from mlcalc.generators.training import make_trainer, read_generator_settings

        name, settings = read_generator_settings(config)
        given: dict[str, Any] = {
            "out": out and str(out),
            "threads": threads,
            "epochs": epochs,
            "start": start and str(start),
        }
        settings = dataclasses.replace(settings, **{k: v for k, v in given.items() if v is not None})
        if settings.threads:
            torch.set_num_threads(settings.threads)
        console = Console(soft_wrap=True)

        def report(row: dict[str, Any]) -> None:
            columns = "  ".join(f"{column} {row[column]:.4g}" for column in trainer.columns)
            console.print(
                f"epoch {row['epoch'] + 1:4d}/{settings.epochs}  {columns}  {row['seconds']:.1f} s", highlight=False
            )

        with Progress(console=console, transient=True) as bar:
            task = bar.add_task("reading crystals", total=None)
            trainer = make_trainer(
                name, settings, report, lambda _, done, total: bar.update(task, completed=done, total=total)
            )
        console.print(f"{name}: {trainer.describe()}", highlight=False)
        trainer.run()
        console.print(
            f"{trainer.criterion} {trainer.best_loss:.4g} (best epoch {trainer.best_epoch + 1}); weights in "
            f"{trainer.weights_file}",
            highlight=False,
        )
