"""Run a small campaign; the process kills itself at the given call of the calculator (0: never)."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ase.build import bulk
from ase.calculators.emt import EMT

from mlcalc.discovery import CampaignResult, CampaignSettings, FunnelSettings, run_campaign
from mlcalc.generators import Candidate, Provenance

SETTINGS = CampaignSettings(
    relaxation=FunnelSettings(fmax=0.05, max_steps=100),
    reference_atoms=1,
    phonons=2,
    dynamics=1,
    md_steps=20,
    md_length_ang=5.0,
    shard=2,
)


class MortalEMT(EMT):
    """EMT whose process ends at a given call, without a word."""

    calls, last = 0, 0

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        MortalEMT.calls += 1
        if MortalEMT.calls == MortalEMT.last:
            os.kill(os.getpid(), signal.SIGKILL)
        super().calculate(*arguments, **keywords)


class FragileEMT(EMT):
    """EMT that takes its process with it on cells of two atoms."""

    def calculate(self, atoms: Any = None, *arguments: Any, **keywords: Any) -> None:
        if len(atoms) == 2:
            os._exit(1)
        super().calculate(atoms, *arguments, **keywords)


def candidates() -> Iterator[Candidate]:
    structures = (
        bulk("Cu", a=1.5),
        bulk("Cu", a=3.7),
        bulk("Cu", a=3.7, cubic=True),
        bulk("Cu", "hcp", a=2.5, c=4.3),
        bulk("Cu", "bcc", a=2.9),
        bulk("Cu", a=3.5),
    )
    for index, atoms in enumerate(structures):
        yield Candidate(atoms, Provenance("hand", index=index))


def campaign(folder: Path, **options: Any) -> CampaignResult:
    return run_campaign(candidates, MortalEMT, folder, elements=("Cu",), settings=SETTINGS, **options)


if __name__ == "__main__":
    MortalEMT.last = int(sys.argv[2])
    campaign(Path(sys.argv[1]))
