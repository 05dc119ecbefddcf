"""``mlcalc discover``: a campaign, from candidates to a ranked table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from mlcalc.cli._calculator import (
    CalculatorOption,
    CalculatorPythonOption,
    DeviceOption,
    DispersionOption,
    Float64Option,
    PotentialOption,
)
from mlcalc.cli._constraints import span, symbols
from mlcalc.cli._inputs import ConfigOption, OutOption

if TYPE_CHECKING:
    from mlcalc.discovery._campaign_result import RankedCrystal
    from mlcalc.discovery.campaign import CampaignResult
    from mlcalc.discovery.references import ReferenceStructure
    from mlcalc.generators import Candidate, Constraints
    from mlcalc.generators.io import Unreadable


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def discover(
        elements: Annotated[str, typer.Option(help="Elements of the chemical system, all in each candidate: Mg,O.")],
        generator: Annotated[str, typer.Option(help="What proposes candidates; none: only --candidates.")] = "random",
        n: Annotated[int, typer.Option("-n", "--number", help="Candidates of the generator.", min=1)] = 200,
        candidates: Annotated[
            Optional[list[Path]], typer.Option(help="Further candidates: file or folder; may be repeated.")
        ] = None,
        formula: Annotated[Optional[str], typer.Option(help="Formula unit of the candidates, e.g. MgO.")] = None,
        atoms: Annotated[str, typer.Option(help="Atoms in the primitive cell, LOW-HIGH.")] = "1-8",
        references: Annotated[
            Optional[list[Path]], typer.Option(help="Further references: ASE file or JSON lines; may be repeated.")
        ] = None,
        materials_project: Annotated[
            bool, typer.Option(help="Further references from the Materials Project; needs MP_API_KEY.")
        ] = False,
        reference_atoms: Annotated[int, typer.Option(help="Largest primitive cell of a prototype.", min=1)] = 8,
        potential: PotentialOption = None,
        calculator: CalculatorOption = None,
        calculator_python: CalculatorPythonOption = None,
        dispersion: DispersionOption = None,
        out: OutOption = Path("campaign"),
        config: ConfigOption = None,
        seed: Annotated[int, typer.Option(help="Of candidates, displacements and dynamics.", min=0)] = 0,
        workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
        parsl: Annotated[
            Optional[Path],
            typer.Option(help="Python file that defines config, a parsl.config.Config: workers of a batch system."),
        ] = None,
        database: Annotated[
            Optional[str], typer.Option(help="Rows of campaign.db also go to postgresql://USER:PASSWORD@HOST/NAME.")
        ] = None,
        pressure_gpa: Annotated[float, typer.Option(help="External pressure, GPa; the hull is of enthalpies.")] = 0.0,
        fmax: Annotated[float, typer.Option(help="Largest force after relaxation, eV/Å.")] = 0.02,
        max_steps: Annotated[int, typer.Option(help="Steps of a relaxation.", min=1)] = 300,
        rank: Annotated[
            Optional[str], typer.Option(help="Relax only the best by energy, likelihood or stability (learned).")
        ] = None,
        relax_best: Annotated[
            Optional[float], typer.Option(help="With --rank: a share below 1 or a number of candidates; default 1/3.")
        ] = None,
        above_hull: Annotated[float, typer.Option(help="Highest that goes on to phonons, eV/atom.")] = 0.1,
        phonons: Annotated[int, typer.Option(help="Most crystals that get phonons at Γ.", min=0)] = 20,
        mesh_phonons: Annotated[int, typer.Option(help="Most of these that get phonons on a mesh.", min=0)] = 3,
        dynamics: Annotated[int, typer.Option(help="Most of these that get dynamics.", min=0)] = 3,
        temperature_k: Annotated[float, typer.Option(help="Of the dynamics, K.")] = 600.0,
        md_steps: Annotated[int, typer.Option(help="Steps of 1 fs.", min=20)] = 1000,
        md_engine: Annotated[str, typer.Option(help="Of the dynamics: ase, or lammps for --potential.")] = "ase",
        free_energy_k: Annotated[
            Optional[float], typer.Option(help="Quasi-harmonic free energies at this temperature, K.")
        ] = None,
        dtype: Float64Option = None,
        device: DeviceOption = None,
    ) -> None:
        """Propose crystals, relax and rank them above the hull; phonons and dynamics of the lowest.

        Writes report.html, report.json, ranked.extxyz, campaign.db. The same command again goes on after a kill.
        """
        import shlex
        import sys
        from contextlib import nullcontext
        from functools import partial

        from mlcalc.cli._calculator import check_choice, precise_calculator, read_potentials
        from mlcalc.cli._inputs import progress_bar
        from mlcalc.discovery._demo_steps import trusted_neighbors
        from mlcalc.discovery.campaign import CampaignSettings, run_campaign
        from mlcalc.discovery.funnel import FunnelSettings
        from mlcalc.discovery.identity import known_weights
        from mlcalc.discovery.parsl_pool import parsl_executor
        from mlcalc.errors import WorkflowError
        from mlcalc.generators import Constraints
        from mlcalc.potentials.grade import FAR
        from mlcalc.records import describe_calculator
        from mlcalc.workflows._md_lammps import check_potential

        check_choice(read_potentials(potential), calculator, calculator_python)
        if generator == "none" and not candidates:
            raise WorkflowError("--generator none needs --candidates")
        if parsl is not None and workers > 1:
            raise WorkflowError("--parsl brings workers of its own: leave --workers out")
        # Radial tables are faster in float64 too, and what they change is far below what a relaxation leaves.
        factory = partial(precise_calculator, potential, calculator, dtype, device, calculator_python, dispersion, True)
        engine = factory()  # its errors before any work
        if md_engine == "lammps":
            check_potential(engine)
        info = getattr(engine, "info", None)
        wanted = symbols(elements)
        constraints = Constraints(elements=wanted, formula=formula, n_atoms=span(atoms, int, "--atoms") or (1, 8))
        settings = CampaignSettings(
            relaxation=FunnelSettings(
                trusted_neighbors_ang=trusted_neighbors(engine if info is not None else None),
                largest_grade=FAR if info is not None and "grade" in info.outputs else None,
                fmax=fmax,
                max_steps=max_steps,
                pressure_gpa=pressure_gpa,
            ),
            rank=rank,
            relax_best=relax_best,
            reference_atoms=reference_atoms,
            above_hull_ev_per_atom=above_hull,
            phonons=phonons,
            mesh_phonons=mesh_phonons,
            dynamics=dynamics,
            temperature_k=temperature_k,
            md_steps=md_steps,
            md_engine=md_engine,
            free_energy_k=free_energy_k,
            seed=seed,
        )
        description = {
            "generator": generator,
            "number": n,
            "constraints": constraints.to_dict(),
            "seed": seed,
            "candidate_files": [_digest(path) for path in candidates or []],
            "reference_files": [_digest(path) for path in references or []],
            "materials_project": materials_project,
            "calculator": describe_calculator(engine),
            "weights_sha256": known_weights(engine),
        }
        pool = parsl_executor(parsl) if parsl is not None else nullcontext(None)
        with pool as executor, progress_bar("discover", None) as update:
            result = run_campaign(
                partial(_candidates, generator, n, constraints, seed, candidates or []),
                factory,
                out,
                elements=wanted,
                references=partial(_references, wanted, references or [], materials_project),
                settings=settings,
                description=description,
                workers=workers,
                executor=executor,
                database=database,
                progress=lambda stage, done, total: update(done, f"of {total}: {stage}"),
                command=shlex.join(["mlcalc", *sys.argv[1:]]),
            )
        _print(result)
        typer.echo(f"{out / 'report.html'}, {out / 'report.json'}, {out / 'ranked.extxyz'}, {out / 'campaign.db'}")


def _digest(path: Path) -> str:
    """Name a file by its content; a folder by the contents of its files."""
    import hashlib

    from mlcalc.errors import WorkflowError

    if not path.exists():
        raise WorkflowError(f"no such file or folder: {path}")
    digest = hashlib.sha256()
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(file.read_bytes())
    return f"{path.name} {digest.hexdigest()[:16]}"


def _candidates(
    generator: str, n: int, constraints: Constraints, seed: int, files: list[Path]
) -> Iterator[Candidate | Unreadable]:
    from mlcalc.generators import make_generator
    from mlcalc.generators.io import read_what_can_be

    if generator != "none":
        yield from make_generator(generator).sample(n, constraints, seed)
    for path in files:
        yield from read_what_can_be(path)


def _references(elements: tuple[str, ...], files: list[Path], materials_project: bool) -> Iterator[ReferenceStructure]:
    from mlcalc.discovery.references import file_structures, materials_project_structures

    for path in files:
        yield from file_structures(path, elements)
    if materials_project:
        yield from materials_project_structures(elements)


def _print(result: CampaignResult) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    stages = Table("stage", "entered", "passed", "stopped")
    for stage in result.stages:
        stopped = ", ".join(f"{reason} {len(who)}" for reason, who in stage.failures.items())
        stages.add_row(stage.name, str(stage.entered), str(stage.passed), stopped or "–")
    console.print(stages)
    columns = ["rank", "crystal", "space group", "above hull eV/atom", "known as", "modes Γ / mesh", "dynamics"]
    kelvin = result.settings.free_energy_k
    table = Table(*columns, *([] if kelvin is None else [f"F({kelvin:g} K) above lowest eV/atom"]), "found")
    for crystal in result.ranked[:20]:
        above = crystal.energy_above_hull_ev_per_atom
        table.add_row(
            str(crystal.rank),
            crystal.formula,
            crystal.space_group_symbol or "–",
            "unknown" if above is None else f"{round(above, 4) + 0.0:.4f}",  # no minus before zero
            crystal.known_as[0] if crystal.known_as else "new",
            f"{_word(crystal.dynamically_stable, 'stable', 'imaginary')} / "
            f"{_word(crystal.dynamically_stable_mesh, 'stable', 'imaginary')}",
            _word(crystal.held_in_dynamics, "held", "did not hold"),
            *([] if kelvin is None else [_free_energy(crystal)]),
            str(len(crystal.members)),
        )
    console.print(table)
    for message in result.unreadable[:10]:
        typer.echo(f"left out: {message}")
    if len(result.unreadable) > 10:
        typer.echo(f"and {len(result.unreadable) - 10} more files, named in report.json")
    if result.references.missing:
        typer.echo(f"no reference of {', '.join(result.references.missing)}: energies above the hull are unknown")


def _free_energy(crystal: RankedCrystal) -> str:
    above = crystal.free_energy_above_lowest_ev_per_atom
    return f"{above:.4f}" if above is not None else "refused" if crystal.free_energy_refused else "–"


def _word(value: Any, good: str, bad: str) -> str:
    return "–" if value is None else good if value else f"[bold red]{bad}[/]"
