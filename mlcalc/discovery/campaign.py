"""A campaign: from candidates to a ranked table of stable crystals, stage by stage, resumable."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io.jsonio
from ase import Atoms

from mlcalc.discovery._campaign_page import write_page
from mlcalc.discovery._campaign_settings import CampaignSettings
from mlcalc.discovery._campaign_summary import CampaignResult, Gathered, summarise, write_files
from mlcalc.discovery._shards import Crew, Item, read_records
from mlcalc.discovery._work import check
from mlcalc.discovery.funnel import stored_candidates
from mlcalc.discovery.novelty import judge_novelty
from mlcalc.discovery.records import Journal, claim_folder
from mlcalc.discovery.references import References, ReferenceStructure, make_references
from mlcalc.generators import Candidate

__all__ = ["CampaignResult", "CampaignSettings", "run_campaign"]

#: Called with (stage, done, total).
Progress = Callable[[str, int, int], None]


def run_campaign(
    candidates: Callable[[], Iterable[Candidate]],
    factory: Callable[[], Any],
    folder: str | Path,
    *,
    elements: tuple[str, ...],
    references: Callable[[], Iterable[ReferenceStructure]] | None = None,
    settings: CampaignSettings | None = None,
    description: dict[str, Any] | None = None,
    workers: int = 1,
    executor: Executor | None = None,
    progress: Progress | None = None,
    command: str | None = None,
) -> CampaignResult:
    """Judge candidates: distances, uniqueness, relaxation, hull, novelty, vibrations, dynamics.

    Every candidate is relaxed with its symmetry kept, then displaced a little and relaxed without. Energies above the
    hull are those of one potential among references relaxed with the same one. The lowest crystals get phonons at Γ
    (an imaginary mode is followed once) and short dynamics. Nothing is dropped in silence: who does not go on is
    counted at its stage, with the reason.

    The folder holds ``campaign.json`` (what the campaign is), ``candidates.extxyz``, ``records/`` (append-only JSON
    lines, one a candidate and stage), ``campaign.db`` (an ASE database made of them), ``ranked.extxyz``,
    ``report.json`` and ``report.html``, a page that needs nothing beside it. Killed anywhere, the same call goes on:
    records on disk are never made again.

    Args:
        candidates: gives the candidates; called only if the folder does not hold them yet.
        factory: builds the ASE calculator (double precision); picklable for ``workers`` > 1 or an executor.
        folder: made if missing.
        elements: of the chemical system, for the references.
        references: further reference structures beside the prototypes.
        settings: thresholds; defaults if None.
        description: what the campaign is (JSON-ready); must be the same when it goes on.
        workers: processes; 1 works in this one.
        executor: any ``concurrent.futures.Executor`` of single-threaded workers instead, which see the same files.
        progress: see ``Progress``.
        command: that goes on with the campaign, for its page.

    Raises:
        WorkflowError: the folder holds another campaign or is in use.
        GeneratorError: the generator could not make the candidates.
    """
    settings = settings or CampaignSettings()
    folder = Path(folder).resolve()
    (folder / "records").mkdir(parents=True, exist_ok=True)
    with Journal(folder / "records" / "main.jsonl") as journal:
        claim_folder(folder, {"description": description or {}, "settings": settings.flat()})
        crew = Crew(factory, journal, workers, executor)
        run = _Run(folder, settings, crew, progress or (lambda stage, done, total: None))
        stored = stored_candidates(folder, candidates)
        run.pool = [candidate.atoms for candidate in stored]
        run.check_distances()
        run.find_duplicates()
        run.relax()
        phases = run.references(elements, references)
        run.judge(phases)
        run.vibrate()
        run.judge(phases)
        run.move()
        result = summarise(run.gathered(), phases, settings)
        write_files(folder, result, run.gathered(), description or {})
        origins = [candidate.provenance for candidate in stored]
        write_page(folder, result, run.gathered(), origins, description or {}, command)
        return result


@dataclass
class _Run:
    """One call of ``run_campaign``: records by stage and candidate, and the stages in order."""

    folder: Path
    settings: CampaignSettings
    crew: Crew
    tell: Progress

    def __post_init__(self) -> None:
        self.pool: list[Atoms] = []
        self.records: dict[str, dict[int, dict[str, Any]]] = {}
        for record in read_records(self.folder / "records"):
            # The first one counts, should two workers have made the same.
            self.records.setdefault(record["stage"], {}).setdefault(record["index"], record)
        self.judged: list[dict[str, Any]] = []

    def of(self, stage: str) -> dict[int, dict[str, Any]]:
        return self.records.setdefault(stage, {})

    def passed(self, stage: str) -> list[int]:
        return sorted(index for index, record in self.of(stage).items() if record["status"] == "ok")

    def gathered(self) -> Gathered:
        return Gathered(self.pool, self.records)

    def keep(self, record: dict[str, Any]) -> None:
        self.crew.journal.append(record)
        self.of(record["stage"])[record["index"]] = record

    def work(self, stage: str, items: list[Item]) -> None:
        """Do what a stage has not done yet."""
        done = self.of(stage)
        todo = [item for item in items if item[0] not in done]
        self.tell(stage, len(items) - len(todo), len(items))

        def told(record: dict[str, Any]) -> None:
            done.setdefault(record["index"], record)
            self.tell(stage, sum(item[0] in done for item in items), len(items))

        self.crew.run(stage, todo, {**self.settings.flat(), "folder": str(self.folder)}, told)

    def check_distances(self) -> None:
        stage = "distances"
        for index, atoms in enumerate(self.pool):
            if index not in self.of(stage):
                problem = check(atoms, self.settings.relaxation.min_distance)
                told = {"status": "failed", "reason": problem} if problem else {"status": "ok"}
                self.keep({"stage": stage, "index": index, **told})

    def find_duplicates(self) -> None:
        """Put equal candidates aside; all at once, since each depends on the others."""
        stage = "uniqueness"
        valid = self.passed("distances")
        if all(index in self.of(stage) for index in valid):
            return
        window = self.settings.relaxation.volume_window
        symprec = self.settings.relaxation.symprec
        found = judge_novelty([self.pool[i] for i in valid], volume_window=window, symprec=symprec)
        for index, novelty in zip(valid, found, strict=True):
            same = valid[novelty.same_as]
            told = {"status": "ok"} if same == index else {"status": "failed", "reason": "duplicate", "same_as": same}
            if index not in self.of(stage):
                self.keep({"stage": stage, "index": index, **told})

    def relax(self) -> None:
        self.work("relaxation with symmetry", [(i, self.pool[i], {}) for i in self.passed("uniqueness")])
        legs = self.of("relaxation with symmetry")
        items: list[Item] = []
        for index in self.passed("uniqueness"):
            # Where the symmetry could not be kept, the candidate itself is released.
            given = legs[index]
            start = ase.io.jsonio.decode(given["atoms"]) if given["status"] == "ok" else self.pool[index]
            items.append((index, start, {}))
        self.work("relaxation", items)

    def references(
        self, elements: tuple[str, ...], more: Callable[[], Iterable[ReferenceStructure]] | None
    ) -> References:
        stage = "references"
        return make_references(
            elements,
            self.crew.calculator,
            list(more()) if more is not None else [],
            settings=self.settings.references(),
            folder=self.folder / "references",
            progress=lambda done, total: self.tell(stage, done, total),
        )

    def judge(self, phases: References) -> None:
        self.judged = summarise(self.gathered(), phases, self.settings).rows()

    def choose(self, stage: str, among: set[int], count: int, limit: float | None) -> list[int]:
        """Choose the lowest crystals for a stage, once: what is found out about them must not change the choice."""
        name = f"chosen for {stage}"
        if -1 not in self.of(name):
            chosen = []
            for row in self.judged:
                above = row["energy_above_hull_ev_per_atom"]
                if row["index"] in among and above is not None and (limit is None or above <= limit):
                    chosen.append(row["index"])
            self.keep({"stage": name, "index": -1, "status": "ok", "indices": chosen[:count]})
        return list(self.of(name)[-1]["indices"])

    def vibrate(self) -> None:
        relaxed = self.of("relaxation")
        limit = self.settings.above_hull_ev_per_atom
        chosen = self.choose("phonons", set(self.passed("relaxation")), self.settings.phonons, limit)
        self.work("phonons", [(i, ase.io.jsonio.decode(relaxed[i]["atoms"]), {}) for i in chosen])

    def move(self) -> None:
        chosen = self.choose("dynamics", set(self.passed("phonons")), self.settings.dynamics, None)
        self.work("dynamics", [(i, self.gathered().final(i), {}) for i in chosen])
