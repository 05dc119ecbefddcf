"""``mlcalc phonons``."""

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
    ForceToleranceOption,
    ImaginaryOption,
    MinLengthOption,
    PrimitiveMatrixOption,
    RelaxFirstOption,
    SupercellOption,
    SymprecOption,
)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def phonons(
        files: FilesArgument,
        potential: PotentialOption = None,
        calculator: CalculatorOption = None,
        calculator_python: CalculatorPythonOption = None,
        dispersion: DispersionOption = None,
        out: OutOption = Path("phonons"),
        config: ConfigOption = None,
        supercell: SupercellOption = None,
        min_length: MinLengthOption = 12.0,
        displacement: DisplacementOption = 0.01,
        primitive_matrix: PrimitiveMatrixOption = "auto",
        mesh: Annotated[str, typer.Option(help="q-points, e.g. '20 20 20', or a length in Å.")] = "100.0",
        max_temperature_k: Annotated[float, typer.Option(help="Last temperature of the thermal table, K.")] = 1000.0,
        imaginary_tolerance_thz: ImaginaryOption = 0.1,
        force_tolerance: ForceToleranceOption = 1e-3,
        symprec: SymprecOption = 1e-4,
        dtype: Float64Option = None,
        device: DeviceOption = None,
        relax_first: RelaxFirstOption = False,
    ) -> None:
        """Phonon bands, DOS and thermal properties. The same command again goes on after a kill.

        Writes phonons.json, bands.png, thermal.png, and phonopy_params.yaml, FORCE_SETS, phonopy_disp.yaml.
        """
        from ase.io import write
        from rich.console import Console
        from rich.table import Table

        from mlcalc.cli._calculator import precise_calculator
        from mlcalc.cli._inputs import (
            folder_of,
            length_or_three_integers,
            progress_bar,
            read_structures,
            three_integers,
        )
        from mlcalc.cli._relax_first import relaxed_first
        from mlcalc.records import write_json
        from mlcalc.workflows import phonons as run
        from mlcalc.workflows import plot_bands, plot_thermal

        structures = read_structures(files)
        engine = precise_calculator(potential, calculator, dtype, device, calculator_python, dispersion)
        grid = length_or_three_integers(mesh, "--mesh")
        repeats = three_integers(supercell, "--supercell")
        table = Table("structure", "space group", "cells", "min THz", "max THz", "S(300 K) k_B/atom", "stable")
        for number, (name, given) in enumerate(structures, 1):
            folder = folder_of(out, name, len(structures))
            atoms = relaxed_first(given, engine, folder) if relax_first else given
            write(folder / "structure.extxyz", atoms, format="extxyz")
            with progress_bar(f"phonons {name} ({number}/{len(structures)})", None) as update:

                def report(done: int, total: int, update: Any = update) -> None:
                    update(done, f"of {total} displacements")

                result = run(
                    atoms,
                    engine,
                    supercell=repeats,
                    min_length=min_length,
                    displacement=displacement,
                    primitive_matrix=primitive_matrix,
                    mesh=grid,
                    temperatures=(0.0, max_temperature_k, 10.0),
                    imaginary_tolerance_thz=imaginary_tolerance_thz,
                    force_tolerance=force_tolerance,
                    symprec=symprec,
                    out=folder,
                    progress=report,
                )
            write_json(folder / "phonons.json", result.to_dict())
            plot_bands(result, folder / "bands.png", name)
            plot_thermal(result, folder / "thermal.png", name)
            table.add_row(
                name,
                result.spacegroup or "–",
                str(result.displacements),
                f"{result.min_frequency_thz:.3f}",
                f"{result.max_frequency_thz:.3f}",
                _entropy_at_room(result),
                "yes" if result.dynamically_stable else f"[bold red]NO[/] ({len(result.imaginary)} imaginary)",
            )
        Console().print(table)
        typer.echo(f"files in {out}; phonopy goes on from phonopy_params.yaml")


def _entropy_at_room(result: Any) -> str:
    import numpy as np
    from ase.units import kB

    thermal = result.thermal
    if thermal.temperature_k[-1] < 300.0:
        return "–"
    entropy = float(np.interp(300.0, thermal.temperature_k, thermal.entropy_ev_per_k))
    return f"{entropy / kB / len(result.primitive):.3f}"
