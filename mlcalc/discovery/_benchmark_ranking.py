"""What a ranking before relaxation is worth: successes for each relaxation spent on the best part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

from mlcalc.discovery._benchmark_statistics import Interval
from mlcalc.discovery._ranking import is_known, lowest_first
from mlcalc.records import Record


@dataclass(frozen=True)
class Ranking(Record):
    """Relaxations spent on a part of the candidates, and what came of them.

    Attributes:
        by: how the part was chosen.
        relaxations: spent on it.
        successes: share of them that end in a crystal that is relaxed, unique and novel, and metastable where there
            is a hull.
    """

    by: str
    relaxations: int
    successes: Interval


def rankings(
    tried: Sequence[bool],
    new: Sequence[bool],
    successes: Sequence[bool],
    scores: dict[str, Sequence[float | None]],
    keep: float,
    share: Callable[[Sequence[bool], Sequence[int]], Interval],
    groups: Sequence[int],
) -> tuple[Ranking, ...]:
    """Compare relaxing everything, what is new as generated, and the best of that by each score.

    Args:
        tried: whether a candidate was relaxed at all.
        new: whether it was unique and novel before.
        successes: whether it came out well.
        scores: name → of each candidate, small is good; None where unknown, which is last.
        keep: share of new candidates that is relaxed.
        share: hits and groups → share with its interval.
        groups: condition of each candidate.
    """

    def ranking(by: str, chosen: Sequence[int]) -> Ranking:
        return Ranking(by, len(chosen), share([successes[k] for k in chosen], [groups[k] for k in chosen]))

    everyone = [k for k, yes in enumerate(tried) if yes]
    pool = [k for k in everyone if new[k]]
    found = [ranking("all", everyone), ranking("new as generated", pool)]
    count = ceil(keep * len(pool))
    for name, values in scores.items():
        if any(is_known(values[k]) for k in pool):
            found.append(ranking(f"best {100 * keep:.0f} % by {name}", lowest_first(pool, values)[:count]))
    return tuple(found)
