"""Phonons of one structure at several volumes, each in a folder of its own."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from ase import Atoms

from mlcalc.workflows._warnings import WorkflowWarning
from mlcalc.workflows.phonon import PhononResult, phonons


def phonons_at_volumes(
    structures: Sequence[Atoms],
    calculator: Any,
    scales: Sequence[float],
    *,
    folder: str | Path | None,
    progress: Callable[[int, int], None] | None,
    **options: Any,
) -> list[PhononResult]:
    """Run ``phonons`` with the same ``options`` on each structure; warnings say at which volume they arose.

    Args:
        structures: from small to large.
        calculator: an ASE calculator, in double precision.
        scales: their volumes over that of the given structure, for names.
        folder: each volume gets ``volume-0.9800`` in it, where displacements are kept.
        progress: called with (volumes done, volumes in all).
        options: of ``phonons``. The supercell must be given: it must not change with the volume. Nor does the mesh: a
            length becomes numbers of points at the first volume.
    """
    results = []
    for index, (atoms, scale) in enumerate(zip(structures, scales, strict=True)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            out = None if folder is None else Path(folder) / f"volume-{scale:.4f}"
            results.append(phonons(atoms, calculator, out=out, **options))
        # A length would give another number of points from some volume on, and the free energy a step there.
        options["mesh"] = [int(n) for n in cast(Any, results[0].phonopy.mesh).mesh_numbers]
        for item in caught:
            if issubclass(item.category, WorkflowWarning):
                warnings.warn(f"at {scale:.4f} times the volume: {item.message}", item.category, stacklevel=4)
            else:
                warnings.warn_explicit(item.message, item.category, item.filename, item.lineno)
        if progress is not None:
            progress(index + 1, len(structures))
    return results
