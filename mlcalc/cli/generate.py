"""``mlcalc generate``: candidate crystals from a generator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer


def _range(text: Optional[str], kind: type, name: str) -> Optional[tuple]:  # type: ignore[type-arg]
    """Read ``LOW-HIGH``, ``LOW:HIGH`` or one number."""
    if text is None:
        return None
    parts = text.replace(":", "-").split("-")
    try:
        low, high = (kind(parts[0]), kind(parts[-1]))
    except ValueError:
        raise typer.BadParameter(f"{text!r}: give LOW-HIGH, e.g. 1-8", param_hint=name) from None
    if len(parts) > 2:
        raise typer.BadParameter(f"{text!r}: give LOW-HIGH, e.g. 1-8", param_hint=name)
    return low, high


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def generate(
        name: Annotated[str, typer.Argument(help="Generator: random.")],
        out: Annotated[Path, typer.Option(help="File ending in .extxyz, or a folder for CIF files.")],
        n: Annotated[int, typer.Option("-n", "--number", help="How many candidates.", min=1)] = 20,
        elements: Annotated[Optional[str], typer.Option(help="Elements, all of them present: Si or Li,Mn,O.")] = None,
        formula: Annotated[Optional[str], typer.Option(help="Formula unit, e.g. MgAl2O4.")] = None,
        atoms: Annotated[str, typer.Option(help="Atoms in the primitive cell, LOW-HIGH.")] = "1-8",
        space_groups: Annotated[Optional[str], typer.Option(help="Space group numbers allowed: 227,194.")] = None,
        volume: Annotated[Optional[str], typer.Option(help="Volume per atom, LOW-HIGH, in Å³.")] = None,
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
        constraints = Constraints(
            elements=tuple(e.strip() for e in elements.split(",")) if elements else (),
            formula=formula,
            n_atoms=n_atoms or (1, 8),
            space_groups=groups,
            volume_per_atom=_range(volume, float, "--volume"),
        )
        candidates = make_generator(name).sample(n, constraints, seed)
        count = write_candidates(out, track(candidates, description="generating", total=n, transient=True))
        typer.echo(f"{count} candidates in {out}")
