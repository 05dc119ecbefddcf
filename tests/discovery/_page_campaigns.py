"""Small campaigns with EMT whose pages are looked at; names from outside try to be scripts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from mlcalc.discovery import CampaignResult, CampaignSettings, FunnelSettings, ReferenceStructure, run_campaign
from mlcalc.generators import Candidate, Provenance

EVIL = "<script>document.title = 'taken'</script><img src=x onerror=document.title='taken'>"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str | None:
    """Return where Chromium is."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


def layered(first: str, second: str, a: float, c: float) -> Atoms:
    """Return two elements in layers of a tetragonal cell (L1_0)."""
    return Atoms([first, second], scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5)], cell=[a, a, c], pbc=True)


def cubic(one: str, three: str, a: float) -> Atoms:
    """Return A₃B in a cubic cell (L1_2)."""
    places = [(0, 0, 0), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    return Atoms([one, three, three, three], scaled_positions=places, cell=[a] * 3, pbc=True)


def pair() -> list[Atoms]:
    """Return candidates of copper and gold; the last is one atom on top of another."""
    return [
        layered("Cu", "Au", 2.8, 3.7),
        cubic("Au", "Cu", 3.75),
        cubic("Cu", "Au", 3.95),
        layered("Cu", "Au", 3.1, 3.1),
        bulk("Cu", a=3.7),
        cubic("Au", "Cu", 3.75),
        Atoms("CuAu", positions=[(0, 0, 0), (0, 0, 0.2)], cell=[4, 4, 4], pbc=True),
    ]


def run(
    folder: Path, structures: Sequence[Atoms], elements: tuple[str, ...], references: bool = True, **changed: Any
) -> CampaignResult:
    """Run a campaign over structures, with one more reference of an unfriendly name."""
    settings = {
        "relaxation": FunnelSettings(fmax=0.05, max_steps=100),
        "reference_atoms": 1,
        "above_hull_ev_per_atom": 0.2,
        "phonons": 2,
        "dynamics": 1,
        "md_steps": 30,
        "md_length_ang": 5.0,
    }

    def candidates() -> Iterator[Candidate]:
        for index, atoms in enumerate(structures):
            yield Candidate(atoms, Provenance(EVIL if index == 0 else "hand", seed=7, index=10 + index))

    def more() -> list[ReferenceStructure]:
        return [ReferenceStructure(f"{EVIL} L1_2", "a file", cubic("Au", "Cu", 3.75))] if references else []

    return run_campaign(
        candidates,
        EMT,
        folder,
        elements=elements,
        references=more,
        settings=CampaignSettings(**{**settings, **changed}),
        description={"generator": EVIL, "number": len(structures), "calculator": "EMT"},
        command=f"mlcalc discover --elements {','.join(elements)} --generator '{EVIL}'",
    )
