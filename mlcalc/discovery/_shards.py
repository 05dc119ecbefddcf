"""Shards of candidates on any executor: a worker keeps its calculator warm and writes each record as it is made."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import pickle
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

from ase import Atoms

from mlcalc.discovery._campaign_stages import STAGES, TOGETHER
from mlcalc.discovery.records import Journal
from mlcalc.errors import MlcalcError, WorkflowError
from mlcalc.files import write_atomic

#: Index of the candidate, structure, and what earlier stages say about it.
Item = tuple[int, Atoms, dict[str, Any]]
Records = list[dict[str, Any]]
Tell = Callable[[dict[str, Any]], None]

OWNER = "owner"
# A candidate whose workers are lost more often than this takes them along.
_LOSSES = 2
_FRUITLESS = 5


def end_with_parent() -> None:
    """End this process when the one that started it does, so that nobody writes beside its successor."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@lru_cache(maxsize=1)
def _warm(pickled: bytes) -> Any:
    return pickle.loads(pickled)()


def _shard_path(folder: Path, owner: str, attempt: int, stage: str, items: Sequence[Item]) -> Path:
    name = json.dumps([owner, attempt, stage, [index for index, _, _ in items]])
    return folder / f"{stage.replace(' ', '-')}-{hashlib.sha256(name.encode()).hexdigest()[:16]}.jsonl"


def run_shard(
    pickled: bytes,
    folder: str,
    owner: str,
    attempt: int,
    stage: str,
    items: Sequence[Item],
    settings: dict[str, Any],
) -> Records:
    """Do one shard in a worker; its records are on disk, and are returned.

    A shard has a file of its own, so that one which an executor gives out again goes on where a lost worker stopped.

    Raises:
        WorkflowError: another call leads the campaign by now, or the records cannot be written.
    """
    with Journal(_shard_path(Path(folder), owner, attempt, stage, items)) as journal:
        done = {record["index"] for record in journal.records}
        left = [item for item in items if item[0] not in done]

        def report(record: dict[str, Any]) -> None:
            # Workers of a batch system outlive the campaign that asked for them, and its successor starts afresh.
            if (Path(folder) / OWNER).read_text(encoding="utf-8") != owner:
                raise WorkflowError(f"{folder}: another call goes on with this campaign; this worker stops")
            journal.append(record)

        if left:
            STAGES[stage](left, settings, _warm(pickled), report)
        return journal.records


def read_records(folder: Path) -> Records:
    """Return what all workers of all runs have written; a line cut short by a kill does not count.

    Raises:
        WorkflowError: a line is damaged.
    """
    found = []
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
            try:
                found.append(json.loads(line))
            except ValueError:
                raise WorkflowError(f"{path}, line {number}: damaged record; delete the line to redo it") from None
    return found


