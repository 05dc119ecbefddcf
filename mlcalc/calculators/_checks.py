"""What is wrong with a structure, or with the numbers a potential gave for it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray

from mlcalc.errors import (
    ExtrapolationError,
    ExtrapolationWarning,
    MlcalcError,
    NonFiniteError,
    OverlapError,
    SettingsError,
    UnknownElementError,
)
from mlcalc.graphs.neighbors import name_atoms
from mlcalc.potentials.base import PotentialInfo

# Nuclei are never this close; the repulsion of a potential is meaningless there.
OVERLAP = 0.1
# Below this fraction of the closest pair in the training data a network extrapolates.
CLOSE = 0.8


def check_mixture(numbers: NDArray[np.int64], info: PotentialInfo) -> None:
    """Raise ``UnknownElementError`` if the elements are known but not together (atoms named)."""
    present = {chemical_symbols[z] for z in np.unique(numbers)}
    if info.element_sets and not any(present <= set(group) for group in info.element_sets):
        who = ", ".join(
            f"{symbol} ({name_atoms(np.nonzero(numbers == atomic_numbers[symbol])[0])})" for symbol in sorted(present)
        )
        known = "; ".join(", ".join(group) for group in info.element_sets)
        raise UnknownElementError(
            f"{info.name or 'the potential'} does not know {who} together; it knows these sets of elements: {known}"
        )


def check_distances(
    edge_index: NDArray[np.int64], squared: NDArray[np.float64], info: PotentialInfo, warn: bool
) -> bool:
    """Return whether some pair is closer than ``CLOSE`` × the closest of the training data; if so, and asked, warn.

    Args:
        edge_index: (2, E).
        squared: (E,) squared lengths, Å².
        info: of the potential.
        warn: issue the warning.

    Raises:
        OverlapError: a pair is closer than ``OVERLAP`` (pairs named).
    """
    shortest = squared.min(initial=np.inf)
    if shortest < OVERLAP**2:
        raise OverlapError(
            f"atoms on top of each other: {_pairs(edge_index, squared, OVERLAP)}. Remove duplicates (are atoms given "
            "twice across a periodic boundary?) or check the units of the positions (Å)"
        )
    limit = CLOSE * info.min_distance
    if shortest >= limit**2:
        return False
    if warn:
        warnings.warn(
            f"atoms closer than {limit:.2f} Å, {CLOSE:g} of the shortest distance the potential was trained on; "
            f"energies and forces are extrapolations: {_pairs(edge_index, squared, limit)}",
            stacklevel=4,
        )
    return True


def read_threshold(name: str, value: Any) -> float | None:
    """Return a threshold of grades or deviations, None for none.

    Raises:
        SettingsError: if it is not a positive number.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not value > 0:
        raise SettingsError(f"{name} must be a positive number or None, not {value!r}")
    return float(value)


def check_grades(
    grades: NDArray[np.float64], warn_above: float | None, stop_above: float | None, info: PotentialInfo, warn: bool
) -> bool:
    """Return whether some extrapolation grade (N,) is above ``warn_above``; if so, and asked, warn.

    Raises:
        ExtrapolationError: a grade is above ``stop_above`` (atoms named).
    """
    name = info.name or "the potential"
    return _check_atoms(
        grades,
        (warn_above, stop_above),
        lambda limit, atoms: f"extrapolation grades above {limit:g}: {atoms}",
        lambda limit, atoms: (
            f"{name} extrapolates (grades above {limit:g}; 1 is the farthest in training): {atoms}; do not trust "
            "energies and forces"
        ),
        warn,
    )


def check_deviations(
    deviations: NDArray[np.float64], warn_above: float | None, stop_above: float | None, warn: bool
) -> bool:
    """Return whether some force deviation (N,), eV/Å, is above ``warn_above``; if so, and asked, warn.

    Raises:
        ExtrapolationError: one is above ``stop_above`` (atoms named).
    """

    def text(limit: float, atoms: str) -> str:
        return f"the members of the committee disagree (force deviations above {limit:g} eV/Å): {atoms}"

    return _check_atoms(
        deviations,
        (warn_above, stop_above),
        text,
        lambda limit, atoms: text(limit, atoms) + "; do not trust energies and forces",
        warn,
    )


def _check_atoms(
    values: NDArray[np.float64],
    limits: tuple[float | None, float | None],
    error: Callable[[float, str], str],
    warning: Callable[[float, str], str],
    warn: bool,
) -> bool:
    warn_above, stop_above = (np.inf if limit is None else limit for limit in limits)
    largest = values.max(initial=0.0)
    if largest > stop_above:
        raise ExtrapolationError(error(stop_above, _worst(values, stop_above)))
    if largest <= warn_above:
        return False
    if warn:
        warnings.warn(warning(warn_above, _worst(values, warn_above)), ExtrapolationWarning, stacklevel=6)
    return True


def _worst(values: NDArray[np.float64], limit: float, most: int = 5) -> str:
    above = np.flatnonzero(values > limit)
    worst = above[np.argsort(-values[above], kind="stable")][:most]
    named = ", ".join(f"atom {k} ({values[k]:.2f})" for k in worst)
    return named + (f" and {len(above) - most} more" if len(above) > most else "")


def _pairs(edge_index: NDArray[np.int64], squared: NDArray[np.float64], limit: float, most: int = 5) -> str:
    centre, neighbour = edge_index
    short = np.nonzero((squared < limit**2) & (centre <= neighbour))[0]
    found: dict[tuple[int, int], float] = {}
    for edge in short[np.argsort(squared[short], kind="stable")]:
        found.setdefault((int(centre[edge]), int(neighbour[edge])), float(np.sqrt(squared[edge])))
    named = [
        f"atom {i} and its own image ({r:.3f} Å)" if i == j else f"atoms {i} and {j} ({r:.3f} Å)"
        for (i, j), r in list(found.items())[:most]
    ]
    return ", ".join(named) + (f" and {len(found) - most} more pairs" if len(found) > most else "")


def check_finite(name: str, values: NDArray[np.float64]) -> None:
    """Raise ``NonFiniteError`` if rows of ``values`` (N,) or (N, 3) are NaN or infinite (atoms named)."""
    bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1) if len(values) else np.zeros(0, dtype=bool)
    if bad.any():
        raise NonFiniteError(
            f"the potential gave NaN or infinite {name} for {name_atoms(np.nonzero(bad)[0])}: the structure is far "
            "from its training data, or its weights are damaged"
        )


def read_inputs(info: PotentialInfo, values: Mapping[str, Any]) -> dict[str, float]:
    """Return the per-structure inputs a potential declares, from ``atoms.info``.

    Raises:
        MlcalcError: if one is missing or not a finite number.
    """
    inputs = {}
    for name in info.inputs:
        try:
            inputs[name] = float(values[name])
        except KeyError:
            raise MlcalcError(f"the potential needs {name!r}: set atoms.info[{name!r}]") from None
        except (TypeError, ValueError):
            raise MlcalcError(f"atoms.info[{name!r}] must be one number, got {values[name]!r}") from None
        if not np.isfinite(inputs[name]):
            raise MlcalcError(f"atoms.info[{name!r}] must be finite, got {values[name]!r}")
    return inputs
