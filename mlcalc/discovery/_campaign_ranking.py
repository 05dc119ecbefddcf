"""The stage of a campaign that chooses candidates before any is relaxed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ase import Atoms

from mlcalc.discovery._ranking import how_many, is_known, likelihood_score, lowest_first
from mlcalc.discovery.references import References
from mlcalc.discovery.stability import StabilityModel
from mlcalc.errors import WorkflowError
from mlcalc.generators import Provenance

#: Of candidates; small is good, None is not known.
Scores = dict[int, float | None]

# Why nothing could be said of any candidate.
_UNRANKED = {
    "energy": "the calculator fails on all of them, or an element has no reference",
    "stability": "the learned score knows none of their elements",
}


def energy_scores(pool: Sequence[Atoms], points: Mapping[int, dict[str, Any]], phases: References) -> Scores:
    """Return how far above the hull candidates lie as they are, eV per atom, from the records of their energies."""
    hull = phases.hull()

    def score(index: int, record: dict[str, Any]) -> float | None:
        if record["status"] != "ok":
            return None
        return hull.energy_above_hull(pool[index], record["enthalpy_ev"] / len(pool[index]), phases.scale)

    return {index: score(index, record) for index, record in points.items()}


def likelihood_scores(pool: Sequence[Atoms], origins: Sequence[Provenance], candidates: Sequence[int]) -> Scores:
    """Return minus the log-probability for each atom.

    Raises:
        WorkflowError: a candidate has none, so that its place would be a matter of chance.
    """
    missing = [i for i in candidates if origins[i].log_probability is None]
    if missing:
        raise WorkflowError(
            f"{len(missing)} of {len(candidates)} candidates have no log-probability (the first is candidate "
            f"{missing[0]}, of {origins[missing[0]].generator}): a likelihood ranks the candidates of a generator that "
            "knows one, as wyckoff does; rank by energy or stability"
        )
    return {i: likelihood_score(origins[i].log_probability, len(pool[i])) for i in candidates}


def stability_scores(pool: Sequence[Atoms], candidates: Sequence[int], references: Sequence[Atoms]) -> Scores:
    """Return predicted energies above the hull of what is predicted of references, as they are; eV per atom.

    Raises:
        ModelFileError: the weights cannot be read.
    """
    model = StabilityModel.load()
    found = model.above([pool[i] for i in candidates], model.hulls(references))
    return dict(zip(candidates, found, strict=True))


def ranked_records(by: str, scores: Scores, candidates: Sequence[int], best: float) -> list[dict[str, Any]]:
    """Return a record a candidate: its score and place, and whether it is among the best.

    Args:
        by: name of the score.
        scores: of the candidates.
        candidates: those that may be relaxed.
        best: share of them below 1, or number, see ``how_many``.

    Raises:
        WorkflowError: nothing is known of any.
    """
    if candidates and not any(is_known(scores[i]) for i in candidates):
        raise WorkflowError(
            f"no candidate can be ranked by {by}: {_UNRANKED[by]}; the same command tries again, "
            "another ranking, or none, wants a folder of its own"
        )
    order, records = lowest_first(candidates, scores), []
    count = how_many(best, len(order))
    for place, index in enumerate(order, start=1):
        score = scores[index]
        told: dict[str, Any] = {"index": index, "status": "ok", "by": by, "score": score, "place": place}
        if place > count:
            said = "no score" if score is None else f"score {score:.4g}"
            told |= {"status": "failed", "reason": f"not among the best {count} by {by}"}
            told["message"] = f"{said}, place {place} of {len(order)}"
        records.append(told)
    return records
