"""``mlcalc grade``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def grade(
        weights: Annotated[Path, typer.Argument(help="Weights file (.safetensors) of a trained potential.")],
        config: Annotated[Path, typer.Argument(help="Config of its training: which frames it was trained on.")],
        out: Annotated[Path, typer.Option("--out", "-o", help="Weights file to write.")] = Path("graded.safetensors"),
        landmarks: Annotated[int, typer.Option(min=1, help="Training environments kept for each element.")] = 64,
    ) -> None:
        """Fit the extrapolation grade of a potential trained without one, and compare it with errors it makes.

        Writes OUT, and beside it OUT's name with .json (figures) and .png (grade against force error).
        """
        from mlcalc.deploy import load_weights, save_weights
        from mlcalc.graphs import build_graph
        from mlcalc.records import write_json
        from mlcalc.training.dataset import read_sets
        from mlcalc.training.extrapolation import calibration, fit_grade
        from mlcalc.training.metrics import predict
        from mlcalc.training.plots import grade_plot
        from mlcalc.training.settings import read_settings

        if out.suffix != ".safetensors":
            raise typer.BadParameter(f"{out}: weights files end in .safetensors", param_hint="--out")
        potential = load_weights(weights)
        training, validation, _ = read_sets(read_settings(config))
        info = potential.info
        graphs = (build_graph(item.atoms, info.elements, info.cutoff, needs=info.needs) for item in training)
        graded = fit_grade(potential, graphs, landmarks)
        predictions = predict(graded, validation)
        found = calibration(predictions)
        assert found is not None
        save_weights(graded, out)
        write_json(out.with_suffix(".json"), found)
        grade_plot(predictions, out.with_suffix(".png"))
        typer.echo(f"{out}: fitted to {sum(len(item.atoms) for item in training)} atoms; validation set:")
        typer.echo("   grade  force RMSE, eV/Å")
        for middle, error in zip(found["grade"], found["forces_rmse_ev_per_ang"], strict=True):
            typer.echo(f"{middle:8.3f}  {error:.4f}")
        typer.echo(
            f"largest grade {found['largest_grade']:.2f}; rank correlation with the force error "
            f"{found['rank_correlation']:.2f} over atoms, {found['rank_correlation_of_frames']:.2f} over frames"
        )
