"""``mlcalc gruneisen``."""

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
    DisplacementOption,
    ImaginaryOption,
    MaxStepsOption,
    MeshOption,
    MinLengthOption,
    OptimizerOption,
    RelaxFirstOption,
    RelaxIonsOption,
    RelaxShapeOption,
    ShapeStressOption,
    SupercellOption,
    SymprecOption,
    VolumeFmaxOption,
)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def gruneisen(
        files: FilesArgument,
        potential: PotentialOption = None,
        calculator: CalculatorOption = None,
        calculator_python: CalculatorPythonOption = None,
        dispersion: DispersionOption = None,
        out: OutOption = Path("gruneisen"),
        config: ConfigOption = None,
        volume_step: Annotated[float, typer.Option(help="Fraction of the volume, both ways.")] = 0.01,
        max_temperature_k: Annotated[float, typer.Option(help="Last temperature of the means, K.")] = 1000.0,
        relax_ions: RelaxIonsOption = None,
        relax_shape: RelaxShapeOption = False,
        fmax: VolumeFmaxOption = 1e-4,
        stress_tolerance_gpa: ShapeStressOption = 0.01,
        optimizer: OptimizerOption = "BFGS",
        max_steps: MaxStepsOption = 500,
        supercell: SupercellOption = None,
        min_length: MinLengthOption = 12.0,
        displacement: DisplacementOption = 0.01,
        mesh: MeshOption = "20 20 20",
        imaginary_tolerance_thz: ImaginaryOption = 0.1,
        symprec: SymprecOption = 1e-4,
        dtype: Float64Option = None,
        device: DeviceOption = None,
        relax_first: RelaxFirstOption = False,
    ) -> None:
        """Mode Grüneisen parameters on a mesh, and their means. The same command again goes on after a kill.

        Writes gruneisen.json, gruneisen.png, and for each volume a folder with what phonopy goes on from.
        """
        import numpy as np
        from rich.console import Console
        from rich.table import Table

        from mlcalc.cli._calculator import precise_calculator
        from mlcalc.cli._inputs import folder_of, progress_bar, read_structures, three_integers
        from mlcalc.cli._relax_first import relaxed_first
        from mlcalc.records import write_json
        from mlcalc.workflows import gruneisen as run
        from mlcalc.workflows import plot_gruneisen

        structures = read_structures(files)
        engine = precise_calculator(potential, calculator, dtype, device, calculator_python, dispersion)
        grid = three_integers(mesh, "--mesh") or (20, 20, 20)
        repeats = three_integers(supercell, "--supercell")
        table = Table("structure", "mean", "weighted", "lowest", "highest", "α 1e-6/K", "stable", "converged")
        for number, (name, given) in enumerate(structures, 1):
            folder = folder_of(out, name, len(structures))
            atoms = relaxed_first(given, engine, folder) if relax_first else given
            with progress_bar(f"gruneisen {name} ({number}/{len(structures)})", 3) as update:

                def report(done: int, total: int, update: Any = update) -> None:
                    update(done, f"of {total} volumes")

                result = run(
                    atoms,
                    engine,
                    volume_step=volume_step,
                    temperatures=(10.0, max(max_temperature_k, 10.0), 10.0),
                    relax_ions=relax_ions,
                    relax_shape=relax_shape,
                    fmax=fmax,
                    stress_tolerance_gpa=stress_tolerance_gpa,
                    optimizer=optimizer,
                    max_steps=max_steps,
                    supercell=repeats,
                    min_length=min_length,
                    displacement=displacement,
                    mesh=grid,
                    imaginary_tolerance_thz=imaginary_tolerance_thz,
                    symprec=symprec,
                    out=folder,
                    progress=report,
                )
            write_json(folder / "gruneisen.json", result.to_dict())
            plot_gruneisen(result, folder / "gruneisen.png", name)
            warm = int(abs(result.temperature_k - 300.0).argmin())
            near = f"{result.temperature_k[warm]:g} K"
            table.add_row(
                name,
                f"{result.mean:.3f}",
                f"{result.thermodynamic[warm]:.3f} ({near})",
                f"{np.nanmin(result.gruneisen):.3f}",
                f"{np.nanmax(result.gruneisen):.3f}",
                f"{1e6 * result.thermal_expansion_per_k[warm]:.2f} ({near})",
                "yes" if result.dynamically_stable else "[bold red]NO[/]",
                "yes" if result.converged else "[bold red]NO[/]",
            )
        Console().print(table)
        typer.echo(f"files in {out}")
