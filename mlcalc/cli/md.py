"""``mlcalc md``."""

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
from mlcalc.cli._inputs import ConfigOption, FilesArgument, OutOption
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
    def md(
        files: FilesArgument,
        potential: PotentialOption = None,
        calculator: CalculatorOption = None,
        calculator_python: CalculatorPythonOption = None,
        dispersion: DispersionOption = None,
        out: OutOption = Path("md"),
        config: ConfigOption = None,
        ensemble: Annotated[str, typer.Option(help="nve, nvt-langevin, nvt-bussi or npt-mtk.")] = "nvt-langevin",
        temperature_k: Annotated[float, typer.Option(help="Temperature, K.")] = 300.0,
        pressure_gpa: Annotated[float, typer.Option(help="Pressure for npt-mtk, GPa.")] = 0.0,
        timestep_fs: TimestepOption = 1.0,
        steps: Annotated[int, typer.Option(help="Steps in all; more than before extends a finished run.")] = 1000,
        tau_fs: TauOption = 100.0,
        barostat_tau_fs: Annotated[float, typer.Option(help="Time constant of the barostat, fs.")] = 1000.0,
        npt_cell: Annotated[str, typer.Option(help="isotropic or full.")] = "isotropic",
        supercell: RepeatOption = None,
        seed: SeedOption = 0,
        engine: EngineOption = "ase",
        ranks: RanksOption = 1,
        log_interval: Annotated[int, typer.Option(help="Steps between rows of log.csv.")] = 10,
        trajectory_interval: TrajectoryIntervalOption = 10,
        checkpoint_interval: CheckpointIntervalOption = 100,
        resume: Annotated[bool, typer.Option(help="Go on from a checkpoint in --out.")] = True,
        rdf_max: Annotated[float, typer.Option(help="Largest distance of g(r), Å.")] = 6.0,
        dtype: Annotated[
            Optional[str],
            typer.Option(help="float32 or float64 for --potential; default: a model file's own, float64 for others."),
        ] = None,
        device: DeviceOption = None,
    ) -> None:
        """Molecular dynamics. The same command again goes on after a kill. Writes log.csv, trajectory.extxyz, md.json.

        Pictures: log.png, rdf.png, msd.png.
        """
        from rich.console import Console
        from rich.table import Table

        from mlcalc.cli._calculator import dynamics_calculator
        from mlcalc.cli._inputs import folder_of, progress_bar, read_structures, three_integers
        from mlcalc.records import write_json
        from mlcalc.workflows import md as run
        from mlcalc.workflows import plot_log, plot_msd, plot_rdf

        structures = read_structures(files)
        repeat = three_integers(supercell, "--supercell")
        calculator_or_name, precision = dynamics_calculator(
            potential, calculator, engine, dtype, device, calculator_python, dispersion
        )
        table = Table("structure", "steps", "T K", "E_pot eV/atom", "p GPa", "drift meV/atom/ps", "ms/step")
        for number, (name, atoms) in enumerate(structures, 1):
            folder = folder_of(out, name, len(structures))
            with progress_bar(f"md {name} ({number}/{len(structures)})", steps) as update:

                def report(step: int, total: int, update: Any = update) -> None:
                    update(step, "")

                result = run(
                    atoms.repeat(repeat) if repeat else atoms,
                    calculator_or_name,
                    ensemble=ensemble,
                    temperature_k=temperature_k,
                    pressure_gpa=pressure_gpa,
                    timestep_fs=timestep_fs,
                    steps=steps,
                    tau_fs=tau_fs,
                    barostat_tau_fs=barostat_tau_fs,
                    npt_cell=npt_cell,
                    seed=seed,
                    out=folder,
                    engine=engine,
                    ranks=ranks,
                    dtype=precision,
                    log_interval=log_interval,
                    trajectory_interval=trajectory_interval,
                    checkpoint_interval=checkpoint_interval,
                    resume=resume,
                    progress=report,
                )
            if result.resumed_from:
                typer.echo(f"{name}: went on from step {result.resumed_from}")
            document = result.to_dict()
            plot_log(result, folder / "log.png", name)
            frames = result.frames()
            if len(frames) > 1:
                msd = result.msd()
                document["msd"] = msd.to_dict()
                plot_msd(msd, folder / "msd.png", name)
            if frames and frames[0].pbc.all():
                rdf = result.rdf(r_max=rdf_max)
                document["rdf"] = rdf.to_dict()
                plot_rdf({name: rdf}, folder / "rdf.png", name)
            write_json(folder / "md.json", document)
            done = max(result.steps - result.resumed_from, 1)
            late = slice(len(result.step) // 2, None)
            table.add_row(
                name,
                str(result.steps),
                f"{result.temperature_k[late].mean():.1f}",
                f"{result.potential_ev[late].mean() / len(result.atoms):.5f}",
                f"{result.pressure_gpa[late].mean():.3f}",
                f"{1000 * result.drift_ev_per_atom_per_ps:.4f}" if ensemble == "nve" else "–",
                f"{1000 * result.wall_time_s / done:.2f}",
            )
        Console().print(table)
        typer.echo(f"averages over the second half; files in {out}")
