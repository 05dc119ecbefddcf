"""A campaign: from candidates to a ranked table of stable crystals, stage by stage, resumable."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import ase.io.jsonio
from ase import Atoms

from mlcalc.discovery._campaign_database import check_shared, write_database, write_shared
from mlcalc.discovery._campaign_page import write_page
from mlcalc.discovery._campaign_ranking import energy_scores, likelihood_scores, ranked_records, stability_scores
from mlcalc.discovery._campaign_result import CampaignResult, Gathered
from mlcalc.discovery._campaign_settings import CampaignSettings
from mlcalc.discovery._campaign_summary import summarise, write_files
from mlcalc.discovery._shards import Crew, Item, read_records
from mlcalc.discovery._work import check
from mlcalc.discovery.funnel import stored_candidates
from mlcalc.discovery.novelty import judge_novelty
from mlcalc.discovery.records import Journal, claim_folder, enough_room
from mlcalc.discovery.references import References, ReferenceStructure, make_references, offered_structures
from mlcalc.generators import Candidate, Provenance
from mlcalc.generators.io import Unreadable

__all__ = ["CampaignResult", "CampaignSettings", "run_campaign"]

#: Called with (stage, done, total).
Progress = Callable[[str, int, int], None]


def run_campaign(
    candidates: Callable[[], Iterable[Candidate | Unreadable]],
    factory: Callable[[], Any],
    folder: str | Path,
    *,
    elements: tuple[str, ...],
    references: Callable[[], Iterable[ReferenceStructure]] | None = None,
    settings: CampaignSettings | None = None,
    description: dict[str, Any] | None = None,
    workers: int = 1,
    executor: Executor | None = None,
    database: str | None = None,
    progress: Progress | None = None,
    command: str | None = None,
) -> CampaignResult:
    """Judge candidates: distances, uniqueness, ranking, relaxation, hull, novelty, vibrations, dynamics, free energies.

    Every candidate, or the best by a score, is relaxed with its symmetry kept, then displaced a little and relaxed
    without. Energies above the hull are those of one potential among references relaxed with the same one. The lowest
    crystals get phonons at Γ (an imaginary mode is followed once), the lowest of these phonons in a supercell, short
    dynamics and, if asked for, a quasi-harmonic free energy. Nothing is dropped in silence: who does not go on is
    counted at its stage, with the reason.

    The folder holds ``campaign.json`` (what the campaign is), ``candidates.extxyz``, ``records/`` (append-only JSON
    lines, one a candidate and stage), ``campaign.db`` (an ASE database made of them), ``ranked.extxyz``,
    ``report.json`` and ``report.html``, a page that needs nothing beside it; and of single candidates
    ``phonons/NNNNN``, ``dynamics/NNNNN``, ``free-energy/NNNNN``. Killed anywhere, the same call goes on: records
    on disk are never made again.

    Args:
        candidates: gives the candidates, and an ``Unreadable`` for what was to be one; called only if the folder does
            not hold them yet.
        factory: builds the ASE calculator (double precision); picklable for ``workers`` > 1 or an executor.
        folder: made if missing.
        elements: of the chemical system, for the references.
        references: further reference structures beside the prototypes.
        settings: thresholds; defaults if None.
        description: what the campaign is (JSON-ready); must be the same when it goes on.
        workers: processes; 1 works in this one.
        executor: any ``concurrent.futures.Executor`` of single-threaded workers instead, which see the same files;
            ``parsl_executor`` makes one of batch jobs.
        database: of a server, as ``ase.db.connect`` takes it, to get the rows of ``campaign.db`` too, with a key
            ``campaign``; needs ase-db-backends.
        progress: see ``Progress``.
        command: that goes on with the campaign, for its page.

    Raises:
        WorkflowError: the folder holds another campaign or is in use, candidates cannot be ranked as asked, a worker
            cannot do its shard, the disk is full, or another process has locked ``campaign.db``.
        GeneratorError: the generator could not make the candidates.
        ModelFileError: the weights of the learned stability score cannot be read.

    Warns:
        WorkflowWarning: the database could not be written; the campaign is whole on disk.
    """
    settings = settings or CampaignSettings()
    if database is not None:
        check_shared(database)
    folder = Path(folder).resolve()
    (folder / "records").mkdir(parents=True, exist_ok=True)
    with enough_room(folder), Journal(folder / "records" / "main.jsonl") as journal, ExitStack() as stack:
        claim_folder(folder, {"description": description or {}, "settings": settings.flat()})
        crew = stack.enter_context(Crew(factory, journal, workers, executor))
        run = _Run(folder, settings, crew, progress or (lambda stage, done, total: None), elements, references)
        run.read(candidates)
        run.check_distances()
        run.find_duplicates()
        # The energy of a candidate says something beside references only; else they can wait.
        phases = run.references() if settings.rank == "energy" else None
        run.rank(phases)
        run.relax()
        phases = phases or run.references()
        run.vibrate(phases)
        run.vibrate_on_mesh(phases)
        run.move(phases)
        run.heat()
        result = summarise(run.gathered(), phases, settings)
        write_files(folder, result, description or {})
        write_page(folder, result, run.gathered(), run.origins, description or {}, command)
        write_database(folder / "campaign.db", result, run.gathered())
        if database is not None:
            name = hashlib.sha256((folder / "campaign.json").read_bytes()).hexdigest()[:16]
            write_shared(database, result, run.gathered(), f"c{name}")
        return result


def reference_index(key: str) -> int:
    """Return the index of a reference's record: of its structure, and negative, so that no candidate has it."""
    return -2 - int(key[:12], 16)


