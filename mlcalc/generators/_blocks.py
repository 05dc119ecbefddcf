"""Candidates in blocks: what generators with a network share of drawing, attempts, and giving up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from mlcalc.errors import GeneratorError
from mlcalc.generators.base import Candidate

#: Candidates drawn together. Part of what a seed means: results of a batch depend on its size in the last digits.
BLOCK = 64


@dataclass
class Tried:
    """What became of one candidate's attempts: the candidate, or None, and how many failed for which reason."""

    candidate: Candidate | None = None
    failed: Counter[str] = field(default_factory=Counter)


def sources(seed: int, start: int) -> list[np.random.Generator]:
    """Return a source of randomness for each candidate of the block that begins at ``start``."""
    return [np.random.default_rng([seed, start + k]) for k in range(BLOCK)]


def check_request(n: int, seed: int) -> None:
    """Raise GeneratorError where a number of candidates or a seed makes no sense."""
    if n < 0 or seed < 0:
        raise GeneratorError(f"the number of candidates ({n}) and the seed ({seed}) must not be negative")


def in_blocks(
    n: int, seed: int, attempts: int, block: Callable[[int], Sequence[Tried]], advice: str
) -> Iterator[Candidate]:
    """Yield candidates of whole blocks, however many of the last one are wanted.

    Args:
        n: how many.
        seed: for the error.
        attempts: for the error.
        block: gives the block that begins at a number.
        advice: how constraints might be met, for the error.

    Raises:
        GeneratorError: a candidate was not to be had.
    """
    for start in range(0, n, BLOCK):
        for offset, tried in enumerate(block(start)[: n - start]):
            if tried.candidate is None:
                reasons = ", ".join(f"{reason}: {count}" for reason, count in tried.failed.most_common())
                raise GeneratorError(
                    f"candidate {start + offset} (seed {seed}): no crystal in {attempts} attempts ({reasons}); {advice}"
                )
            yield tried.candidate
