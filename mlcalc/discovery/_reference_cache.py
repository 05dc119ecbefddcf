"""Relaxed references on disk, by weights, settings and structure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ase import Atoms

from mlcalc.compiler import cache_root, locked, make_folder
from mlcalc.discovery._work import record_of, relax_together
from mlcalc.discovery.identity import energy_scale, known_weights
from mlcalc.discovery.records import Journal
from mlcalc.records import structure_hash
from mlcalc.workflows import RelaxResult


@dataclass(frozen=True)
class ReferenceCache:
    """A folder of records for one calculator with one set of settings; None keeps nothing."""

    folder: Path | None

    @classmethod
    def of(cls, calculator: Any, settings: Any, own: Path | None) -> ReferenceCache:
        """Return mlcalc's cache for a potential, else one in ``own`` if that is a folder."""
        weights = known_weights(calculator)
        root = own if weights is None else cache_root() / "references"
        if root is None:
            return cls(None)
        key = json.dumps([weights, energy_scale(calculator).source, asdict(settings)])
        return cls(root / hashlib.sha256(key.encode()).hexdigest()[:32])

    @contextmanager
    def opened(self) -> Iterator[tuple[dict[str, dict[str, Any]], Callable[[dict[str, Any]], None]]]:
        """Yield known records by structure, and what keeps one more; other processes wait."""
        if self.folder is None:
            yield {}, lambda record: None
            return
        make_folder(self.folder)
        with locked(self.folder / "lock"), Journal(self.folder / "references.jsonl") as journal:
            yield {record["structure"]: record for record in journal.records}, journal.append


#: Relaxes structures by key, and gives each record of how that went, which holds its key as ``structure``.
Relaxer = Callable[[dict[str, Atoms], Callable[[dict[str, Any]], None]], None]


def relax_cached(
    structures: Sequence[Atoms],
    calculator: Any,
    settings: dict[str, Any],
    cache: ReferenceCache,
    progress: Callable[[int, int], None] | None,
    relaxer: Relaxer | None = None,
) -> list[dict[str, Any]]:
    """Return one record a structure, relaxing those that the cache does not know.

    Errors of the calculator are not kept: memory or a device may be there the next time.

    Args:
        structures: references.
        calculator: whose energies they get.
        settings: of the relaxation.
        cache: what is known, and where to keep more.
        progress: called with (done, total).
        relaxer: whoever relaxes; None does it here, with ``calculator``.
    """
    tell = progress or (lambda done, total: None)
    keys = [structure_hash(atoms) for atoms in structures]
    with cache.opened() as (known, keep):
        found = {key: known[key] for key in keys if key in known}
        todo = {key: atoms for key, atoms in zip(keys, structures, strict=True) if key not in found}
        tell(len(found), len(structures))

        def finished(record: dict[str, Any]) -> None:
            found[record["structure"]] = record
            if not record.get("error"):
                keep(record)
            tell(len(found), len(structures))

        (relaxer or partial(_relax_here, calculator=calculator, settings=settings))(todo, finished)
    return [found[key] for key in keys]


def _relax_here(
    todo: dict[str, Atoms], finished: Callable[[dict[str, Any]], None], calculator: Any, settings: dict[str, Any]
) -> None:
    keys = list(todo)

    def told(number: int, result: RelaxResult) -> None:
        record = {"structure": keys[number], **record_of(result, settings, calculator)}
        finished({**record, "error": True} if result.error is not None else record)

    relax_together(list(todo.values()), calculator, settings, told)
