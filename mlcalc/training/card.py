"""The model card of a trained potential: what it is, what it was trained on, how good it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlcalc.potentials.neural import NeuralPotential
from mlcalc.training.settings import TrainingSettings


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def error_table(metrics: dict[str, Any]) -> str:
    """Return a Markdown table of ``errors_by_group`` output."""
    lines = [
        "| frames | number | energy RMSE (MAE), meV/atom | force RMSE (MAE), eV/Å | stress RMSE, GPa |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, m in [("all", metrics["overall"]), *metrics["groups"].items()]:
        lines.append(
            f"| {name} | {m['n_structures']} | {_number(m['energy_rmse_mev_per_atom'], 2)} "
            f"({_number(m['energy_mae_mev_per_atom'], 2)}) | {_number(m['forces_rmse_ev_per_ang'], 4)} "
            f"({_number(m['forces_mae_ev_per_ang'], 4)}) | {_number(m['stress_rmse_gpa'], 3)} |"
        )
    return "\n".join(lines)


def grade_section(grade: dict[str, Any] | None) -> str:
    """Return a Markdown section on ``calibration`` output, empty without grades."""
    if grade is None:
        return ""
    rows = zip(grade["grade"], grade["forces_rmse_ev_per_ang"], strict=True)
    lines = "\n".join(f"| {middle:.2f} | {error:.4f} |" for middle, error in rows)
    return f"""## Extrapolation grade

Distance of an atom's environment from the training set; 1 is the farthest in training. On the validation set, in bins
of equally many atoms:

| grade (median) | force RMSE, eV/Å |
|---:|---:|
{lines}

Rank correlation of grade and force error: {_number(grade["rank_correlation"], 2)} over atoms,
{_number(grade["rank_correlation_of_frames"], 2)} over frames (largest grade, RMS error). Largest grade:
{grade["largest_grade"]:.2f}; {100 * grade["share_above_1"]:.2g} % of atoms are above 1.

"""


def model_card(
    potential: NeuralPotential, settings: TrainingSettings, metrics: dict[str, Any], training: dict[str, Any]
) -> str:
    """Return the card as Markdown.

    Args:
        potential: the trained potential.
        settings: the run's settings.
        metrics: ``{"training": errors_by_group, "validation": errors_by_group}``, perhaps also ``"test"``.
        training: epochs, seconds, best epoch, torch version.
    """
    info = potential.info
    effort = (
        f"{training['epochs']} epochs, {training['seconds'] / 60:.1f} min on {training['threads']} CPU thread(s), "
        f"weights of epoch {training['best_epoch'] + 1}, torch {training['torch']}"
    )
    weights = sum(p.numel() for p in potential.parameters())
    held_out = (
        f"Files of their own: {', '.join(Path(p).name for p in settings.data.validation)}."
        if settings.data.validation
        else "Held out in blocks of at most four consecutive frames of a trajectory, spread evenly over each group."
    )
    chosen = " The best epoch was chosen on these." if settings.optimizer.keep == "best" else ""
    test = ""
    if "test" in metrics:
        test = f"""## Errors on the test set

These structures played no part in training, not even in choosing the epoch.

{error_table(metrics["test"])}

"""
    return f"""# {info.name}

| | |
|---|---|
| elements | {", ".join(info.elements)} |
| cutoff | {info.cutoff:g} Å |
| message-passing layers | {info.layers} |
| architecture | {settings.model.architecture}, {weights} weights{", ZBL repulsion" if settings.model.zbl else ""} |
| energy scale | {info.energy_scale} |
| training data | {info.training_data} |
| closest distance in training | {info.min_distance:g} Å |
| licence | {info.licence} |
| trained | {effort} |
| seed | {settings.seed} |

Command: `mlcalc train config.yaml`, with the `config.yaml` beside this card.

{test}## Errors on the validation set

{held_out}{chosen}

{error_table(metrics["validation"])}

{grade_section(metrics["validation"].get("grade"))}## Errors on the training set

{error_table(metrics["training"])}

![parity](parity.png)
"""
