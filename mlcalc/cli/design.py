"""``mlcalc design``: crystals with wanted properties."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from mlcalc.cli._constraints import numbers, span, symbols


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def design(
        target: Annotated[str, typer.Option(help='What is wanted: "heat_all<0.2,dir_gap=1.5", "1<dir_gap<2".')],
        out: Annotated[Path, typer.Option(help="File ending in .extxyz, or a folder for CIF files.")],
        n: Annotated[int, typer.Option("-n", "--number", help="How many crystals.", min=1)] = 20,
        weights: Annotated[
            Optional[Path],
            typer.Option(help="Weights of a vae: of mlcalc train-generator, or a name of some that ship."),
        ] = None,
        elements: Annotated[Optional[str], typer.Option(help="Elements, all of them present: Si or Li,Mn,O.")] = None,
        formula: Annotated[Optional[str], typer.Option(help="Formula unit, e.g. SrTiO3.")] = None,
        atoms: Annotated[Optional[str], typer.Option(help="Atoms in the primitive cell, LOW-HIGH.")] = None,
        space_groups: Annotated[Optional[str], typer.Option(help="Space group numbers allowed: 221,99.")] = None,
        volume: Annotated[Optional[str], typer.Option(help="Volume per atom, LOW-HIGH, in Å³.")] = None,
        chemical_system: Annotated[
            Optional[str], typer.Option(help="Elements that may occur: Sr,Ti,O; with --elements, beside these.")
        ] = None,
        min_distance: Annotated[float, typer.Option(help="Smallest distance, in sums of covalent radii.", min=0)] = 0.6,
        gradient_steps: Annotated[int, typer.Option(help="Steps downhill for each crystal.", min=0)] = 60,
        generations: Annotated[int, typer.Option(help="Generations of CMA-ES for each crystal.", min=0)] = 25,
        seed: Annotated[int, typer.Option(help="Same seed, same crystals.", min=0)] = 0,
    ) -> None:
        """Design crystals: search the latent space of the generator vae for predicted properties in given ranges."""
        import math

        from rich.progress import track

        from mlcalc.generators import Constraints, write_candidates
        from mlcalc.generators.design import Designer, DesignSettings

        settings = DesignSettings(gradient_steps=gradient_steps, generations=generations)
        designer = Designer(weights, settings, min_distance)
        constraints = Constraints(
            elements=symbols(elements),
            formula=formula,
            n_atoms=span(atoms, int, "--atoms") or (1, designer.generator.codec.max_atoms),
            space_groups=numbers(space_groups, "--space-groups"),
            volume_per_atom=span(volume, float, "--volume"),
            chemical_system=symbols(chemical_system),
        )
        found = list(
            track(designer.design(target, n, constraints, seed), description="designing", total=n, transient=True)
        )
        count = write_candidates(out, found)
        reached = sum(c.provenance.details["reached"] for c in found)
        distances = sorted(c.provenance.details["distance"] for c in found)
        far = distances[len(distances) // 2]
        said = "" if math.isnan(far) else f"; median distance from the training crystals {far:.2f} of that among them"
        typer.echo(f"{count} crystals in {out}; predicted to be in range: {reached}{said}")
