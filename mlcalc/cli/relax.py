"""``mlcalc relax``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from mlcalc.cli._calculator import (
    CalculatorOption,
    CalculatorPythonOption,
    DeviceOption,
    DispersionOption,
    DtypeOption,
    PotentialOption,
)
from mlcalc.cli._inputs import ConfigOption, FilesArgument, OutOption
from mlcalc.cli._options import OptimizerOption, SymprecOption


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def relax(
        files: FilesArgument,
        potential: PotentialOption = None,
        calculator: CalculatorOption = None,
        calculator_python: CalculatorPythonOption = None,
        dispersion: DispersionOption = None,
        out: OutOption = Path("relax"),
        config: ConfigOption = None,
        fmax: Annotated[float, typer.Option(help="Largest allowed force, eV/Å.")] = 0.01,
        cell: Annotated[str, typer.Option(help="fixed, full, isotropic or shape.")] = "fixed",
        pressure_gpa: Annotated[float, typer.Option(help="External pressure, GPa (needs a free cell).")] = 0.0,
        stress_tolerance_gpa: Annotated[float, typer.Option(help="Allowed deviation from it, GPa.")] = 0.05,
        symmetry: Annotated[bool, typer.Option(help="Keep the space group found at the start.")] = False,
        symprec: SymprecOption = 1e-2,
        optimizer: OptimizerOption = "BFGS",
        max_steps: Annotated[int, typer.Option(help="Steps after which to give up.")] = 500,
        dtype: DtypeOption = None,
        device: DeviceOption = None,
    ) -> None:
        """Relax structures: positions, and the cell with --cell. Writes relaxed.extxyz, relax.json, relax.png.

        The same command again skips structures that are done.
        """
        from ase.io import write
        from rich.console import Console
        from rich.table import Table

        from mlcalc.cli._calculator import make_calculator
        from mlcalc.cli._inputs import progress_bar, read_structures
        from mlcalc.files import atomic_path
        from mlcalc.records import describe_calculator, structure_hash, write_json
        from mlcalc.workflows import plot_convergence
        from mlcalc.workflows import relax as run

        structures = read_structures(files)
        engine = make_calculator(potential, calculator, dtype, device, calculator_python, dispersion)
        options: dict[str, Any] = {
            "fmax": fmax,
            "cell": False if cell in ("fixed", "False", "false") else cell,
            "pressure_gpa": pressure_gpa,
            "stress_tolerance_gpa": stress_tolerance_gpa,
            "symmetry": symmetry,
            "symprec": symprec,
            "optimizer": optimizer,
            "max_steps": max_steps,
        }
        parts = out / "parts"
        parts.mkdir(parents=True, exist_ok=True)
        records: dict[str, dict[str, Any]] = {}
        for number, (name, atoms) in enumerate(structures, 1):
            identity = {"structure": structure_hash(atoms), "calculator": describe_calculator(engine), **options}
            done = _finished(parts / f"{name}.json", identity)
            if done is None:
                forces: list[float] = []
                title = f"relax {name} ({number}/{len(structures)})"
                with progress_bar(title, max_steps) as update:

                    def report(step: int, force: float, forces: list[float] = forces, update: Any = update) -> None:
                        forces.append(force)
                        update(step, f"force {force:.2e} eV/Å")

                    result = run(atoms, engine, log=parts / f"{name}.log", progress=report, **options)
                frame = result.atoms
                frame.info.update(name=name, converged=result.converged)
                with atomic_path(parts / f"{name}.extxyz") as path:
                    write(path, frame, format="extxyz")
                # Written last: what it stands for is whole.
                done = {"identity": identity, "result": result.to_dict(), "forces": forces}
                write_json(parts / f"{name}.json", done)
            else:
                typer.echo(f"{name}: done before")
            records[name] = done
        with atomic_path(out / "relaxed.extxyz") as path:
            path.write_text("".join((parts / f"{name}.extxyz").read_text(encoding="utf-8") for name in records))
        results = {name: record["result"] for name, record in records.items()}
        write_json(out / "relax.json", results)
        plot_convergence({name: record["forces"] for name, record in records.items()}, fmax, out / "relax.png")

        table = Table("structure", "E eV/atom", "force eV/Å", "stress GPa", "steps", "space group", "converged")
        for name, values in results.items():
            stress: Optional[float] = values["max_stress_residual_gpa"]
            group = values["spacegroup_after"] or "–"
            if values["spacegroup_before"] != values["spacegroup_after"]:
                group = f"{values['spacegroup_before']} → {group}"
            table.add_row(
                name,
                f"{values['energy_ev'] / len(values['atoms']['symbols']):.6f}",
                f"{values['max_force_ev_per_ang']:.1e}",
                "–" if stress is None else f"{stress:.3f}",
                str(values["steps"]),
                group,
                "yes" if values["converged"] else "[bold red]NO[/]",
            )
        Console().print(table)
        typer.echo(f"{out / 'relaxed.extxyz'}, {out / 'relax.json'}, {out / 'relax.png'}")


def _finished(path: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """Return the record of an earlier call if it relaxed the same structure in the same way."""
    import json

    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return record if record["identity"] == identity else None
    except (ValueError, KeyError, TypeError):  # damaged: done again
        return None
