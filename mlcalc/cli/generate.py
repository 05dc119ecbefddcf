"""``mlcalc generate``: candidate crystals from a generator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from mlcalc.cli._constraints import aims, numbers, span, symbols

# Options that only some generators take.
_TAKERS = {
    "weights": ("flow", "gan", "vae", "wyckoff"),
    "guidance": ("flow", "wyckoff"),
    "steps": ("flow",),
    "temperature": ("flow", "wyckoff"),
    "geometry_temperature": ("wyckoff",),
    "known": ("wyckoff",),
    "prototypes": ("substitution",),
}


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def generate(
        name: Annotated[str, typer.Argument(help="Generator: flow, gan, random, substitution, vae, wyckoff.")],
        out: Annotated[Path, typer.Option(help="File ending in .extxyz, or a folder for CIF files.")],
        n: Annotated[int, typer.Option("-n", "--number", help="How many candidates.", min=1)] = 20,
        elements: Annotated[Optional[str], typer.Option(help="Elements, all of them present: Si or Li,Mn,O.")] = None,
        formula: Annotated[Optional[str], typer.Option(help="Formula unit, e.g. MgAl2O4.")] = None,
        atoms: Annotated[str, typer.Option(help="Atoms in the primitive cell, LOW-HIGH.")] = "1-8",
        space_groups: Annotated[Optional[str], typer.Option(help="Space group numbers allowed: 227,194.")] = None,
        volume: Annotated[Optional[str], typer.Option(help="Volume per atom, LOW-HIGH, in Å³.")] = None,
        chemical_system: Annotated[
            Optional[str], typer.Option(help="Elements that may occur: Li,Mn,O; with --elements, beside these.")
        ] = None,
        formation_energy: Annotated[
            Optional[str], typer.Option(help="Aim at LOW:HIGH, eV/atom (trained ones).")
        ] = None,
        energy_above_hull: Annotated[
            Optional[str], typer.Option(help="Aim at LOW:HIGH, eV/atom; wyckoff: 0 unless given, any: no aim.")
        ] = None,
        band_gap: Annotated[Optional[str], typer.Option(help="Aim at LOW:HIGH, eV (trained ones).")] = None,
        target: Annotated[
            Optional[list[str]],
            typer.Option(help="Aim at NAME=LOW:HIGH of a label of the training data; several (flow, gan, vae)."),
        ] = None,
        weights: Annotated[
            Optional[Path],
            typer.Option(help="Weights of mlcalc train-generator, or the name of some that ship."),
        ] = None,
        guidance: Annotated[
            Optional[float], typer.Option(help="Guidance towards the aims (flow, wyckoff).", min=0)
        ] = None,
        steps: Annotated[Optional[int], typer.Option(help="Steps from noise to crystal (flow).", min=1)] = None,
        temperature: Annotated[
            Optional[float],
            typer.Option(help="Of elements (flow, wyckoff) and positions (wyckoff); below 1: likely ones more often."),
        ] = None,
        geometry_temperature: Annotated[
            Optional[float], typer.Option(help="Of lattice and coordinates (wyckoff).")
        ] = None,
        known: Annotated[
            Optional[bool],
            typer.Option(
                "--known/--no-known",
                help="Crystals of the training data may come; default: only where elements or a formula are named "
                "(wyckoff).",
            ),
        ] = None,
        prototypes: Annotated[
            Optional[Path], typer.Option(help="Crystals to start from; default AFLOW's (substitution).")
        ] = None,
        min_distance: Annotated[
            Optional[float], typer.Option(help="Smallest distance, in sums of covalent radii.", min=0)
        ] = None,
        seed: Annotated[int, typer.Option(help="Same seed, same candidates.", min=0)] = 0,
    ) -> None:
        """Generate candidate crystals; every constraint holds for every one of them."""
        from rich.progress import track

        from mlcalc.generators import GENERATORS, Constraints, make_generator, write_candidates

        given: dict[str, Any] = {
            "weights": weights,
            "guidance": guidance,
            "steps": steps,
            "temperature": temperature,
            "geometry_temperature": geometry_temperature,
            "known": known,
            "prototypes": prototypes,
            "min_distance": min_distance,
        }
        options = {option: value for option, value in given.items() if value is not None}
        for option in options:
            if name in GENERATORS and name not in _TAKERS.get(option, GENERATORS):
                hint = f"--{option.replace('_', '-')}"
                raise typer.BadParameter(f"the generator {name!r} takes no {option.replace('_', ' ')}", param_hint=hint)
        if energy_above_hull == "any" and name == "wyckoff":
            energy_above_hull, options["energy_above_hull"] = None, None
        constraints = Constraints(
            elements=symbols(elements),
            formula=formula,
            n_atoms=span(atoms, int, "--atoms") or (1, 8),
            space_groups=numbers(space_groups, "--space-groups"),
            volume_per_atom=span(volume, float, "--volume"),
            chemical_system=symbols(chemical_system),
            formation_energy_ev_per_atom=span(formation_energy, float, "--formation-energy"),
            energy_above_hull_ev_per_atom=span(energy_above_hull, float, "--energy-above-hull"),
            band_gap_ev=span(band_gap, float, "--band-gap"),
            properties=aims(target),
        )
        candidates = make_generator(name, **options).sample(n, constraints, seed)
        count = write_candidates(out, track(candidates, description="generating", total=n, transient=True))
        typer.echo(f"{count} candidates in {out}")
