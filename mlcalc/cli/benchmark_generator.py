"""``mlcalc benchmark-generator``."""

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
from mlcalc.cli._inputs import ConfigOption, OutOption
from mlcalc.cli._options import MaxStepsOption


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command("benchmark-generator")
    def benchmark_generator(
        training: Annotated[Path, typer.Option(help="Crystals to compare with: JSON lines or any file ASE reads.")],
        generators: Annotated[
            Optional[list[str]],
            typer.Argument(help="Generators, as for mlcalc generate; NAME:free chooses its own elements."),
        ] = None,
        candidates: Annotated[
            Optional[list[Path]], typer.Option(help="Crystals of any other generator: a file or folder; several.")
        ] = None,
        reference: Annotated[
            Optional[Path], typer.Option(help="Crystals that are not new; default: --training.")
        ] = None,
        targets: Annotated[
            Optional[Path], typer.Option(help="Crystals to find from their formulas; instead of chemical systems.")
        ] = None,
        hull: Annotated[
            Optional[Path],
            typer.Option(help="Published formation energies (JSON lines): energies above their hull, fitted."),
        ] = None,
        hull_references: Annotated[
            Optional[Path], typer.Option(help="Crystals to relax for a hull of the potential's own energies.")
        ] = None,
        relax: Annotated[
            bool, typer.Option("--relax/--no-relax", help="Without, crystals are judged as generated.")
        ] = True,
        keep: Annotated[
            float, typer.Option(help="Share of new crystals that rankings before relaxation keep.", min=0.0, max=1.0)
        ] = 1 / 3,
        potential: PotentialOption = None,
        calculator: CalculatorOption = None,
        calculator_python: CalculatorPythonOption = None,
        dispersion: DispersionOption = None,
        out: OutOption = Path("benchmark"),
        config: ConfigOption = None,
        n: Annotated[int, typer.Option("-n", "--number", help="Crystals asked of each generator.", min=1)] = 64,
        per_condition: Annotated[
            int, typer.Option(help="Of them, in one chemical system or for one target.", min=1)
        ] = 4,
        max_atoms: Annotated[int, typer.Option(help="In the primitive cell.", min=1)] = 20,
        prototypes: Annotated[Optional[Path], typer.Option(help="Crystals to start from (substitution).")] = None,
        weights: Annotated[
            Optional[Path],
            typer.Option(
                help="Weights of mlcalc train-generator, or the name of some that ship, for the generator they are of."
            ),
        ] = None,
        fmax: Annotated[float, typer.Option(help="Largest allowed force, eV/Å.")] = 0.05,
        max_steps: MaxStepsOption = 200,
        seed: Annotated[int, typer.Option(help="Of conditions, candidates and intervals.", min=0)] = 0,
        dtype: DtypeOption = None,
        device: DeviceOption = None,
    ) -> None:
        """Compare generators under the same conditions, before and after relaxation, beside the training set.

        Writes benchmark.json, benchmark.md and benchmark.png; the same command again goes on after a kill.
        """
        from rich.console import Console
        from rich.table import Table

        from mlcalc.cli._calculator import make_calculator
        from mlcalc.cli._inputs import progress_bar
        from mlcalc.crystals.io import read_crystals
        from mlcalc.discovery._benchmark_hull import published_hull, reference_hull
        from mlcalc.discovery._benchmark_report import write_benchmark
        from mlcalc.discovery.benchmark import BenchmarkSettings, Free, crystals_digest, from_list, run_benchmark
        from mlcalc.errors import WorkflowError
        from mlcalc.generators import make_generator, read_candidates
        from mlcalc.generators._weights import owner_of

        def crystals(path: Path) -> list[Any]:
            return [crystal.atoms for crystal in read_crystals(path)]

        if not generators and not candidates:
            raise WorkflowError("name a generator, wyckoff say, or give --candidates FILE")
        if hull and hull_references:
            raise WorkflowError("--hull and --hull-references are two hulls: give one of the two")
        found = crystals(targets) if targets else []
        number = len(found) * per_condition if found else n
        settings = BenchmarkSettings(
            number=number,
            per_condition=per_condition,
            n_atoms=(1, max_atoms),
            seed=seed,
            fmax=fmax,
            max_steps=max_steps,
            keep=keep,
            relax=relax,
        )
        options: dict[str, dict[str, Any]] = {"substitution": {"prototypes": prototypes} if prototypes else {}}
        if weights:
            owner = owner_of(weights)
            if owner not in [name.partition(":")[0] for name in generators or []]:
                raise WorkflowError(f"--weights {weights} are those of {owner}: name this generator, or leave them out")
            options[owner] = {"weights": weights}
        sources: dict[str, Any] = {}
        # What results depend on beside settings and sets: a folder holds those of one description.
        hashes: dict[str, str] = {}
        drawn_with: dict[str, dict[str, Any]] = {}
        files: dict[str, str] = {}
        for name in generators or []:
            kind, _, choice = name.partition(":")
            if choice not in ("", "free"):
                raise WorkflowError(f"{name}: the only word behind a generator's name is free, e.g. {kind}:free")
            made = make_generator(kind, **options.get(kind, {}))
            title = f"{kind}, free" if choice else kind
            hashes[title] = made.model_hash or "no model"
            drawn_with[title] = made.options()
            sources[title] = Free(_draw(made)) if choice else _draw(made)
        for path in candidates or []:
            if path.stem in sources:
                raise WorkflowError(f"two sources are called {path.stem}; rename the file {path}")
            proposed = [c.atoms for c in read_candidates(path)]
            files[path.stem] = crystals_digest(proposed)
            sources[path.stem] = from_list(proposed, settings)
        if relax:
            engine = make_calculator(potential, calculator, dtype, device, calculator_python, dispersion)
        elif hull or hull_references or potential or calculator:
            raise WorkflowError("--no-relax wants no potential and no hull: leave them out")
        else:
            engine = None
        known = read_crystals(training)
        judge = None
        if hull:
            judge = published_hull(hull, known, engine, seed=seed)
        elif hull_references:
            judge = reference_hull(read_crystals(hull_references), hull_references.name, engine, max_steps)
        with progress_bar("benchmark", None) as update:
            result = run_benchmark(
                sources,
                [crystal.atoms for crystal in known],
                engine,
                out,
                settings=settings,
                targets=found,
                hull=judge,
                reference=crystals(reference) if reference else None,
                description={
                    "sources": {name: hashes.get(name, "file") for name in sources},
                    "options": drawn_with,
                    "files": files,
                },
                progress=lambda name, done, total: update(done, f"{name}: {done} of {total}"),
            )
        paths = write_benchmark(result, out)

        last, good = ("metastable, ", "metastable_unique_novel") if judge else ("", "unique_novel")
        after = ("relaxed", f"{last}unique, novel") if relax else ()
        table = Table("source", "asked", "valid", "unique, novel", *after, "s per success")
        for row in result.rows:
            shares = (
                row.before["valid"],
                row.before["unique_novel"],
                *((row.after["converged"], row.after[good]) if row.after else ()),
            )
            cells = [f"{100 * s.value:.0f} [{100 * s.low:.0f}, {100 * s.high:.0f}]" for s in shares]
            table.add_row(row.name, str(row.asked), *cells, f"{row.cost_s:.3g}")
        Console().print(table)
        if judge:
            typer.echo(judge.facts.sentence())
        typer.echo(", ".join(map(str, paths)))


def _draw(generator: Any) -> Any:
    """Return the source of the benchmark that a generator is."""

    def draw(constraints: Any, count: int, seed: int) -> Any:
        for candidate in generator.sample(count, constraints, seed):
            candidate.atoms.info["log_probability"] = candidate.provenance.log_probability
            yield candidate.atoms

    return draw
