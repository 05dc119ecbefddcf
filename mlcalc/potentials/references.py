"""Per-element reference energies by linear least squares over compositions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def fit_reference_energies(
    compositions: NDArray[np.float64], energies: NDArray[np.float64], elements: Sequence[str]
) -> NDArray[np.float64]:
    """Return the energies per atom of each element that best add up to the structures' energies.

    Each structure's residual is weighted by one over its number of atoms, so that large cells do not decide alone.
    Where compositions cannot tell elements apart (a single stoichiometry), the solution of smallest norm is taken: it
    predicts those compositions equally well, but its single values mean nothing.

    Args:
        compositions: (S, K) number of atoms of each element in each structure.
        energies: (S,) total energies in eV.
        elements: K symbols, for messages.

    Returns:
        (K,) eV per atom.

    Raises:
        ValueError: if shapes disagree, there is nothing to fit, a number is not finite, a structure has no atoms, or
            an element occurs in no structure.
    """
    counts = np.asarray(compositions, dtype=np.float64)
    totals = np.asarray(energies, dtype=np.float64)
    if counts.ndim != 2 or totals.shape != counts.shape[:1] or counts.shape[1] != len(elements):
        raise ValueError(
            f"compositions {counts.shape}, energies {totals.shape} and {len(elements)} elements do not match"
        )
    if not len(totals):
        raise ValueError("no structures to fit reference energies to")
    if not (np.isfinite(counts).all() and np.isfinite(totals).all()):
        bad = np.flatnonzero(~(np.isfinite(counts).all(axis=1) & np.isfinite(totals)))
        raise ValueError(f"energies or compositions are not finite in structures {bad[:10].tolist()}")
    atoms = counts.sum(axis=1)
    if (atoms <= 0).any():
        raise ValueError(f"structures without atoms: {np.flatnonzero(atoms <= 0)[:10].tolist()}")
    present = np.any(counts > 0, axis=0)
    missing = [symbol for k, symbol in enumerate(elements) if not present[k]]
    if missing:
        raise ValueError(
            f"no structure contains {', '.join(missing)}: its reference energy cannot be fitted; "
            "leave the element out or give its energy"
        )
    return np.linalg.lstsq(counts / atoms[:, None], totals / atoms, rcond=None)[0]
