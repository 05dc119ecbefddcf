"""``mlcalc heat``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

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
    ForceToleranceOption,
    MinLengthOption,
    PrimitiveMatrixOption,
    RelaxFirstOption,
    SupercellOption,
    SymprecOption,
)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def heat(
        files: FilesArgument,
        potential: PotentialOption = None,
        calculator: CalculatorOption = None,
        calculator_python: CalculatorPythonOption = None,
        dispersion: DispersionOption = None,
        out: OutOption = Path("heat"),
        config: ConfigOption = None,
        supercell: SupercellOption = None,
        min_length: MinLengthOption = 10.0,
        displacement: DisplacementOption = 0.03,
        pair_cutoff: Annotated[Optional[float], typer.Option(help="Leave out pairs farther apart, Å.")] = None,
        primitive_matrix: PrimitiveMatrixOption = "auto",
        mesh: Annotated[str, typer.Option(help="q-points, e.g. '11 11 11', or a length in Å.")] = "50.0",
        check_mesh: Annotated[bool, typer.Option(help="Solve on a mesh of two thirds, too.")] = True,
        mesh_tolerance: Annotated[float, typer.Option(help="Allowed relative change between both.")] = 0.1,
        temperatures_k: Annotated[str, typer.Option(help="K.")] = "100 200 300 400 500 600 700 800 900 1000",
        method: Annotated[str, typer.Option(help="rta or lbte.")] = "rta",
        isotope: Annotated[bool, typer.Option(help="Scatter at isotopes of natural abundance.")] = False,
        force_tolerance: ForceToleranceOption = 1e-3,
        symprec: SymprecOption = 1e-4,
        dtype: Float64Option = None,
        device: DeviceOption = None,
        relax_first: RelaxFirstOption = False,
    ) -> None:
        """Lattice thermal conductivity with phono3py. The same command again goes on after a kill.

        Writes heat.json, heat.png, structure.extxyz and phono3py_params.yaml.
        """
        import numpy as np
        from ase.io import write
        from rich.console import Console
        from rich.table import Table

        from mlcalc.cli._calculator import precise_calculator
        from mlcalc.cli._inputs import (
            folder_of,
            length_or_three_integers,
            numbers,
            progress_bar,
            read_structures,
            three_integers,
        )
        from mlcalc.cli._relax_first import relaxed_first
        from mlcalc.records import write_json
        from mlcalc.workflows import heat_conduction, plot_heat
        from mlcalc.workflows._heat_solver import load_phono3py

        load_phono3py()  # before anything is relaxed
        structures = read_structures(files)
        temperatures = numbers(temperatures_k, "--temperatures-k")
        engine = precise_calculator(potential, calculator, dtype, device, calculator_python, dispersion)
        grid = length_or_three_integers(mesh, "--mesh")
        repeats = three_integers(supercell, "--supercell")
        table = Table("structure", "T K", "κxx", "κyy", "κzz W/(m K)", "mesh", "change", "converged")
        for number, (name, given) in enumerate(structures, 1):
            folder = folder_of(out, name, len(structures))
            atoms = relaxed_first(given, engine, folder) if relax_first else given
            write(folder / "structure.extxyz", atoms, format="extxyz")
            with progress_bar(f"heat {name} ({number}/{len(structures)})", None) as update:

                def report(done: int, total: int, update: Any = update) -> None:
                    update(done, f"of {total} displacements")

                result = heat_conduction(
                    atoms,
                    engine,
                    supercell=repeats,
                    min_length=min_length,
                    displacement=displacement,
                    pair_cutoff=pair_cutoff,
                    primitive_matrix=primitive_matrix,
                    mesh=grid,
                    check_mesh=check_mesh,
                    mesh_tolerance=mesh_tolerance,
                    temperatures_k=temperatures,
                    method=method,
                    isotope=isotope,
                    force_tolerance=force_tolerance,
                    symprec=symprec,
                    out=folder,
                    progress=report,
                )
            write_json(folder / "heat.json", result.to_dict())
            plot_heat(result, folder / "heat.png", name)
            row = int(np.abs(result.temperature_k - 300.0).argmin())
            table.add_row(
                name,
                f"{result.temperature_k[row]:g}",
                *(f"{result.kappa_w_per_m_k[row, k, k]:.4g}" for k in range(3)),
                " ".join(map(str, result.mesh)),
                "–" if result.mesh_change is None else f"{100 * result.mesh_change:.1f} %",
                "yes" if result.converged else "[bold red]NO[/]",
            )
        Console().print(table)
        typer.echo(f"every temperature in heat.json; change: against a mesh of two thirds; files in {out}")
