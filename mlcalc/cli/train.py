"""``mlcalc train`` and ``mlcalc eval``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""

    @app.command()
    def train(
        config: Annotated[Path, typer.Argument(help="YAML file; `data: {train: [mine.xyz]}` is enough.")],
        out: Annotated[Optional[Path], typer.Option(help="Folder of the run (default: `out` of the config).")] = None,
        threads: Annotated[Optional[int], typer.Option(help="Torch threads (default: all cores).")] = None,
        epochs: Annotated[Optional[int], typer.Option(help="Override optimizer.epochs.")] = None,
    ) -> None:
        """Train a potential on labelled structures. The same command again resumes."""
        import dataclasses

        from rich.console import Console

        from mlcalc.training.run import finish
        from mlcalc.training.settings import read_settings
        from mlcalc.training.trainer import Trainer, set_threads

        settings = read_settings(config)
        if out is not None:
            settings = dataclasses.replace(settings, out=str(out))
        if threads is not None:
            settings = dataclasses.replace(settings, threads=threads)
        if epochs is not None:
            settings = dataclasses.replace(settings, optimizer=dataclasses.replace(settings.optimizer, epochs=epochs))
        set_threads(settings)
        console = Console(soft_wrap=True)

        def report(row: dict[str, Any]) -> None:
            console.print(
                f"epoch {row['epoch'] + 1:4d}/{settings.optimizer.epochs}  "
                f"validation: energy {row['energy_rmse_mev_per_atom']:8.2f} meV/atom, "
                f"forces {row['forces_rmse_ev_per_ang']:.4f} eV/Å   "
                f"training forces {row['train_forces_rmse_ev_per_ang']:.4f}   {row['seconds']:.1f} s",
                highlight=False,
            )

        trainer = Trainer(settings, report)
        console.print(
            f"{len(trainer.training)} training and {len(trainer.validation)} validation structures, "
            f"{', '.join(trainer.potential.info.elements)}; "
            f"{trainer.train_set.mean_neighbors():.1f} neighbours within {trainer.potential.info.cutoff:g} Å; "
            f"{sum(p.numel() for p in trainer.potential.parameters())} weights; folder {trainer.folder}",
            highlight=False,
        )
        result = finish(trainer)
        overall = result.metrics["validation"]["overall"]
        console.print(
            f"validation RMSE {overall['energy_rmse_mev_per_atom']:.2f} meV/atom, "
            f"{overall['forces_rmse_ev_per_ang']:.4f} eV/Å (weights of epoch {result.best_epoch + 1}); card and "
            f"pictures in {result.folder}",
            highlight=False,
        )

    @app.command(name="eval")
    def evaluate(
        potential: Annotated[str, typer.Argument(help="Name in the zoo, weights file or model file.")],
        data: Annotated[Path, typer.Argument(help="Extended XYZ with energies and forces.")],
        json_out: Annotated[Optional[Path], typer.Option("--json", help="Write the figures here.")] = None,
        dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float64",
        plot: Annotated[Optional[Path], typer.Option(help="Write a parity plot (PNG) here.")] = None,
        group_key: Annotated[str, typer.Option(help="info key of the groups.")] = "group",
        energy_key: Annotated[str, typer.Option(help="info key of the energy.")] = "energy",
        forces_key: Annotated[str, typer.Option(help="Array of the forces.")] = "forces",
        stress_key: Annotated[str, typer.Option(help="info key of the stress.")] = "stress",
    ) -> None:
        """Compare a potential with labelled structures: energy, force and stress errors, overall and per group."""
        import json

        from rich.console import Console
        from rich.table import Table

        from mlcalc.files import write_atomic
        from mlcalc.training.dataset import read_labelled
        from mlcalc.training.metrics import errors_by_group, predict
        from mlcalc.training.settings import DataSettings
        from mlcalc.zoo import load

        keys = DataSettings(group_key=group_key, energy_key=energy_key, forces_key=forces_key, stress_key=stress_key)
        labelled = read_labelled(data, keys)
        predictions = predict(load(potential, dtype=dtype), labelled)
        by_group = errors_by_group(predictions)
        figures = {**by_group["overall"], **by_group}  # the overall figures by their plain names, too
        if json_out is not None:
            write_atomic(json_out, json.dumps(figures, indent=1))
        if plot is not None:
            from mlcalc.training.plots import parity_plot

            parity_plot({data.name: predictions}, plot)
        table = Table(
            "frames", "number", "E RMSE\nmeV/atom", "E MAE\nmeV/atom", "F RMSE\neV/Å", "F MAE\neV/Å", "S RMSE\nGPa"
        )
        for name, m in [("all", figures["overall"]), *figures["groups"].items()]:
            stress = m["stress_rmse_gpa"]
            table.add_row(
                name,
                str(m["n_structures"]),
                f"{m['energy_rmse_mev_per_atom']:.2f}",
                f"{m['energy_mae_mev_per_atom']:.2f}",
                f"{m['forces_rmse_ev_per_ang']:.4f}",
                f"{m['forces_mae_ev_per_ang']:.4f}",
                "–" if stress is None else f"{stress:.3f}",
            )
        Console().print(table)
