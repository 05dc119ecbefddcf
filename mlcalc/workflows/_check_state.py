"""What a calculator remembers: results must be those of the atoms as they are now, and atoms stay untouched."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms

from mlcalc.workflows._check_context import Context, Deviation, Numbers, largest, read_numbers, reset


def state(context: Context) -> list[Deviation]:
    """Change atoms in place and compare with a calculator that has seen nothing else."""
    name, original = context.main()
    noise = context.noise[name]
    reset(context.calculator)
    atoms = original.copy()
    atoms.calc = context.calculator
    read_numbers(atoms)
    out: list[Deviation] = []
    for what, change in _changes(atoms):
        change(atoms)
        out += context.differences(f"after {what}", _ask(context, atoms), _fresh(context, atoms), noise)
    other = context.cluster.copy()
    other.calc = context.calculator
    other_noise = context.noise["cluster"]
    out += context.differences("of another structure", _ask(context, other), _fresh(context, other), other_noise)
    out += context.differences("of the first again", _ask(context, atoms), _fresh(context, atoms), noise)
    atoms.get_forces()[:] = 0.0
    out += context.differences("after writing into the forces", _ask(context, atoms), _fresh(context, atoms), noise)
    return out


def order_of_requests(context: Context) -> list[Deviation]:
    """Ask for stress and forces before the energy, and the other way round; twice."""
    name, original = context.main()
    first = context.numbers(original)
    reset(context.calculator)
    atoms = original.copy()
    atoms.calc = context.calculator
    stress = None
    if first.stress is not None:
        stress = np.array(atoms.get_stress())
    forces = np.array(atoms.get_forces(apply_constraint=False))
    found = Numbers(read_numbers(atoms).energy, forces, stress)
    out = context.differences("asked in another order", found, first, context.noise[name])
    return out + context.differences("a second time", context.numbers(original), first, context.noise[name])


def untouched(context: Context) -> list[Deviation]:
    """Compare the atoms before and after."""
    out = []
    for name, original in context.structures().items():
        atoms = original.copy()
        atoms.info["note"] = "kept"
        before = atoms.copy()
        reset(context.calculator)
        atoms.calc = context.calculator
        read_numbers(atoms)
        moved = largest(atoms.positions - before.positions) + largest(atoms.cell.array - before.cell.array)
        out.append(Deviation(f"positions and cell, {name}", moved, "Å", 0.0))
        changed = float((atoms.numbers != before.numbers).sum() + (atoms.pbc != before.pbc).sum())
        changed += sum(not _same(atoms.arrays.get(key), value) for key, value in before.arrays.items())
        changed += float(set(atoms.arrays) != set(before.arrays)) + float(atoms.info != before.info)
        out.append(Deviation(f"numbers, pbc, arrays, info, {name}", changed, "changes", 0.0))
    return out


def _changes(atoms: Atoms) -> list[tuple[str, Callable[[Atoms], None]]]:
    """Return changes in place, the small ones too: a cache with a tolerance is wrong by force times tolerance."""

    def move(distance: float) -> Callable[[Atoms], None]:
        def change(atoms: Atoms) -> None:
            atoms.positions[0] += [distance, -0.7 * distance, 0.4 * distance]

        return change

    def strain(atoms: Atoms) -> None:
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.01 * np.diag([1.0, -0.5, 0.7])), scale_atoms=True)

    def cell_alone(atoms: Atoms) -> None:
        atoms.cell[2] *= 1.01

    def swap(atoms: Atoms) -> None:
        atoms.numbers = atoms.numbers[::-1].copy()

    def everything(atoms: Atoms) -> None:
        atoms.positions += 0.05 * np.sin(np.arange(atoms.positions.size)).reshape(-1, 3)

    found = [("moving an atom by 0.05 Å", move(0.05)), ("moving it by 1e-4 Å", move(1e-4))]
    if atoms.pbc.any():
        found += [("straining the cell", strain), ("changing the cell under fixed positions", cell_alone)]
    if (atoms.numbers != atoms.numbers[::-1]).any():
        found.append(("exchanging elements", swap))
    return [*found, ("moving all atoms", everything)]


def _ask(context: Context, atoms: Atoms) -> Numbers:
    """Ask without a reset, as a user's script does."""
    context.evaluations += 1
    context.tick()
    return read_numbers(atoms)


def _fresh(context: Context, atoms: Atoms) -> Numbers:
    copy = atoms.copy()
    copy.calc = context.fresh_calculator()
    if context.pristine is not None:
        return read_numbers(copy)
    # The calculator under test stands in for a fresh one: let it see the asked atoms again afterwards.
    numbers = read_numbers(copy)
    read_numbers(atoms)
    return numbers


def _same(found: object, wanted: np.ndarray) -> bool:
    return isinstance(found, np.ndarray) and found.shape == wanted.shape and bool((found == wanted).all())
