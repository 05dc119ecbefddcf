"""What the two ends of a path must have in common, checked before any force is computed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from ase import Atoms
from ase.build.rotate import rotation_matrix_from_points
from ase.constraints import FixAtoms
from ase.geometry import find_mic
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from mlcalc.errors import WorkflowError
from mlcalc.workflows._structures import as_atoms

ORDERS = ("check", "match", "keep")
SAME = 0.05  # Å: ends closer than this in every atom are the same structure
SHIFT = 0.3  # Å: most atoms moved together by more than this is a shift of the whole structure


def match_order(initial: Any, final: Any) -> Atoms:
    """Return ``final`` with its atoms in the order of ``initial``: the order with the shortest squared path.

    Args:
        initial: ASE Atoms or pymatgen Structure.
        final: the same atoms in the same cell, in any order.

    Raises:
        WorkflowError: another composition or cell.
    """
    first, last = as_atoms(initial), as_atoms(final)
    _same_composition(first, last)
    _same_cell(first, last)
    return last[_assignment(first, last)]


def matched_ends(initial: Any, final: Any, order: str = "check") -> tuple[Atoms, Atoms]:
    """Return both ends as Atoms, the final one moved by lattice vectors so that each atom takes its shortest way.

    Args:
        initial: ASE Atoms or pymatgen Structure.
        final: the same.
        order: ``"check"`` refuses ends whose atoms seem to be numbered differently, ``"match"`` renumbers the final
            one (``match_order``), ``"keep"`` takes them as they are.

    Raises:
        WorkflowError: ends that cannot, or should not, be joined by a path; it says which and what to do.
    """
    if order not in ORDERS:
        raise WorkflowError(f"unknown order {order!r}: choose from {', '.join(ORDERS)}")
    first, last = as_atoms(initial), as_atoms(final)
    _same_composition(first, last)
    _same_cell(first, last)
    if order == "match":
        last = last[_assignment(first, last)]
    elif not np.array_equal(first.numbers, last.numbers):
        where = int(np.flatnonzero(first.numbers != last.numbers)[0])
        raise WorkflowError(
            f"the end points order their atoms differently: atom {where} is {first.symbols[where]} in the initial and "
            f"{last.symbols[where]} in the final structure. {_REORDER}"
        )
    fixed = _fixed_atoms(first, last)
    steps = displacement(first, last)
    if order == "check":
        _refuse_swaps(first, last, steps)
    if len(fixed) and np.abs(steps[fixed]).max() > 1e-3:
        moved = fixed[np.abs(steps[fixed]).max(axis=1) > 1e-3].tolist()
        raise WorkflowError(f"atoms {moved} are fixed, but lie elsewhere in the final structure: no path can move them")
    refuse_same(steps)
    if not len(fixed) and len(first) > 1:
        _refuse_rigid_motion(first, last, steps)
    last.positions = first.positions + steps
    last.set_constraint(first.constraints)
    return first, last


def displacement(first: Atoms, last: Atoms) -> NDArray[np.float64]:
    """Return (N, 3) shortest vectors from the atoms of ``first`` to those of ``last``, Å."""
    return np.asarray(find_mic(last.positions - first.positions, first.cell, first.pbc)[0])


def refuse_same(steps: NDArray[np.float64], why: str = "") -> None:
    """Raise WorkflowError if no atom goes anywhere."""
    largest = float(np.linalg.norm(steps, axis=1).max())
    if largest < SAME:
        raise WorkflowError(
            f"the end points are the same structure{why}: no atom is more than {largest:.2g} Å away from where it was"
        )


_REORDER = "Use order='match' (--order match), or mlcalc.workflows.match_order(initial, final)"


def _same_composition(first: Atoms, last: Atoms) -> None:
    ours, theirs = Counter(first.get_chemical_symbols()), Counter(last.get_chemical_symbols())
    if ours != theirs:
        names = sorted(name for name in {*ours, *theirs} if ours[name] != theirs[name])
        detail = ", ".join(f"{name} {ours[name]} and {theirs[name]}" for name in names)
        raise WorkflowError(f"the end points hold different atoms (initial and final): {detail}")


def _same_cell(first: Atoms, last: Atoms) -> None:
    if not np.array_equal(first.pbc, last.pbc):
        raise WorkflowError(f"the end points differ in pbc: {first.pbc.tolist()} and {last.pbc.tolist()}")
    change = np.abs(first.cell.array - last.cell.array)[first.pbc]
    if change.size and change.max() > 1e-4:
        turned = np.allclose(first.cell.cellpar(), last.cell.cellpar(), atol=1e-4)
        raise WorkflowError(
            f"the end points differ in their cells, by up to {change.max():.3g} Å"
            + (
                ": same lengths and angles, so one is rotated; turn it back (Atoms.set_cell with scale_atoms=True)"
                * turned
            )
            + ("" if turned else ". Relax both with the same fixed cell: a path at constant volume has one cell")
        )
    last.cell = first.cell


def _fixed_atoms(first: Atoms, last: Atoms) -> NDArray[np.int64]:
    for atoms, name in ((first, "initial"), (last, "final")):
        for item in atoms.constraints:
            if not isinstance(item, FixAtoms):
                raise WorkflowError(
                    f"the {name} structure has a constraint {type(item).__name__}: a path takes FixAtoms only"
                )
    ours, theirs = ({int(i) for item in atoms.constraints for i in item.index} for atoms in (first, last))
    if theirs and ours != theirs:
        raise WorkflowError(f"atoms {sorted(ours ^ theirs)} are fixed in one end point and free in the other")
    return np.array(sorted(ours), dtype=np.int64)


def _assignment(first: Atoms, last: Atoms) -> NDArray[np.int64]:
    """For each atom of ``first`` the index in ``last`` of the atom that it becomes."""
    order = np.empty(len(first), dtype=np.int64)
    for number in np.unique(first.numbers):
        rows, columns = np.flatnonzero(first.numbers == number), np.flatnonzero(last.numbers == number)
        between = (last.positions[columns][None] - first.positions[rows][:, None]).reshape(-1, 3)
        squared = (find_mic(between, first.cell, first.pbc)[0] ** 2).sum(axis=1).reshape(len(rows), -1)
        order[rows] = columns[linear_sum_assignment(squared)[1]]
    return order


def _refuse_swaps(first: Atoms, last: Atoms, steps: NDArray[np.float64]) -> None:
    order = _assignment(first, last)
    shortest = (displacement(first, last[order]) ** 2).sum()
    swapped = np.flatnonzero(order != np.arange(len(first)))
    if len(swapped) and shortest < 0.5 * (steps**2).sum():
        raise WorkflowError(
            f"atoms {swapped[:8].tolist()}{' …' if len(swapped) > 8 else ''} seem to be numbered differently in the "
            f"end points: in another order the squared path is {shortest:.3g} instead of {(steps**2).sum():.3g} Å². "
            f"{_REORDER}; if atoms are to change places, order='keep'"
        )


def _refuse_rigid_motion(first: Atoms, last: Atoms, steps: NDArray[np.float64]) -> None:
    shift = np.median(steps, axis=0)
    together = np.linalg.norm(steps - shift, axis=1) < 0.3 * SHIFT
    if first.pbc.any():
        if np.linalg.norm(shift) > SHIFT and together.mean() > 0.5:
            what = "the same structure, shifted" if together.all() else "shifted against each other"
            raise WorkflowError(
                f"the end points are {what}: {together.sum()} of {len(first)} atoms move together by "
                f"{np.round(shift, 3).tolist()} Å. Subtract that from the final positions"
            )
        return
    # Without periodicity turning and moving cost nothing, and must not be part of the path.
    ours, theirs = (atoms.positions - atoms.positions.mean(axis=0) for atoms in (first, last))
    turned = theirs @ rotation_matrix_from_points(theirs.T, ours.T).T
    before, after = (float(np.sqrt((item**2).sum(axis=1).mean())) for item in (steps, turned - ours))
    if np.linalg.norm(turned - ours, axis=1).max() < SAME or after < before - SHIFT:
        raise WorkflowError(
            f"the final structure is rotated or moved as a whole: after superposition its atoms are {after:.3g} "
            f"instead of {before:.3g} Å away (root mean square). Superpose it first: "
            "ase.build.minimize_rotation_and_translation(initial, final)"
        )