class Crew:
    """Whoever does the work: this process, a pool of processes, or an executor of the caller's.

    Args:
        factory: builds the calculator; picklable unless this process works alone.
        journal: of this process.
        workers: processes; 1 works here.
        executor: any ``concurrent.futures.Executor`` whose workers see the same files; None makes a pool of processes.
    """

    def __init__(self, factory: Callable[[], Any], journal: Journal, workers: int, executor: Executor | None) -> None:
        self.factory, self.journal, self.workers, self.executor = factory, journal, workers, executor
        self.folder = journal.path.parent
        self.owner = uuid.uuid4().hex
        write_atomic(self.folder / OWNER, self.owner)
        self._calculator: Any = None
        self._pool: ProcessPoolExecutor | None = None
        self._attempts = 0

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    @property
    def calculator(self) -> Any:
        """The calculator of this process."""
        if self._calculator is None:
            self._calculator = self.factory()
        return self._calculator

    def run(self, stage: str, items: Sequence[Item], settings: dict[str, Any], tell: Tell) -> None:
        """Do a stage for all items; ``tell`` gets each record once it is on disk.

        Raises:
            WorkflowError: a shard failed as a whole: its calculator could not be built, or its records not be written.
        """
        if not items:
            return
        if self.executor is None and self.workers <= 1:

            def report(record: dict[str, Any]) -> None:
                self.journal.append(record)
                tell(record)

            STAGES[stage](items, settings, self.calculator, report)
            return
        # Who is not relaxed together is better spread.
        size = int(settings["shard"]) if stage in TOGETHER else 1
        size = max(1, min(size, -(-len(items) // max(1, self.workers))))
        self._spread(stage, [items[k : k + size] for k in range(0, len(items), size)], settings, tell)

    def _spread(self, stage: str, shards: Sequence[Sequence[Item]], settings: dict[str, Any], tell: Tell) -> None:
        """Work off shards, however many workers are lost; who takes them along is found and recorded."""
        told: set[int] = set()
        losses: Counter[int] = Counter()
        fruitless = 0

        def once(record: dict[str, Any]) -> None:
            if record["index"] not in told:
                told.add(record["index"])
                tell(record)

        def died(index: int) -> None:
            record = {"stage": stage, "index": index, "status": "failed", "reason": "worker died"}
            self.journal.append(record)
            once(record)

        while shards:
            before = len(told)
            lost = self._submitted(stage, shards, settings, once)
            if not lost:
                return
            self._tell_written(stage, once)
            again: list[Sequence[Item]] = []
            suspects: list[Item] = []
            for shard, begun in lost:
                left = [item for item in shard if item[0] not in told]
                if begun:
                    suspects += left
                elif left:
                    again.append(left)
            for item in suspects:
                losses[item[0]] += 1
                if self.executor is not None and losses[item[0]] <= _LOSSES:
                    again.append([item])
                elif self.executor is not None or self._submitted(stage, [[item]], settings, once):
                    # A crash breaks a pool of processes as a whole: who is alone in it has done it.
                    died(item[0])
            shards = again
            fruitless = 0 if suspects or len(told) > before else fruitless + 1
            if fruitless > _FRUITLESS:
                raise WorkflowError(
                    f"{stage}: workers are lost again and again before they begin; look into the logs of the executor. "
                    "The same command goes on"
                )

    def _submitted(
        self, stage: str, shards: Sequence[Sequence[Item]], settings: dict[str, Any], tell: Tell
    ) -> list[tuple[Sequence[Item], bool]]:
        """Give out shards; return those whose worker was lost, and whether it had begun."""
        self._attempts += 1
        executor, pickled = self._workers(), pickle.dumps(self.factory)
        flying: dict[Future[Records], Sequence[Item]] = {}
        lost: list[Sequence[Item]] = []
        for shard in shards:
            try:
                arguments = (pickled, str(self.folder), self.owner, self._attempts, stage, shard, settings)
                flying[executor.submit(run_shard, *arguments)] = shard
            except BrokenExecutor:
                lost.append(shard)
        for future in as_completed(flying):
            try:
                for record in future.result():
                    tell(record)
            except Exception as error:  # of a worker: anything
                if not _is_loss(error):
                    for other in flying:
                        other.cancel()
                    raise _as_workflow_error(stage, error) from error
                lost.append(flying[future])
        if lost and self._pool is not None:  # a pool that lost one is broken
            self._pool.shutdown()
            self._pool = None
        paths = [_shard_path(self.folder, self.owner, self._attempts, stage, shard) for shard in lost]
        return [(shard, path.exists()) for shard, path in zip(lost, paths, strict=True)]

    def _workers(self) -> Executor:
        if self.executor is not None:
            return self.executor
        if self._pool is None:
            # Spawned, not forked: a fork of a process with threads (torch, BLAS) can hang.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, mp_context=context, initializer=_start_worker)
        return self._pool

    def _tell_written(self, stage: str, tell: Tell) -> None:
        for record in read_records(self.folder):
            if record["stage"] == stage:
                tell(record)


def _is_loss(error: BaseException) -> bool:
    """Return whether a worker went away; Parsl need not be installed to know its names for that."""
    return isinstance(error, BrokenExecutor) or type(error).__name__ in ("WorkerLost", "ManagerLost")


def _as_workflow_error(stage: str, error: Exception) -> MlcalcError:
    if isinstance(error, MlcalcError):
        return error
    return WorkflowError(
        f"{stage}: a worker cannot do its shard, {type(error).__name__}: {error}. It needs the same environment, "
        "calculator and files as this process; the same command goes on"
    )


def _start_worker() -> None:
    end_with_parent()
    import torch

    torch.set_num_threads(1)
