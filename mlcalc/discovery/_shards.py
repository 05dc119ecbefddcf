"""Shards of candidates on any executor: a worker keeps its calculator warm and writes each record as it is made."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path
from typing import Any

from ase import Atoms

from mlcalc.discovery._campaign_stages import STAGES
from mlcalc.discovery.records import Journal

#: Index of the candidate, structure, and what earlier stages say about it.
Item = tuple[int, Atoms, dict[str, Any]]


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


@lru_cache(maxsize=1)
def _journal(folder: str, process: int) -> Journal:
    return Journal(Path(folder) / f"{socket.gethostname()}-{process}-{time.time_ns()}.jsonl")


def run_shard(
    pickled: bytes, folder: str, stage: str, items: Sequence[Item], settings: dict[str, Any]
) -> list[dict[str, Any]]:
    """Do one shard in a worker; its records are on disk, and are returned."""
    journal = _journal(folder, os.getpid())
    made: list[dict[str, Any]] = []

    def report(record: dict[str, Any]) -> None:
        journal.append(record)
        made.append(record)

    STAGES[stage](items, settings, _warm(pickled), report)
    return made


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Return what all workers of all runs have written; a line cut short by a kill does not count."""
    found = []
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_bytes().split(b"\n")[:-1]:
            found.append(json.loads(line))
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
        self._calculator: Any = None

    @property
    def calculator(self) -> Any:
        """The calculator of this process."""
        if self._calculator is None:
            self._calculator = self.factory()
        return self._calculator

    def run(
        self, stage: str, items: Sequence[Item], settings: dict[str, Any], tell: Callable[[dict[str, Any]], None]
    ) -> None:
        """Do a stage for all items; ``tell`` gets each record once it is on disk."""
        size = max(1, min(int(settings["shard"]), -(-len(items) // max(1, self.workers))))
        shards = [items[k : k + size] for k in range(0, len(items), size)]
        if self.executor is None and self.workers <= 1:

            def report(record: dict[str, Any]) -> None:
                self.journal.append(record)
                tell(record)

            for shard in shards:
                STAGES[stage](shard, settings, self.calculator, report)
        elif self.executor is not None:
            for records in self._submitted(self.executor, stage, shards, settings):
                for record in records:
                    tell(record)
        elif shards:
            self._in_pool(stage, shards, settings, tell)

    def _submitted(
        self, executor: Executor, stage: str, shards: Sequence[Sequence[Item]], settings: dict[str, Any]
    ) -> Iterator[list[dict[str, Any]]]:
        pickled = pickle.dumps(self.factory)
        flying: list[Future[list[dict[str, Any]]]] = [
            executor.submit(run_shard, pickled, str(self.folder), stage, shard, settings) for shard in shards
        ]
        for future in as_completed(flying):
            yield future.result()

    def _in_pool(
        self,
        stage: str,
        shards: Sequence[Sequence[Item]],
        settings: dict[str, Any],
        tell: Callable[[dict[str, Any]], None],
    ) -> None:
        """Work off shards; a crash breaks a pool without saying who did it, so what is left then goes one by one."""
        told: set[int] = set()

        def once(record: dict[str, Any]) -> None:
            if record["index"] not in told:
                told.add(record["index"])
                tell(record)

        if self._pool_broke(stage, shards, settings, once):
            self._tell_written(stage, once)
            for item in [item for shard in shards for item in shard if item[0] not in told]:
                if self._pool_broke(stage, [[item]], settings, once):
                    record = {"stage": stage, "index": item[0], "status": "failed", "reason": "worker died"}
                    self.journal.append(record)
                    once(record)

    def _pool_broke(
        self,
        stage: str,
        shards: Sequence[Sequence[Item]],
        settings: dict[str, Any],
        tell: Callable[[dict[str, Any]], None],
    ) -> bool:
        # Spawned, not forked: a fork of a process with threads (torch, BLAS) can hang.
        context = multiprocessing.get_context("spawn")
        number = min(self.workers, len(shards))
        try:
            with ProcessPoolExecutor(number, mp_context=context, initializer=_start_worker) as pool:
                for records in self._submitted(pool, stage, shards, settings):
                    for record in records:
                        tell(record)
        except BrokenExecutor:
            return True
        return False

    def _tell_written(self, stage: str, tell: Callable[[dict[str, Any]], None]) -> None:
        for record in read_records(self.folder):
            if record["stage"] == stage:
                tell(record)


def _start_worker() -> None:
    end_with_parent()
    import torch

    torch.set_num_threads(1)
