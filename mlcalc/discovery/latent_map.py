"""A map of the latent space of the generator `vae`: two dimensions, coloured by a property, as picture and as page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlcalc.crystals.io import LabelledCrystal
from mlcalc.discovery.report import asset, page_json, policy, render
from mlcalc.errors import CodecError, GeneratorError
from mlcalc.figures import new_figure, save_figure
from mlcalc.files import write_atomic
from mlcalc.generators.vae import VaeGenerator

_SCRIPT = "latent.js"


@dataclass(frozen=True)
class LatentMap:
    """Crystals in the plane of the two largest principal components of their latent vectors.

    Attributes:
        label: the property that colours them.
        places: (n, 2) of crystals with that label, and (m, 2) ``designed`` of others laid over them.
        values: (n,) labels, and (m,) ``predicted`` of the property head for the others.
        names: formulas, and ``designed_names``.
        shares: of the variance of the latent vectors along the two directions.
        left_out: crystals without the label, or that the codec does not hold.
    """

    label: str
    places: np.ndarray
    values: np.ndarray
    names: tuple[str, ...]
    designed: np.ndarray
    predicted: np.ndarray
    designed_names: tuple[str, ...]
    shares: tuple[float, float]
    left_out: int


def latent_map(
    crystals: Sequence[LabelledCrystal],
    label: str,
    weights: str | Path | None = None,
    designed: Sequence[Atoms] = (),
) -> LatentMap:
    """Place labelled crystals, and others over them, on a map.

    Args:
        crystals: with their labels.
        label: the one that colours them.
        weights: of the generator `vae`; None takes those that ship.
        designed: other crystals, coloured by what the property head says of them.

    Raises:
        GeneratorError: fewer than three crystals have the label and fit into the codec, or the head does not know it.
    """
    generator = VaeGenerator(weights)
    properties = generator.conditions.properties
    if designed and label not in properties:
        raise GeneratorError(f"unknown property {label!r}; these weights know {', '.join(properties) or 'none'}")
    vectors, values, names = [], [], []
    for item in crystals:
        if label not in item.labels:
            continue
        try:
            vectors.append(generator.latent(item.atoms))
        except CodecError:
            continue  # counted by ``left_out``
        values.append(item.labels[label])
        names.append(item.atoms.get_chemical_formula("metal"))
    if len(vectors) < 3:
        raise GeneratorError(f"{len(vectors)} of {len(crystals)} crystals have {label} and fit; a map needs three")
    table = np.array(vectors)
    centre = table.mean(axis=0)
    _, sizes, directions = np.linalg.svd(table - centre, full_matrices=False)
    # Signs of singular vectors are arbitrary: the largest entry is positive, so that the same data give the same map.
    directions = directions[:2] * np.sign(directions[:2][range(2), np.abs(directions[:2]).argmax(axis=1)])[:, None]
    over = np.array([generator.latent(atoms) for atoms in designed]).reshape(len(designed), table.shape[1])
    predicted = [_predicted(generator, atoms, label) for atoms in designed]
    share = sizes**2 / (sizes**2).sum()
    return LatentMap(
        label,
        (table - centre) @ directions.T,
        np.array(values),
        tuple(names),
        (over - centre) @ directions.T,
        np.array(predicted),
        tuple(atoms.get_chemical_formula("metal") for atoms in designed),
        (float(share[0]), float(share[1])),
        len(crystals) - len(vectors),
    )


def _predicted(generator: VaeGenerator, atoms: Atoms, label: str) -> float:
    return generator.properties_of(atoms)[label]


def draw_latent_map(found: LatentMap, path: str | Path) -> Path:
    """Draw a map; the ending of the name says in which format."""
    figure = new_figure(6.4, 5.2)
    axes = figure.add_subplot()
    low, high = np.percentile(found.values, [1, 99])
    points = axes.scatter(*found.places.T, c=found.values, s=7, cmap="viridis", vmin=low, vmax=high, linewidths=0)
    if len(found.designed):
        axes.scatter(
            *found.designed.T,
            c=found.predicted,
            s=34,
            cmap="viridis",
            vmin=low,
            vmax=high,
            edgecolors="crimson",
            linewidths=1.1,
            label="designed",
        )
        axes.legend(frameon=False)
    figure.colorbar(points, label=found.label)
    for k, set_label in enumerate((axes.set_xlabel, axes.set_ylabel)):
        set_label(f"principal component {k + 1} ({100 * found.shares[k]:.0f} % of the variance)")
    return save_figure(figure, path)


def write_latent_page(found: LatentMap, path: str | Path) -> Path:
    """Write a map as one HTML file that needs nothing from the network; pointing at a crystal names it."""
    low, high = (float(v) for v in np.percentile(found.values, [1, 99]))
    data: dict[str, Any] = {
        "label": found.label,
        "low": low,
        "high": high,
        "points": [[*_short(xy), round(float(v), 4), n] for xy, v, n in _rows(found.places, found.values, found.names)],
        "designed": [
            [*_short(xy), round(float(v), 4), n]
            for xy, v, n in _rows(found.designed, found.predicted, found.designed_names)
        ],
    }
    script = asset(_SCRIPT)
    values = {
        "map": found,
        "data": page_json(data),
        "script": script,
        "policy": policy([script]),
        "low": low,
        "high": high,
    }
    path = Path(path)
    write_atomic(path, render("latent.html.j2", values))
    return path


def _rows(places: np.ndarray, values: np.ndarray, names: tuple[str, ...]) -> Any:
    return zip(places, values, names, strict=True)


def _short(place: np.ndarray) -> list[float]:
    return [round(float(x), 3) for x in place]