@dataclass
class _Run:
    """One call of ``run_campaign``: records by stage and candidate, and the stages in order."""

    folder: Path
    settings: CampaignSettings
    crew: Crew
    tell: Progress
    elements: tuple[str, ...]
    more: Callable[[], Iterable[ReferenceStructure]] | None

    def __post_init__(self) -> None:
        self.pool: list[Atoms] = []
        self.origins: list[Provenance] = []
        self.records: dict[str, dict[int, dict[str, Any]]] = {}
        for record in read_records(self.folder / "records"):
            # The first one counts, should two workers have made the same.
            self.records.setdefault(record["stage"], {}).setdefault(record["index"], record)

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

    def read(self, candidates: Callable[[], Iterable[Candidate | Unreadable]]) -> None:
        """Take the candidates from the folder, or make them; what could not be read is recorded."""

        def readable() -> Iterator[Candidate]:
            number = 0
            for item in candidates():
                if isinstance(item, Unreadable):
                    if number not in self.of("unreadable"):
                        told = {"status": "failed", "reason": "cannot be read", "message": item.reason[:500]}
                        self.keep({"stage": "unreadable", "index": number, "file": item.file, **told})
                    number += 1
                else:
                    yield item

        stored = stored_candidates(self.folder, readable)
        self.pool = [candidate.atoms for candidate in stored]
        self.origins = [candidate.provenance for candidate in stored]

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

    def rank(self, phases: References | None) -> None:
        """Put aside all but the best by a score that needs no relaxation; all at once, since it is a comparison."""
        stage, by = "ranking", self.settings.rank
        candidates = self.passed("uniqueness")
        if by is None or all(index in self.of(stage) for index in candidates):
            return
        if by == "energy":
            assert phases is not None
            points = self.of("single points")
            for index in [index for index, record in points.items() if record["status"] != "ok"]:
                del points[index]  # what failed in a call before may work by now
            self.work("single points", [(i, self.pool[i], {}) for i in candidates])
            scores = energy_scores(self.pool, self.of("single points"), phases)
        elif by == "likelihood":
            scores = likelihood_scores(self.pool, self.origins, candidates)
        else:
            offered = offered_structures(self.elements, self.further, self.settings.reference_atoms)
            scores = stability_scores(self.pool, candidates, [item.atoms for item in offered])
        for record in ranked_records(by, scores, candidates, self.settings.best):
            if record["index"] not in self.of(stage):
                self.keep({"stage": stage, **record})

    def relax(self) -> None:
        chosen = self.passed("uniqueness" if self.settings.rank is None else "ranking")
        self.work("relaxation with symmetry", [(i, self.pool[i], {}) for i in chosen])
        legs = self.of("relaxation with symmetry")
        items: list[Item] = []
        for index in chosen:
            # Where the symmetry could not be kept, the candidate itself is released.
            given = legs[index]
            start = ase.io.jsonio.decode(given["atoms"]) if given["status"] == "ok" else self.pool[index]
            items.append((index, start, {}))
        self.work("relaxation", items)

    @cached_property
    def further(self) -> list[ReferenceStructure]:
        """References beside the prototypes, asked for once: they may come from a server."""
        return [] if self.more is None else list(self.more())

    def references(self) -> References:
        stage, settings = "references", self.settings.references()
        options = {**self.settings.flat(), **vars(settings), "folder": str(self.folder)}

        def relax(todo: dict[str, Atoms], finished: Callable[[dict[str, Any]], None]) -> None:
            """Have the crew relax them; the folder holds what a killed call did and did not hand to the cache."""
            keys = {reference_index(key): key for key in todo}

            def told(record: dict[str, Any]) -> None:
                if "structure" not in record:  # it took its worker along: nothing to tell other campaigns either
                    record = {**record, "error": True, "structure": keys[record["index"]]}
                finished(record)

            done = {index: record for index, record in self.of(stage).items() if not record.get("error")}
            for index in keys.keys() & done.keys():
                told(done[index])
            left = [(index, todo[key], {"structure": key}) for index, key in keys.items() if index not in done]
            self.crew.run(stage, left, options, told)

        return make_references(
            self.elements,
            self.crew.calculator,
            self.further,
            settings=settings,
            folder=self.folder / "references",
            progress=lambda done, total: self.tell(stage, done, total),
            relaxer=relax,
        )

    def choose(self, stage: str, phases: References, among: list[int], count: int, limit: float | None) -> list[int]:
        """Choose the lowest crystals for a stage, once: what is found out about them must not change the choice."""
        name = f"chosen for {stage}"
        if -1 not in self.of(name):
            chosen = []
            for crystal in summarise(self.gathered(), phases, self.settings).ranked:
                above = crystal.energy_above_hull_ev_per_atom
                if crystal.index in among and above is not None and (limit is None or above <= limit):
                    chosen.append(crystal.index)
            self.keep({"stage": name, "index": -1, "status": "ok", "indices": chosen[:count]})
        return list(self.of(name)[-1]["indices"])

    def vibrate(self, phases: References) -> None:
        relaxed = self.of("relaxation")
        limit = self.settings.above_hull_ev_per_atom
        chosen = self.choose("phonons", phases, self.passed("relaxation"), self.settings.phonons, limit)
        self.work("phonons", [(i, ase.io.jsonio.decode(relaxed[i]["atoms"]), {}) for i in chosen])

    def vibrate_on_mesh(self, phases: References) -> None:
        if self.settings.mesh_phonons:
            stage = "phonons on a mesh"
            chosen = self.choose(stage, phases, self.passed("phonons"), self.settings.mesh_phonons, None)
            self.work(stage, [(i, self.gathered().final(i), {}) for i in chosen])

    def move(self, phases: References) -> None:
        before = "phonons on a mesh" if self.settings.mesh_phonons else "phonons"
        chosen = self.choose("dynamics", phases, self.passed(before), self.settings.dynamics, None)
        self.work("dynamics", [(i, self.gathered().final(i), {}) for i in chosen])

    def heat(self) -> None:
        if self.settings.free_energy_k is not None:
            stable = self.passed("phonons on a mesh")
            self.work("free energy", [(i, self.gathered().final(i), {}) for i in stable])
