"""``mlcalc elastic``."""

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
from mlcalc.cli._options import MaxStepsOption, OptimizerOption, SymprecOption


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def elastic(
        files: FilesArgument,
        potential: PotentialOption = None,
        calculator: CalculatorOption = None,
        calculator_python: CalculatorPythonOption = None,
        dispersion: DispersionOption = None,
        out: OutOption = Path("elastic"),
        config: ConfigOption = None,
        amplitudes: Annotated[str, typer.Option(help="Norms of the strains.")] = "0.002 0.004 0.006",
        relax_first: Annotated[bool, typer.Option("--relax/--no-relax", help="Relax positions and cell first.")] = True,
        pressure_gpa: Annotated[float, typer.Option(help="External pressure, GPa.")] = 0.0,
        fmax: Annotated[float, typer.Option(help="Of all relaxations, eV/Å.")] = 1e-5,
        stress_tolerance_gpa: Annotated[float, typer.Option(help="Of the reference, GPa.")] = 0.01,
        symmetry: Annotated[bool, typer.Option(help="Use it; --no-symmetry strains in all six ways.")] = True,
        symprec: SymprecOption = 1e-3,
        optimizer: OptimizerOption = "BFGS",
        max_steps: MaxStepsOption = 500,
        dtype: Float64Option = None,
        device: DeviceOption = None,
    ) -> None:
        """Stiffness tensor, moduli and Born stability. The same command again goes on after a kill.

        Writes elastic.json, elastic.png, reference.extxyz (whose axes the tensor is in) and elastic_steps.json.
        """
        from ase.io import write
        from rich.console import Console
        from rich.table import Column, Table

        from mlcalc.cli._calculator import precise_calculator
        from mlcalc.cli._inputs import folder_of, numbers, progress_bar, read_structures
        from mlcalc.records import write_json
        from mlcalc.workflows import elastic as run
        from mlcalc.workflows import plot_elastic

        structures = read_structures(files)
        engine = precise_calculator(potential, calculator, dtype, device, calculator_python, dispersion)
        sizes = numbers(amplitudes, "--amplitudes")
        titles = ("structure", "space group", "K GPa", "G GPa", "E GPa", "Poisson", "A_U", "stable", "converged")
        table = Table(*(Column(title, overflow="fold") for title in titles))
        tensors = []
        for number, (name, atoms) in enumerate(structures, 1):
            folder = folder_of(out, name, len(structures))
            with progress_bar(f"elastic {name} ({number}/{len(structures)})", None) as update:

                def report(done: int, total: int, update: Any = update) -> None:
                    update(done, f"of {total} strained cells")

                result = run(
                    atoms,
                    engine,
                    amplitudes=sizes,
                    relax_first=relax_first,
                    pressure_gpa=pressure_gpa,
                    fmax=fmax,
                    stress_tolerance_gpa=stress_tolerance_gpa,
                    symmetry=symmetry,
                    symprec=symprec,
                    optimizer=optimizer,
                    max_steps=max_steps,
                    out=folder,
                    progress=report,
                )
            write_json(folder / "elastic.json", result.to_dict())
            write(folder / "reference.extxyz", result.atoms, format="extxyz")
            plot_elastic(result, folder / "elastic.png", name)
            moduli = result.moduli
            table.add_row(
                name,
                result.spacegroup or "–",
                f"{moduli.bulk_hill_gpa:.2f}",
                f"{moduli.shear_hill_gpa:.2f}",
                f"{moduli.young_gpa:.2f}",
                f"{moduli.poisson:.4f}",
                f"{moduli.universal_anisotropy:.3f}",
                "yes" if result.stable else "[bold red]NO[/]",
                "yes" if result.converged else "[bold red]NO[/]",
            )
            rows = "\n".join("  ".join(f"{value:8.2f}" for value in row) for row in result.stiffness_gpa)
            tensors.append(f"{name}, C (GPa), ions relaxed, order xx yy zz yz xz xy:\n{rows}")
        typer.echo("\n".join(tensors))
        Console().print(table)
        typer.echo(f"files in {out}")
