"""Radial distribution function of a periodic trajectory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlcalc.errors import WorkflowError
from mlcalc.records import jsonable
from mlcalc.workflows._structures import as_atoms, require_periodic


@dataclass(frozen=True)
class RDF:
    """Radial distribution function.

    Attributes:
        r_ang: (B,) middles of the bins, Å.
        g: (B,) g(r), 1 for an ideal gas.
        coordination: (B,) mean number of neighbours closer than the upper edge of each bin.
        pair: elements (centre, neighbour), or None for all atoms.
        frames: structures averaged over.
    """

    r_ang: NDArray[np.float64]
    g: NDArray[np.float64]
    coordination: NDArray[np.float64]
    pair: tuple[str, str] | None
    frames: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {name: jsonable(getattr(self, name)) for name in ("r_ang", "g", "coordination", "pair", "frames")}


def radial_distribution(
    frames: Iterable[Any], *, r_max: float = 6.0, bins: int = 120, pair: tuple[str, str] | None = None
) -> RDF:
    """Average g(r) = n(r) / (ρ · shell volume) over frames; images are counted, so ``r_max`` may exceed half a cell.

    Args:
        frames: ASE Atoms or pymatgen Structures, periodic in three directions.
        r_max: largest distance, Å.
        bins: number of equal bins from 0 to ``r_max``.
        pair: (centre, neighbour) elements; None for all.

    Raises:
        WorkflowError: no frames, not a structure, not periodic, or an element of ``pair`` that is not there.
    """
    from mlcalc.graphs import neighbor_list  # here, because it loads torch

    edges = np.linspace(0.0, r_max, bins + 1)
    shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    g = np.zeros(bins)
    neighbours = np.zeros(bins)
    count = 0
    for frame in frames:
        atoms = as_atoms(frame)
        require_periodic(atoms, "a radial distribution function")
        symbols = np.array(atoms.get_chemical_symbols())
        centre = np.ones(len(atoms), bool) if pair is None else symbols == pair[0]
        other = np.ones(len(atoms), bool) if pair is None else symbols == pair[1]
        if not (centre.any() and other.any()):
            raise WorkflowError(f"no atoms for the pair {pair} in {atoms.get_chemical_formula()}")
        (i, j), shifts = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, r_max)
        keep = centre[i] & other[j]
        vectors = atoms.positions[j] + shifts @ atoms.cell.array - atoms.positions[i]
        histogram = np.histogram(np.linalg.norm(vectors[keep], axis=1), bins=edges)[0] / centre.sum()
        neighbours += histogram
        g += histogram * atoms.get_volume() / (other.sum() * shells)
        count += 1
    if count == 0:
        raise WorkflowError("a radial distribution function needs at least one frame")
    return RDF(0.5 * (edges[1:] + edges[:-1]), g / count, np.cumsum(neighbours / count), pair, count)
