"""``mlcalc relax``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from mlcalc.cli._calculator import CalculatorOption, DeviceOption, DtypeOption, PotentialOption
from mlcalc.cli._inputs import ConfigOption, FilesArgument, OutOption


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def relax(
        files: FilesArgument,
        potential: PotentialOption = None,
        calculator: CalculatorOption = None,
        out: OutOption = Path("relax"),
        config: ConfigOption = None,
        fmax: Annotated[float, typer.Option(help="Largest allowed force, eV/Å.")] = 0.01,
        cell: Annotated[str, typer.Option(help="fixed, full, isotropic or shape.")] = "fixed",
        pressure_gpa: Annotated[float, typer.Option(help="External pressure, GPa (needs a free cell).")] = 0.0,
        stress_tolerance_gpa: Annotated[float, typer.Option(help="Allowed deviation from it, GPa.")] = 0.05,
        symmetry: Annotated[bool, typer.Option(help="Keep the space group found at the start.")] = False,
        symprec: Annotated[float, typer.Option(help="Tolerance of the symmetry search, Å.")] = 1e-2,
        optimizer: Annotated[str, typer.Option(help="Name in ase.optimize.")] = "BFGS",
        max_steps: Annotated[int, typer.Option(help="Steps after which to give up.")] = 500,
        dtype: DtypeOption = None,
        device: DeviceOption = "cpu",
    ) -> None:
        """Relax structures: positions, and the cell with --cell. Writes relaxed.extxyz, relax.json, relax.png."""
        from ase.io import write
        from rich.console import Console
        from rich.table import Table

        from mlcalc.cli._calculator import make_calculator
        from mlcalc.cli._inputs import progress_bar, read_structures
        from mlcalc.files import atomic_path
        from mlcalc.workflows import relax as run
        from mlcalc.workflows._records import write_json
        from mlcalc.workflows._relax_plots import plot_convergence

        structures = read_structures(files)
        engine = make_calculator(potential, calculator, dtype, device)
        out.mkdir(parents=True, exist_ok=True)
        results: dict[str, Any] = {}
        history: dict[str, list[float]] = {}
        for number, (name, atoms) in enumerate(structures, 1):
            forces: list[float] = []
            title = f"relax {name} ({number}/{len(structures)})"
            with progress_bar(title, max_steps) as update:

                def report(step: int, force: float, forces: list[float] = forces, update: Any = update) -> None:
                    forces.append(force)
                    update(step, f"force {force:.2e} eV/Å")

                results[name] = run(
                    atoms,
                    engine,
                    fmax=fmax,
                    cell=False if cell in ("fixed", "False", "false") else cell,
                    pressure_gpa=pressure_gpa,
                    stress_tolerance_gpa=stress_tolerance_gpa,
                    symmetry=symmetry,
                    symprec=symprec,
                    optimizer=optimizer,
                    max_steps=max_steps,
                    log=out / f"{name}.log",
                    progress=report,
                )
            history[name] = forces
        frames = []
        for name, result in results.items():
            frame = result.atoms
            frame.info.update(name=name, converged=result.converged)
            frames.append(frame)
        with atomic_path(out / "relaxed.extxyz") as path:
            write(path, frames, format="extxyz")
        write_json(out / "relax.json", {name: result.to_dict() for name, result in results.items()})
        plot_convergence(history, fmax, out / "relax.png")

        table = Table("structure", "E eV/atom", "force eV/Å", "stress GPa", "steps", "space group", "converged")
        for name, result in results.items():
            stress: Optional[float] = result.max_stress_residual_gpa
            group = result.spacegroup_after or "–"
            if result.spacegroup_before != result.spacegroup_after:
                group = f"{result.spacegroup_before} → {group}"
            table.add_row(
                name,
                f"{result.energy_ev / len(result.atoms):.6f}",
                f"{result.max_force_ev_per_ang:.1e}",
                "–" if stress is None else f"{stress:.3f}",
                str(result.steps),
                group,
                "yes" if result.converged else "[bold red]NO[/]",
            )
        Console().print(table)
        typer.echo(f"{out / 'relaxed.extxyz'}, {out / 'relax.json'}, {out / 'relax.png'}")
