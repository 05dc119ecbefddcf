"""Crystals of a campaign in every representation, beside references: a picture for the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from mlcalc.crystals import pictures
from mlcalc.discovery.hull import Phase
from mlcalc.discovery.report import image
from mlcalc.figures import palette_png

if TYPE_CHECKING:
    from ase import Atoms

    from mlcalc.discovery._campaign_result import CampaignResult

# Rows of the picture: references on the hull, and crystals that were found. Larger crystals have no readable pixels.
_REFERENCES, _FOUND, _LARGEST = 2, 3, 20


def gallery(result: CampaignResult) -> Markup | None:
    """Return an image element, or None where no crystal was found that the codecs hold.

    Stable references with most elements come first, then the lowest crystals that are none of the references (where
    there are too few of them, the lowest of all).

    Args:
        result: of the campaign.
    """
    symprec = result.settings.relaxation.symprec
    found = sorted(result.ranked, key=lambda crystal: bool(crystal.known_as))
    rows = _held([(f"rank {c.rank}", c.atoms) for c in found], _FOUND)
    if not rows:
        return None
    on_hull = set(result.references.hull().stable())
    stable = [p for p in result.references.phases if Phase(p.name, p.formula, p.enthalpy_ev_per_atom) in on_hull]
    stable.sort(key=lambda phase: -len(set(phase.atoms.numbers.tolist())))
    real = _held([("reference", phase.atoms) for phase in stable], _REFERENCES)
    titled = [
        (f"{name}: {pictures.title_of(atoms)}, {pictures.symbol_of(atoms, symprec)}", atoms)
        for name, atoms in [*real, *rows]
    ]
    words = "; ".join(title for title, _ in titled)
    return image(palette_png(pictures.gallery(titled)), "image/png", f"Crystals in each representation: {words}")


def _held(crystals: list[tuple[str, Atoms]], most: int) -> list[tuple[str, Atoms]]:
    """Return the first few that every codec holds."""
    taken: list[tuple[str, Atoms]] = []
    for name, atoms in crystals:
        if len(taken) == most:
            break
        if len(atoms) <= _LARGEST and pictures.why_not(atoms) is None:
            taken.append((name, atoms))
    return taken
