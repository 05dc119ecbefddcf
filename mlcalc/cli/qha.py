"""``mlcalc qha``."""

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
    def qha(
        files: FilesArgument,
        potential: PotentialOption = None,
        calculator: CalculatorOption = None,
        calculator_python: CalculatorPythonOption = None,
        dispersion: DispersionOption = None,
        out: OutOption = Path("qha"),
        config: ConfigOption = None,
        strain: Annotated[float, typer.Option(help="Volumes from 1 - strain to 1 + strain of the given.")] = 0.05,
        points: Annotated[int, typer.Option(help="How many volumes.")] = 9,
        pressure_gpa: Annotated[float, typer.Option(help="External pressure, GPa.")] = 0.0,
        form: Annotated[str, typer.Option(help="vinet, birch_murnaghan or murnaghan.")] = "vinet",
        max_temperature_k: Annotated[float, typer.Option(help="Last temperature, K.")] = 1000.0,
        temperature_step_k: Annotated[float, typer.Option(help="Step between temperatures, K.")] = 10.0,
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
        """Thermal expansion, Gibbs energy, B(T) and Cp, quasi-harmonic. The same command again goes on after a kill.

        Writes qha.json, qha.png, and for each volume a folder with what phonopy goes on from.
        """
        from ase.units import kB
        from rich.console import Console
        from rich.table import Table

        from mlcalc.cli._calculator import precise_calculator
        from mlcalc.cli._inputs import folder_of, progress_bar, read_structures, three_integers
        from mlcalc.cli._relax_first import relaxed_first
        from mlcalc.records import write_json
        from mlcalc.workflows import plot_qha
        from mlcalc.workflows import qha as run

        structures = read_structures(files)
        engine = precise_calculator(potential, calculator, dtype, device, calculator_python, dispersion)
        grid = three_integers(mesh, "--mesh") or (20, 20, 20)
        repeats = three_integers(supercell, "--supercell")
        table = Table("structure", "T K", "V Å³/atom", "expansion 1e-6/K", "B GPa", "Cp k_B/atom", "converged")
        for number, (name, given) in enumerate(structures, 1):
            folder = folder_of(out, name, len(structures))
            atoms = relaxed_first(given, engine, folder) if relax_first else given
            with progress_bar(f"qha {name} ({number}/{len(structures)})", points) as update:

                def report(done: int, total: int, update: Any = update) -> None:
                    update(done, f"of {total} volumes")

                result = run(
                    atoms,
                    engine,
                    strain=strain,
                    points=points,
                    pressure_gpa=pressure_gpa,
                    form=form,
                    max_temperature_k=max_temperature_k,
                    temperature_step_k=temperature_step_k,
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
            write_json(folder / "qha.json", result.to_dict())
            plot_qha(result, folder / "qha.png", name)
            last = len(result.temperature_k) - 1
            for index in sorted({0, int(abs(result.temperature_k - 300.0).argmin()), last}):
                outside = result.trusted_below_k is None or result.temperature_k[index] > result.trusted_below_k
                table.add_row(
                    name if index == 0 else "",
                    f"{result.temperature_k[index]:g}",
                    f"{result.volume_ang3_per_atom[index]:.4f}" + (" [bold red]extrapolated[/]" if outside else ""),
                    f"{1e6 * result.thermal_expansion_per_k[index]:.2f}",
                    f"{result.bulk_modulus_gpa[index]:.2f}",
                    f"{result.heat_capacity_p_ev_per_k_per_atom[index] / kB:.3f}",
                    ("yes" if result.converged else "[bold red]NO[/]") if index == 0 else "",
                )
        Console().print(table)
        typer.echo(f"files in {out}")
