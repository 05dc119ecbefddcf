"""``mlcalc neb``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from mlcalc.cli._calculator import (
    CalculatorOption,
    CalculatorPythonOption,
    DeviceOption,
    DispersionOption,
    PotentialOption,
)
from mlcalc.cli._inputs import ConfigOption, OutOption


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def neb(
        initial: Annotated[Path, typer.Argument(help="Structure at the beginning; the last frame of the file.")],
        final: Annotated[Path, typer.Argument(help="Structure at the end: same atoms, order and cell.")],
        potential: PotentialOption = None,
        calculator: CalculatorOption = None,
        calculator_python: CalculatorPythonOption = None,
        dispersion: DispersionOption = None,
        out: OutOption = Path("neb"),
        config: ConfigOption = None,
        images: Annotated[int, typer.Option(help="Moving images, without the ends.")] = 7,
        fmax: Annotated[float, typer.Option(help="Largest allowed force on the band and in the ends, eV/Å.")] = 0.03,
        climb: Annotated[bool, typer.Option(help="Let the highest image climb to the saddle.")] = True,
        spring_ev_per_ang2: Annotated[float, typer.Option(help="Spring constant, eV/Å².")] = 0.5,
        interpolation: Annotated[str, typer.Option(help="idpp or linear.")] = "idpp",
        order: Annotated[str, typer.Option(help="Order of atoms: check, match (renumber FINAL) or keep.")] = "check",
        relax_ends: Annotated[bool, typer.Option(help="Relax both ends first, in their cell.")] = True,
        optimizer: Annotated[str, typer.Option(help="FIRE, FIRE2, MDMin, BFGS or LBFGS.")] = "FIRE",
        max_steps: Annotated[int, typer.Option(help="Steps of the band after which to give up.")] = 1000,
        resume: Annotated[bool, typer.Option(help="Go on from a band in --out.")] = True,
        dtype: Annotated[Optional[str], typer.Option(help="Of --potential; default float64.")] = None,
        device: DeviceOption = None,
    ) -> None:
        """Minimum energy path and barrier between two structures. The same command again goes on after a kill.

        Writes neb.json, path.png, path.extxyz (the path), bands.traj (every band on the way).
        """
        from rich.console import Console
        from rich.table import Table

        from mlcalc.cli._calculator import precise_calculator
        from mlcalc.cli._inputs import progress_bar, read_structures
        from mlcalc.records import write_json
        from mlcalc.workflows import neb as run
        from mlcalc.workflows import plot_path

        (_, first), (_, last) = read_structures([initial])[-1], read_structures([final])[-1]
        engine = precise_calculator(potential, calculator, dtype, device, calculator_python, dispersion)
        out.mkdir(parents=True, exist_ok=True)
        with progress_bar(f"neb {initial.stem} → {final.stem}", max_steps) as update:
            result = run(
                first,
                last,
                engine,
                images=images,
                fmax=fmax,
                climb=climb,
                spring_ev_per_ang2=spring_ev_per_ang2,
                interpolation=interpolation,
                order=order,
                relax_ends=relax_ends,
                optimizer=optimizer,
                max_steps=max_steps,
                out=out,
                resume=resume,
                progress=lambda step, force: update(step, f"force {force:.2e} eV/Å"),
            )
        if result.resumed_from:
            typer.echo(f"went on from step {result.resumed_from}")
        write_json(out / "neb.json", result.to_dict())
        plot_path(result, out / "path.png", f"{initial.stem} → {final.stem}")
        table = Table("", "forward eV", "backward eV", "force eV/Å", "steps", "converged")
        table.add_row(
            "climbing image" if climb else "highest image",
            f"{result.barrier_forward_ev:.4f}",
            f"{result.barrier_backward_ev:.4f}",
            f"{result.max_force_ev_per_ang:.1e}",
            str(result.steps),
            "yes" if result.converged else "[bold red]NO[/]",
        )
        table.add_row(
            "curve", f"{result.barrier_fit_forward_ev:.4f}", f"{result.barrier_fit_backward_ev:.4f}", "", "", ""
        )
        Console().print(table)
        typer.echo(f"energy of the final end: {result.reaction_energy_ev:+.4f} eV; files in {out}")
