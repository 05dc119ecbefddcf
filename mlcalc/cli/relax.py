"""``mlcalc relax``."""

from __future__ import annotations

from dataclasses import dataclass, field
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

        With --potential and --optimizer BFGS, FIRE or LBFGS several structures are evaluated together. The same command
        again skips structures that are done.
        """
        from rich.console import Console
        from rich.table import Table

        from mlcalc.cli._calculator import make_calculator
        from mlcalc.cli._inputs import read_structures
        from mlcalc.files import atomic_path
        from mlcalc.records import describe_calculator, structure_hash, write_json
        from mlcalc.workflows import plot_convergence

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
        todo: list[_Todo] = []
        for name, atoms in structures:
            identity = {"structure": structure_hash(atoms), "calculator": describe_calculator(engine), **options}
            done = _finished(parts / f"{name}.json", identity)
            if done is None:
                todo.append(_Todo(name, atoms, identity))
            else:
                typer.echo(f"{name}: done before")
                records[name] = done
        if len(todo) == 1:
            records |= _relax_one(todo[0], engine, parts, options)
        elif todo:
            records |= _relax_together(todo, engine, parts, options)
        records = {name: records[name] for name, _ in structures}
        failed = {name: record["result"]["error"] for name, record in records.items() if record["result"].get("error")}
        with atomic_path(out / "relaxed.extxyz") as path:
            path.write_text(
                "".join((parts / f"{n}.extxyz").read_text(encoding="utf-8") for n in records if n not in failed)
            )
        results = {name: record["result"] for name, record in records.items()}
        write_json(out / "relax.json", results)
        plot_convergence({name: record["forces"] for name, record in records.items()}, fmax, out / "relax.png")

        table = Table("structure", "E eV/atom", "force eV/Å", "stress GPa", "steps", "space group", "converged")
        for name, values in results.items():
            if name in failed:
                table.add_row(name, *["–"] * 3, str(values["steps"]), "–", "[bold red]FAILED[/]")
                continue
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
        for name, error in failed.items():
            typer.echo(f"{name} FAILED: {error}", err=True)
        if failed:
            raise typer.Exit(1)


@dataclass
class _Todo:
    """A structure that is not done yet, and the largest force after each step."""

    name: str
    atoms: Any
    identity: dict[str, Any]
    forces: list[float] = field(default_factory=list)


def _keep(item: _Todo, result: Any, parts: Path) -> dict[str, Any]:
    """Write the files of one structure and return its record."""
    from ase.io import write

    from mlcalc.files import atomic_path
    from mlcalc.records import write_json

    record = {"identity": item.identity, "result": result.to_dict(), "forces": item.forces}
    if result.error is not None:  # nothing to skip the next time
        return record
    frame = result.atoms
    frame.info.update(name=item.name, converged=result.converged)
    with atomic_path(parts / f"{item.name}.extxyz") as path:
        write(path, frame, format="extxyz")
    # Written last: what it stands for is whole.
    write_json(parts / f"{item.name}.json", record)
    return record


def _relax_one(item: _Todo, engine: Any, parts: Path, options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    from mlcalc.cli._inputs import progress_bar
    from mlcalc.workflows import relax

    with progress_bar(f"relax {item.name}", options["max_steps"]) as update:

        def report(step: int, force: float) -> None:
            item.forces.append(force)
            update(step, f"force {force:.2e} eV/Å")

        result = relax(item.atoms, engine, log=parts / f"{item.name}.log", progress=report, **options)
    return {item.name: _keep(item, result, parts)}


def _relax_together(todo: list[_Todo], engine: Any, parts: Path, options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    from mlcalc.cli._inputs import progress_bar
    from mlcalc.workflows import relax_many

    records: dict[str, dict[str, Any]] = {}
    with progress_bar(f"relax {len(todo)} structures", len(todo)) as update:

        def report(number: int, step: int, force: float) -> None:
            todo[number].forces.append(force)

        def finished(number: int, result: Any) -> None:
            records[todo[number].name] = _keep(todo[number], result, parts)
            update(len(records), f"{todo[number].name}: {result.steps} steps")

        relax_many([item.atoms for item in todo], engine, progress=report, finished=finished, **options)
    return records


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
