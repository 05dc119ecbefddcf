"""Run a small campaign; the process kills itself in the given stage."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from ase.build import bulk
from ase.calculators.emt import EMT

from mlcalc.discovery import CampaignResult, CampaignSettings, FunnelSettings, run_campaign
from mlcalc.discovery._shards import read_records
from mlcalc.generators import Candidate, Provenance

SETTINGS = CampaignSettings(
    relaxation=FunnelSettings(fmax=0.05, max_steps=100),
    reference_atoms=1,
    phonons=2,
    mesh_phonons=1,
    mesh_length_ang=5.0,
    dynamics=1,
    md_steps=20,
    md_length_ang=5.0,
    shard=2,
)


class MortalEMT(EMT):
    """EMT whose process ends at a given call within a stage, without a word."""

    stage = ""
    calls: ClassVar[dict[str, int]] = {}
    last: tuple[str, int] | None = None

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        calls = MortalEMT.calls
        calls[MortalEMT.stage] = calls.get(MortalEMT.stage, 0) + 1
        if MortalEMT.last == (MortalEMT.stage, calls[MortalEMT.stage]):
            os.kill(os.getpid(), signal.SIGKILL)
        super().calculate(*arguments, **keywords)


class FragileEMT(EMT):
    """EMT that takes its process with it on cells of two atoms."""

    def calculate(self, atoms: Any = None, *arguments: Any, **keywords: Any) -> None:
        if len(atoms) == 2:
            os._exit(1)
        super().calculate(atoms, *arguments, **keywords)


class OnceFragileEMT(EMT):
    """EMT whose process is killed when it first meets a cell of two atoms; the file ``$MARK`` tells."""

    def calculate(self, atoms: Any = None, *arguments: Any, **keywords: Any) -> None:
        mark = Path(os.environ["MARK"])
        if len(atoms) == 2 and not mark.exists():
            mark.write_text(str(os.getpid()), encoding="utf-8")
            os.kill(os.getpid(), signal.SIGKILL)
        super().calculate(atoms, *arguments, **keywords)


class RaisingEMT(EMT):
    """EMT that cannot do cells of two atoms, and says so."""

    def calculate(self, atoms: Any = None, *arguments: Any, **keywords: Any) -> None:
        if len(atoms) == 2:
            raise ArithmeticError("two is one too many")
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


def campaign(folder: Path, factory: Any = MortalEMT, **options: Any) -> CampaignResult:
    def told(stage: str, done: int, total: int) -> None:
        MortalEMT.stage = stage

    given = {"settings": SETTINGS, "progress": told, **options}
    return run_campaign(candidates, factory, folder, elements=("Cu",), **given)


def comparable(folder: Path) -> Any:
    """Return ``report.json`` without times, and without digits that depend on what a neighbour list held before."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    del report["references"]["wall_time_s"]
    for cost in report["cost"].values():
        del cost["wall_time_s"]
    return rounded(report)


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(value, 4) + 0.0 if isinstance(value, float) else value


def counts(folder: Path) -> Counter[tuple[str, int]]:
    return Counter((record["stage"], record["index"]) for record in read_records(folder / "records"))


def main(folder: Path, stage: str, number: int, workers: int) -> None:
    """Alone: die in the call of the calculator of that number; with workers: when so many records are on disk."""
    if workers == 1:
        MortalEMT.last = (stage, number)
        campaign(folder)
        return

    def told(name: str, done: int, total: int) -> None:
        if name == stage and done >= number:
            os.kill(os.getpid(), signal.SIGKILL)

    campaign(folder, workers=workers, progress=told)


if __name__ == "__main__":
    import _campaign_script  # under its own name, so that calculators are called the same as in the test

    _campaign_script.main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
