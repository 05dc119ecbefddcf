"""Relaxed references on disk, by weights, settings and structure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
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


def relax_cached(
    structures: Sequence[Atoms],
    calculator: Any,
    settings: dict[str, Any],
    cache: ReferenceCache,
    progress: Callable[[int, int], None] | None,
) -> list[dict[str, Any]]:
    """Return one record a structure, relaxing those that the cache does not know.

    Errors of the calculator are not kept: memory or a device may be there the next time.
    """
    tell = progress or (lambda done, total: None)
    keys = [structure_hash(atoms) for atoms in structures]
    with cache.opened() as (known, keep):
        found = {key: known[key] for key in keys if key in known}
        todo = [k for k, key in enumerate(keys) if key not in found and keys.index(key) == k]
        tell(len(found), len(structures))

        def finished(number: int, result: RelaxResult) -> None:
            key = keys[todo[number]]
            found[key] = {"structure": key, **record_of(result, settings, calculator)}
            if result.error is None:
                keep(found[key])
            tell(len(found), len(structures))

        relax_together([structures[k] for k in todo], calculator, settings, finished)
    return [found[key] for key in keys]
