"""What is worth a relaxation: scores that can be had without one, and the best by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, isfinite

#: Scores by which candidates can be ranked before relaxation.
RANKINGS = ("energy", "likelihood", "stability")


def is_known(score: float | None) -> bool:
    """Return whether there is a number."""
    return score is not None and isfinite(score)


def lowest_first(pool: Sequence[int], scores: Mapping[int, float | None] | Sequence[float | None]) -> list[int]:
    """Return candidates by score, small is good; those without one (None or NaN) last, in their order."""
    known = [k for k in pool if is_known(scores[k])]
    return sorted(known, key=lambda k: (scores[k], k)) + [k for k in pool if not is_known(scores[k])]


def likelihood_score(log_probability: float | None, n_atoms: int) -> float | None:
    """Return minus the generator's log-probability for each atom; None where there is none."""
    return None if log_probability is None else -log_probability / n_atoms


def how_many(best: float, among: int) -> int:
    """Return how many are the best: a fraction below 1 of all, rounded up, or a number."""
    return min(among, ceil(best * among) if best < 1 else int(best))
