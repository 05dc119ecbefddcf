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
    ) -> None:
        """Train the generator `wyckoff` on crystals. The same command again resumes."""
        import dataclasses

        import torch
        from rich.console import Console
        from rich.progress import Progress

        from mlcalc.generators.training import PARTS, GeneratorTrainer, read_generator_settings

        settings = read_generator_settings(config)
        if out is not None:
            settings = dataclasses.replace(settings, out=str(out))
        if threads is not None:
            settings = dataclasses.replace(settings, threads=threads)
        if epochs is not None:
            settings = dataclasses.replace(settings, epochs=epochs)
        if settings.threads:
            torch.set_num_threads(settings.threads)
        console = Console(soft_wrap=True)

        def report(row: dict[str, Any]) -> None:
            parts = ", ".join(f"{part} {row[f'{part}_nats']:.3f}" for part in PARTS)
            console.print(
                f"epoch {row['epoch'] + 1:4d}/{settings.epochs}  nats per crystal: training "
                f"{row['training_nats']:8.3f}  validation {row['validation_nats']:8.3f} ({parts})  "
                f"{row['seconds']:.1f} s",
                highlight=False,
            )

        with Progress(console=console, transient=True) as bar:
            task = bar.add_task("describing crystals", total=None)
            trainer = GeneratorTrainer(
                settings, report, lambda _, done, total: bar.update(task, completed=done, total=total)
            )
        console.print(
            f"{len(trainer.training)} training and {len(trainer.validation)} validation crystals "
            f"({trainer.left_out} left out), {len(trainer.elements)} elements; "
            f"{sum(p.numel() for p in trainer.network.parameters())} weights; folder {trainer.folder}",
            highlight=False,
        )
        trainer.run()
        console.print(
            f"validation {trainer.best_loss:.3f} nats per crystal (best epoch {trainer.best_epoch + 1}); weights in "
            f"{trainer.weights_file}",
            highlight=False,
        )
