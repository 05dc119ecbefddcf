"""Fitting the extrapolation grade to a training set, and comparing it with true errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from mlcalc.errors import TrainingError
from mlcalc.graphs.graph import Graph
from mlcalc.potentials.neural import NeuralPotential
from mlcalc.potentials.registry import build
from mlcalc.training.metrics import Predictions

# Directions in which descriptors hardly vary are not blown up beyond this share of the variance.
_FLOOR = 1e-6
_MOST_ATOMS = 200_000  # per element; more are thinned out evenly
_BINS = 8


def fit_grade(potential: NeuralPotential, graphs: Iterable[Graph], landmarks: int = 64) -> NeuralPotential:
    """Return the potential with an extrapolation grade fitted to its training set; the potential given is unchanged.

    See ``mlcalc.potentials.grade.ExtrapolationGrade`` for the method.

    Args:
        potential: trained; a grade it has already is replaced.
        graphs: training structures, in the order of its elements.
        landmarks: training environments to keep for each element.

    Raises:
        TrainingError: an element has no atom in the training set, or the network has no descriptors.
    """
    if not getattr(potential.network, "n_descriptors", 0):
        raise TrainingError(f"{type(potential.network).__name__} has no descriptors for an extrapolation grade")
    config = {**potential.config, "grade": landmarks}
    info = dataclasses.replace(potential.info, outputs=("grade",))
    weights = {k: v for k, v in potential.state_dict().items() if not k.startswith("grade.")}
    exact = build({**config, "grade": 0}, info, torch.float64)
    exact.load_state_dict(weights)
    found = _descriptors(exact, graphs)
    missing = [symbol for symbol, points in zip(info.elements, found, strict=True) if not len(points)]
    if missing:
        raise TrainingError(f"no atoms of {', '.join(missing)} to fit an extrapolation grade to")

    shift = np.concatenate(found).mean(axis=0)
    metric = _whitening(found)
    chosen, radii = [], []
    for points in found:
        landmark, radius = _farthest_points((points - shift) @ metric, landmarks)
        chosen.append(landmark)
        radii.append(radius)

    result = build(config, info, potential.dtype)
    result.load_state_dict(weights, strict=False)
    grade = result.grade
    assert grade is not None
    for buffer, values in (
        (grade.shift, shift),
        (grade.metric, metric),
        (grade.landmarks, np.stack(chosen)),
        (grade.radius, np.array(radii)),
    ):
        buffer.copy_(torch.tensor(values))
    return result.eval()


def _descriptors(potential: NeuralPotential, graphs: Iterable[Graph]) -> list[NDArray[np.float64]]:
    """Return (atoms, D) for each element."""
    found: list[list[NDArray[np.float64]]] = [[] for _ in potential.info.elements]
    for graph in graphs:
        extra = {"batch": graph.batch, "descriptors": torch.empty(0), **graph.tables}
        with torch.no_grad():
            potential.network(graph.species, graph.edge_index, graph.edge_vectors.double(), extra)
        values = extra["descriptors"].numpy()
        for k, mine in enumerate(found):
            mine.append(values[graph.species.numpy() == k])
    joined = [np.concatenate(mine) if mine else np.zeros((0, 1)) for mine in found]
    return [points[:: 1 + len(points) // _MOST_ATOMS] for points in joined]


def _whitening(found: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return W (D, D) so that points @ W have unit covariance within elements."""
    centred = np.concatenate([points - points.mean(axis=0) for points in found])
    deviation = centred.std(axis=0)
    deviation[deviation < 1e-9 * max(float(deviation.max()), 1e-300)] = 1.0  # constant: tells nothing
    scaled = centred / deviation
    values, vectors = np.linalg.eigh(scaled.T @ scaled / max(1, len(scaled)))
    return (vectors / np.sqrt(np.maximum(values, _FLOOR))) / deviation[:, None]


def _farthest_points(points: NDArray[np.float64], number: int) -> tuple[NDArray[np.float64], float]:
    """Return ``number`` points, each the farthest from those before, and how far the others lie from them at most."""
    chosen = [int(np.square(points - points.mean(axis=0)).sum(axis=1).argmin())]
    squares = np.square(points - points[chosen[0]]).sum(axis=1)
    while len(chosen) < number:
        chosen.append(int(squares.argmax()))
        squares = np.minimum(squares, np.square(points - points[chosen[-1]]).sum(axis=1))
    radius = float(np.sqrt(squares.max()))
    if radius < 1e-6:  # fewer different environments than landmarks: how far apart they are must do
        spread = np.sqrt(np.square(points - points.mean(axis=0)).sum(axis=1).max())
        radius = float(spread) if spread > 1e-6 else 1.0
    return points[chosen], radius


def calibration(predictions: Predictions) -> dict[str, Any] | None:
    """Return how grades go with true force errors, or None without grades.

    Returns:
        ``rank_correlation`` (Spearman) of grade and force error over atoms, and ``rank_correlation_of_frames`` of the
        largest grade and the RMS error of frames; ``largest_grade``; ``share_above_1`` of atoms; and in bins of equally
        many atoms ``grade`` (median) and ``forces_rmse_ev_per_ang`` (over components).
    """
    if predictions.grades is None:
        return None
    grades, squares = grades_and_errors(predictions)
    frames = [
        (float(grade.max()), float(np.square(found - item.forces).mean()))
        for grade, found, item in zip(predictions.grades, predictions.forces, predictions.data, strict=True)
        if len(grade)
    ]
    order = np.argsort(grades)
    bins = [part for part in np.array_split(order, _BINS) if len(part)]
    return {
        "rank_correlation": _rank_correlation(grades, squares),
        "rank_correlation_of_frames": _rank_correlation(*np.array(frames).T),
        "largest_grade": float(grades.max()),
        "share_above_1": float((grades > 1.0).mean()),
        "grade": [float(np.median(grades[part])) for part in bins],
        "forces_rmse_ev_per_ang": [float(np.sqrt(squares[part].mean())) for part in bins],
    }


def grades_and_errors(predictions: Predictions) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return for every atom its grade and the mean square error of its force components, (eV/Å)²."""
    assert predictions.grades is not None
    squares = [
        np.square(found - item.forces).mean(axis=1)
        for found, item in zip(predictions.forces, predictions.data, strict=True)
    ]
    return np.concatenate(predictions.grades), np.concatenate(squares)


def _rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(spearmanr(a, b)[0])
