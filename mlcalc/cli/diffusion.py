"""``mlcalc diffusion``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from mlcalc.cli._calculator import (
    CalculatorOption,
    CalculatorPythonOption,
    DeviceOption,
    DispersionOption,
    PotentialOption,
)
from mlcalc.cli._inputs import ConfigOption, OutOption
from mlcalc.cli._options import (
    CheckpointIntervalOption,
    EngineOption,
    RanksOption,
    RepeatOption,
    SeedOption,
    TauOption,
    TimestepOption,
    TrajectoryIntervalOption,
)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def diffusion(
        file: Annotated[Path, typer.Argument(help="Structure; with --trajectory, a trajectory.")],
        potential: PotentialOption = None,
        calculator: CalculatorOption = None,
        calculator_python: CalculatorPythonOption = None,
        dispersion: DispersionOption = None,
        out: OutOption = Path("diffusion"),
        config: ConfigOption = None,
        temperatures_k: Annotated[str, typer.Option(help="One or several, K, e.g. '600 800 1000'.")] = "300",
        steps: Annotated[int, typer.Option(help="Of each run, equilibration included; more extend it.")] = 100000,
        equilibration_steps: Annotated[int, typer.Option(help="Left out at the start.")] = 10000,
        ensemble: Annotated[str, typer.Option(help="nvt-bussi, nve or nvt-langevin.")] = "nvt-bussi",
        timestep_fs: TimestepOption = 1.0,
        tau_fs: TauOption = 100.0,
        supercell: RepeatOption = None,
        seed: SeedOption = 0,
        engine: EngineOption = "ase",
        ranks: RanksOption = 1,
        trajectory_interval: TrajectoryIntervalOption = 10,
        checkpoint_interval: CheckpointIntervalOption = 1000,
        blocks: Annotated[int, typer.Option(help="Pieces of a trajectory, for error bars.")] = 10,
        fit_start_fs: Annotated[Optional[float], typer.Option(help="First lag of the fit, fs.")] = None,
        fit_stop_fs: Annotated[Optional[float], typer.Option(help="Last lag, fs; default: half a block.")] = None,
        axes: Annotated[str, typer.Option(help="Directions that count: xyz, xy, z, …")] = "xyz",
        trajectory: Annotated[bool, typer.Option("--trajectory", help="FILE is a trajectory: no dynamics.")] = False,
        interval_fs: Annotated[
            Optional[float], typer.Option(help="With --trajectory: between frames, fs; default: from the file.")
        ] = None,
        resume: Annotated[bool, typer.Option(help="Go on with runs in --out.")] = True,
        dtype: Annotated[
            Optional[str],
            typer.Option(help="float32 or float64 for --potential; default: a model file's own, float64 for others."),
        ] = None,
        device: DeviceOption = None,
    ) -> None:
        """Diffusion coefficients with error bars, their Arrhenius line. The same command again goes on after a kill.

        Writes diffusion.json, msd.png, arrhenius.png (several temperatures), and the run at each temperature.
        """
        from rich.console import Console
        from rich.table import Table

        from mlcalc.cli._calculator import dynamics_calculator
        from mlcalc.cli._inputs import numbers, progress_bar, read_structures, three_integers
        from mlcalc.errors import WorkflowError
        from mlcalc.records import write_json
        from mlcalc.workflows import TrajectoryDiffusion, diffusion_from_trajectory, plot_arrhenius, plot_diffusion
        from mlcalc.workflows import diffusion as run

        estimate: dict[str, Any] = {
            "blocks": blocks,
            "fit_start_fs": fit_start_fs,
            "fit_stop_fs": fit_stop_fs,
            "axes": axes,
        }
        runs: dict[str, TrajectoryDiffusion]
        lines: dict[str, Any] = {}
        if trajectory:
            if potential is not None or calculator is not None:
                raise WorkflowError("--trajectory needs no --potential or --calculator: no dynamics are run")
            if not file.is_file():
                raise WorkflowError(f"{file}: no such file")
            found = diffusion_from_trajectory(file, interval_fs=interval_fs, **estimate)
            out.mkdir(parents=True, exist_ok=True)
            write_json(out / "diffusion.json", found.to_dict())
            runs = {file.stem: found}
        else:
            if interval_fs is not None:
                raise WorkflowError("--interval-fs is for --trajectory; a run has --trajectory-interval (steps)")
            temperatures = numbers(temperatures_k, "--temperatures-k")
            atoms = read_structures([file])[-1][1]
            repeat = three_integers(supercell, "--supercell")
            calculator_or_name, precision = dynamics_calculator(
                potential, calculator, engine, dtype, device, calculator_python, dispersion
            )
            with progress_bar(f"diffusion {file.stem}", steps * len(temperatures)) as update:
                result = run(
                    atoms.repeat(repeat) if repeat else atoms,
                    calculator_or_name,
                    temperatures_k=temperatures,
                    steps=steps,
                    equilibration_steps=equilibration_steps,
                    ensemble=ensemble,
                    timestep_fs=timestep_fs,
                    tau_fs=tau_fs,
                    seed=seed,
                    engine=engine,
                    ranks=ranks,
                    dtype=precision,
                    trajectory_interval=trajectory_interval,
                    checkpoint_interval=checkpoint_interval,
                    out=out,
                    resume=resume,
                    progress=lambda t, step, total: update(
                        steps * sorted(temperatures).index(t) + step, f"{t:g} K, step {step} of {total}"
                    ),
                    **estimate,
                )
            write_json(out / "diffusion.json", result.to_dict())
            lines = result.arrhenius
            runs = {f"{t:g} K": item for t, item in zip(sorted(temperatures), result.runs, strict=True)}
            if len(runs) > 1:
                plot_arrhenius(result, out / "arrhenius.png", file.stem)
        plot_diffusion(runs, out / "msd.png", file.stem)
        table = Table("run", "element", "D cm²/s", "error", "log–log slope", "diffusive")
        for name, item in runs.items():
            for symbol, element in item.elements.items():
                bound = f"[bold red]NO[/]: {element.bound} bound {element.bound_cm2_per_s:.2e}" if element.bound else ""
                table.add_row(
                    name,
                    symbol,
                    f"{element.diffusion_cm2_per_s:.3e}" if element.diffusive else "–",
                    f"{element.error_cm2_per_s:.1e}" if element.diffusive else "–",
                    f"{element.exponent:.2f} ± {element.exponent_error:.2f}",
                    bound or "yes",
                )
        Console().print(table)
        for symbol, line in lines.items():
            typer.echo(
                f"{symbol}: E_a = {line.activation_energy_ev:.4f} ± {line.activation_energy_error_ev:.4f} eV, "
                f"D0 = {line.prefactor_cm2_per_s:.2e} cm²/s (ln D0 ± {line.log_prefactor_error:.2f})"
            )
        typer.echo(f"errors are one standard error of {blocks} blocks; files in {out}")
