"""``mlcalc generate``: candidate crystals from a generator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer


def _range(text: Optional[str], kind: type, name: str) -> Optional[tuple]:  # type: ignore[type-arg]
    """Read ``LOW-HIGH``, ``LOW:HIGH`` (also of negative numbers) or one number."""
    if text is None:
        return None
    parts = text.split(":") if ":" in text or text.startswith("-") else text.split("-")
    try:
        low, high = (kind(parts[0]), kind(parts[-1]))
    except ValueError:
        raise typer.BadParameter(f"{text!r}: give LOW-HIGH, e.g. 1-8", param_hint=name) from None
    if len(parts) > 2:
        raise typer.BadParameter(f"{text!r}: give LOW-HIGH, e.g. 1-8", param_hint=name)
    return low, high


def _symbols(text: Optional[str]) -> tuple[str, ...]:
    return tuple(e.strip() for e in text.split(",")) if text else ()


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def generate(
        name: Annotated[str, typer.Argument(help="Generator: random, substitution, wyckoff.")],
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
        formation_energy: Annotated[Optional[str], typer.Option(help="Aim at LOW:HIGH, eV/atom (wyckoff).")] = None,
        energy_above_hull: Annotated[
            Optional[str], typer.Option(help="Aim at LOW:HIGH, eV/atom (wyckoff); 0 unless given, any: no aim.")
        ] = None,
        band_gap: Annotated[Optional[str], typer.Option(help="Aim at LOW:HIGH, eV (wyckoff).")] = None,
        weights: Annotated[Optional[Path], typer.Option(help="Weights of mlcalc train-generator (wyckoff).")] = None,
        guidance: Annotated[Optional[float], typer.Option(help="Guidance towards the aims (wyckoff).", min=0)] = None,
        temperature: Annotated[
            Optional[float], typer.Option(help="Of elements and positions; below 1: likely ones more often (wyckoff).")
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

        from mlcalc.generators import Constraints, make_generator, write_candidates

        n_atoms = _range(atoms, int, "--atoms")
        try:
            groups = tuple(int(g) for g in space_groups.split(",")) if space_groups else ()
        except ValueError:
            raise typer.BadParameter(
                f"{space_groups!r}: give numbers, e.g. 227,194", param_hint="--space-groups"
            ) from None
        given = {
            "weights": weights,
            "guidance": guidance,
            "temperature": temperature,
            "geometry_temperature": geometry_temperature,
            "known": known,
            "prototypes": prototypes,
            "min_distance": min_distance,
        }
        options: dict[str, Any] = {option: value for option, value in given.items() if value is not None}
        if energy_above_hull == "any" and name == "wyckoff":
            energy_above_hull, options["energy_above_hull"] = None, None
        learnt = (weights, guidance, temperature, geometry_temperature, known)
        if name != "wyckoff" and any(value is not None for value in learnt):
            hint = "--weights, --guidance, --temperature, --geometry-temperature, --known"
            raise typer.BadParameter(f"the generator {name!r} has no weights", param_hint=hint)
        if name != "substitution" and prototypes:
            raise typer.BadParameter(f"the generator {name!r} has no prototypes", param_hint="--prototypes")
        constraints = Constraints(
            elements=_symbols(elements),
            formula=formula,
            n_atoms=n_atoms or (1, 8),
            space_groups=groups,
            volume_per_atom=_range(volume, float, "--volume"),
            chemical_system=_symbols(chemical_system),
            formation_energy_ev_per_atom=_range(formation_energy, float, "--formation-energy"),
            energy_above_hull_ev_per_atom=_range(energy_above_hull, float, "--energy-above-hull"),
            band_gap_ev=_range(band_gap, float, "--band-gap"),
        )
        candidates = make_generator(name, **options).sample(n, constraints, seed)
        count = write_candidates(out, track(candidates, description="generating", total=n, transient=True))
        typer.echo(f"{count} candidates in {out}")
