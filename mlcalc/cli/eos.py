"""``mlcalc eos``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mlcalc.cli._calculator import (
    CalculatorOption,
    CalculatorPythonOption,
    DeviceOption,
    DispersionOption,
    Float64Option,
    PotentialOption,
)
from mlcalc.cli._inputs import ConfigOption, FilesArgument, OutOption
from mlcalc.cli._options import (
    MaxStepsOption,
    OptimizerOption,
    RelaxIonsOption,
    RelaxShapeOption,
    ShapeStressOption,
    SymprecOption,
    VolumeFmaxOption,
)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def eos(
        files: FilesArgument,
        potential: PotentialOption = None,
        calculator: CalculatorOption = None,
        calculator_python: CalculatorPythonOption = None,
        dispersion: DispersionOption = None,
        out: OutOption = Path("eos"),
        config: ConfigOption = None,
        strain: Annotated[float, typer.Option(help="Volumes from 1 - strain to 1 + strain of the given.")] = 0.06,
        points: Annotated[int, typer.Option(help="How many volumes.")] = 11,
        form: Annotated[
            str, typer.Option(help="birch_murnaghan, vinet, murnaghan or poirier_tarantola.")
        ] = "birch_murnaghan",
        relax_ions: RelaxIonsOption = None,
        relax_shape: RelaxShapeOption = False,
        fmax: VolumeFmaxOption = 1e-3,
        stress_tolerance_gpa: ShapeStressOption = 0.05,
        optimizer: OptimizerOption = "BFGS",
        max_steps: MaxStepsOption = 500,
        symprec: SymprecOption = 1e-3,
        dtype: Float64Option = None,
        device: DeviceOption = None,
        relax_first: Annotated[
            bool, typer.Option("--relax", help="Relax positions and cell first, symmetry kept.")
        ] = False,
    ) -> None:
        """Energy against volume: V0, E0, B0, B0' by four forms. The same command again goes on after a kill.

        Writes eos.json, eos.png and eos_points.json.
        """
        from rich.console import Console
        from rich.table import Column, Table

        from mlcalc.cli._calculator import precise_calculator
        from mlcalc.cli._inputs import folder_of, progress_bar, read_structures
        from mlcalc.cli._relax_first import relaxed_first
        from mlcalc.records import write_json
        from mlcalc.workflows import eos as run
        from mlcalc.workflows import plot_eos

        structures = read_structures(files)
        engine = precise_calculator(potential, calculator, dtype, device, calculator_python, dispersion)
        titles = ("form", "V0 Å³", "E0 eV", "B0 GPa", "B0'", "rms meV")
        table = Table(
            Column("per atom", overflow="fold", min_width=8), *(Column(title, no_wrap=True) for title in titles)
        )
        for number, (name, given) in enumerate(structures, 1):
            folder = folder_of(out, name, len(structures))
            atoms = relaxed_first(given, engine, folder) if relax_first else given
            with progress_bar(f"eos {name} ({number}/{len(structures)})", points) as update:

                def report(done: int, total: int, update: Any = update) -> None:
                    update(done, f"of {total} volumes")

                result = run(
                    atoms,
                    engine,
                    strain=strain,
                    points=points,
                    form=form,
                    relax_ions=relax_ions,
                    relax_shape=relax_shape,
                    fmax=fmax,
                    stress_tolerance_gpa=stress_tolerance_gpa,
                    optimizer=optimizer,
                    max_steps=max_steps,
                    symprec=symprec,
                    out=folder,
                    progress=report,
                )
            write_json(folder / "eos.json", result.to_dict())
            plot_eos(result, folder / "eos.png", name)
            sound = result.converged and result.minimum_inside
            for fit in result.fits.values():
                chosen = fit.form == result.fit.form
                table.add_row(
                    ("" if not chosen else name if sound else f"{name} [bold red]NOT SOUND[/]"),
                    fit.form.replace("_", " "),
                    f"{fit.volume_ang3_per_atom:.4f}",
                    f"{fit.energy_ev_per_atom:.5f}",
                    f"{fit.bulk_modulus_gpa:.2f}",
                    f"{fit.bulk_modulus_derivative:.3f}",
                    f"{fit.rms_residual_mev_per_atom:.3f}",
                )
        Console().print(table)
        typer.echo(f"files in {out}")
