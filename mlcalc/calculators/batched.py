"""Many structures in one evaluation."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Parameters
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from mlcalc.calculators._batch import Batch, BatchValues, Entrant
from mlcalc.calculators._batch_size import BatchSize
from mlcalc.calculators._checks import CLOSE
from mlcalc.calculators._members import Members, Source
from mlcalc.calculators.ase import MLCalculator
from mlcalc.errors import ExtrapolationWarning, MlcalcError, SettingsError
from mlcalc.graphs.neighbors import name_atoms
from mlcalc.potentials.base import Potential, PotentialInfo
from mlcalc.potentials.grade import FAR
from mlcalc.potentials.precision import dtype_name
from mlcalc.records import Record

# Atoms whose neighbour lists ``compute`` holds at a time.
_SLAB = 16_384


@dataclass(frozen=True)
class BatchedResult(Record):
    """What a potential says about one structure.

    Attributes:
        energy_ev: eV; NaN after an error.
        energies_ev: (N,) of the atoms, eV.
        forces_ev_per_ang: (N, 3) eV/Å; None if not asked for.
        stress_ev_per_ang3: (6,) xx, yy, zz, yz, xz, xy, tension positive, eV/Å³; None unless periodic along three axes,
            or if not asked for.
        extrapolation_grades: (N,); None if the potential has none.
        error: class and message of what went wrong; None if nothing did.
    """

    energy_ev: float
    energies_ev: NDArray[np.float64]
    forces_ev_per_ang: NDArray[np.float64] | None
    stress_ev_per_ang3: NDArray[np.float64] | None
    extrapolation_grades: NDArray[np.float64] | None
    error: str | None = None


class BatchedCalculator:
    """A potential, or a committee, for lists of structures of any size and kind, evaluated together as one graph.

    ``BatchedCalculator("mlearn").compute(structures)`` gives energies, forces and stresses; ``mlcalc.workflows.relax``
    takes it with a list of structures. Numbers are those of ``MLCalculator``, up to the order of sums.

    Structures are evaluated in batches of so many edges as are cheapest (on a processor) or as fit into memory (on an
    accelerator). Where memory runs out all the same, the batch is halved, and stays so.

    Args:
        potential: as for ``MLCalculator``; a list is a committee.
        dtype: ``"float64"`` or ``"float32"``; None keeps that of each potential.
        device: where the potential runs.
        skin: of the Verlet lists in relaxations, Å; it only affects speed.
        max_edges: most edges in one evaluation (a single structure may have more); None finds a good number.
        tables: as for ``MLCalculator``.
        grade_warn: warn of structures that hold an atom with a larger extrapolation grade; None does not.

    Attributes:
        parameters: what it was made of, for records.

    Raises:
        ModelFileError: the potential cannot be found or loaded.
        SettingsError: unknown dtype, a skin or a number of edges that is not one.
    """

    def __init__(
        self,
        potential: Source | Sequence[Source],
        dtype: str | torch.dtype | None = "float64",
        device: str | torch.device = "cpu",
        skin: float = 1.0,
        *,
        max_edges: int | None = None,
        tables: bool | None = None,
        grade_warn: float | None = FAR,
    ) -> None:
        self._set_up(Members(potential, dtype, torch.device(device), tables), skin, max_edges, grade_warn)

    @classmethod
    def of(cls, calculator: MLCalculator, max_edges: int | None = None) -> BatchedCalculator:
        """Return a batched calculator with the same potentials, number types and device as an ASE calculator's."""
        made = cls.__new__(cls)
        made._set_up(calculator._members, calculator.verlet.skin, max_edges, calculator.grade_warn)
        return made

    def _set_up(self, members: Members, skin: float, max_edges: int | None, grade_warn: float | None) -> None:
        if not (np.isfinite(skin) and skin >= 0.0):
            raise SettingsError(f"the skin must be a length of at least 0 Å, got {skin}")
        if max_edges is not None and max_edges < 1:
            raise SettingsError(f"max_edges must be at least 1, got {max_edges}; None finds a good number")
        self._members, self.skin, self.grade_warn = members, float(skin), grade_warn
        self._size = BatchSize(max_edges, members.device)
        self.parameters = Parameters(
            potential=members.names[0] if len(members.names) == 1 else members.names,
            dtype=", ".join(dict.fromkeys(dtype_name(dtype) for _, dtype in members.pairs())),
            device=str(members.device),
            skin=self.skin,
            **members.parameters,
        )

    @property
    def potentials(self) -> tuple[Potential, ...]:
        """The members of a committee, or the one potential."""
        return self._members.potentials

    @property
    def info(self) -> PotentialInfo:
        """What the potential declares about itself; of a committee, what holds for its members together."""
        return self._members.info

    @property
    def edges_at_once(self) -> int:
        """The present limit on the edges of one evaluation."""
        return self._size.limit

    def new_batch(self, skin: float | None = None) -> Batch:
        """Return an empty batch of structures that move; what it learns about sizes stays with this calculator."""
        return Batch(self._members, self.skin if skin is None else skin, self._size)

    def compute(self, structures: Sequence[Atoms], *, forces: bool = True, strict: bool = True) -> list[BatchedResult]:
        """Return energy, forces and stress of each structure, in the order given.

        Args:
            structures: any mixture of crystals, slabs, wires and molecules.
            forces: compute forces and stress.
            strict: raise the first error; False puts errors into the results.

        Raises:
            MlcalcError: something is wrong with a structure (its number and the reason are given).

        Warns:
            ExtrapolationWarning: atoms with extrapolation grades above ``grade_warn``, or closer than 0.8 of the
                closest in training.
        """
        results: list[BatchedResult] = []
        far: list[int] = []
        close: list[int] = []
        for slab in _slabs(structures):
            found, errors, shortest = self._evaluate(slab, structures, forces)
            if strict and errors:
                number = min(errors)
                raise type(errors[number])(f"structure {number}: {errors[number]}") from errors[number]
            sound = [number for number in slab if number not in errors]
            far += [number for number in sound if self.is_far(found[number].extrapolation_grades)]
            close += [number for number in sound if self.is_close(shortest[number])]
            results += [_failed(errors[n], structures[n]) if n in errors else found[n] for n in slab]
        self.warn_of_extrapolation(far, close, stacklevel=2)
        return results

    def _evaluate(
        self, slab: Sequence[int], structures: Sequence[Atoms], forces: bool
    ) -> tuple[dict[int, BatchedResult], dict[int, Exception], dict[int, float]]:
        """Return results, errors and shortest distances by number."""
        batch = self.new_batch(skin=0.0)
        errors: dict[int, Exception] = {}
        entrants: dict[int, Entrant] = {}
        for number in slab:
            try:
                entrants[number] = batch.admit(structures[number])
            except MlcalcError as error:
                errors[number] = error
        if not entrants:
            return {}, errors, {}
        batch.replace([], list(entrants.values()))
        values = batch.evaluate(
            np.concatenate([structures[number].positions for number in entrants]),
            np.stack([structures[number].cell.array for number in entrants]),
            forces,
        )
        numbers = list(entrants)
        errors |= {numbers[place]: error for place, error in values.errors.items()}
        found = {
            number: _result(values, batch, place, structures[number], forces) for place, number in enumerate(numbers)
        }
        return found, errors, dict(zip(numbers, values.shortest.tolist(), strict=True))

    def is_far(self, grades: NDArray[np.float64] | None) -> bool:
        """Return whether a grade (N,) is above ``grade_warn``."""
        return self.grade_warn is not None and grades is not None and bool(grades.max(initial=0.0) > self.grade_warn)

    def is_close(self, shortest_ang: float) -> bool:
        """Return whether a distance is closer than 0.8 of the closest in training."""
        return bool(shortest_ang < CLOSE * self.info.min_distance)

    def warn_of_extrapolation(self, far: Sequence[int], close: Sequence[int], stacklevel: int) -> None:
        """Warn of structures, by number, with atoms that are far from the training set or too close to each other."""
        name = self.info.name or "the potential"
        if far:
            warnings.warn(
                f"{name} extrapolates (grades above {self.grade_warn:g}; 1 is the farthest in training) in structures "
                f"{name_atoms(far).partition(' ')[2]}; do not trust energies and forces",
                ExtrapolationWarning,
                stacklevel=stacklevel + 1,
            )
        if close:
            warnings.warn(
                f"atoms closer than {CLOSE * self.info.min_distance:.2f} Å, {CLOSE:g} of the shortest distance the "
                f"potential was trained on, in structures {name_atoms(close).partition(' ')[2]}; energies and forces "
                "are extrapolations",
                ExtrapolationWarning,
                stacklevel=stacklevel + 1,
            )


def _slabs(structures: Sequence[Atoms]) -> Iterator[list[int]]:
    """Yield runs of places that hold about ``_SLAB`` atoms."""
    slab: list[int] = []
    atoms = 0
    for number, structure in enumerate(structures):
        if not isinstance(structure, Atoms):
            raise SettingsError(f"structure {number} is no ase.Atoms but {type(structure).__name__}")
        if slab and atoms + len(structure) > _SLAB:
            yield slab
            slab, atoms = [], 0
        slab.append(number)
        atoms += len(structure)
    if slab:
        yield slab


def _result(values: BatchValues, batch: Batch, place: int, atoms: Atoms, forces: bool) -> BatchedResult:
    rows = slice(batch.verlet.starts[place], batch.verlet.starts[place + 1])
    return BatchedResult(
        energy_ev=float(values.energies[place]),
        energies_ev=values.atomic_energies[rows].copy(),
        forces_ev_per_ang=values.forces[rows].copy() if forces else None,
        stress_ev_per_ang3=voigt(values.strain[place]) / atoms.get_volume() if forces and atoms.pbc.all() else None,
        extrapolation_grades=None if values.grades is None else values.grades[rows].copy(),
    )


def _failed(error: Exception, atoms: Atoms) -> BatchedResult:
    nothing = np.full(len(atoms), np.nan)
    return BatchedResult(float("nan"), nothing, None, None, None, f"{type(error).__name__}: {error}")


def voigt(strain: NDArray[Any]) -> NDArray[np.float64]:
    """Return (…, 3, 3) symmetrised as (…, 6): xx, yy, zz, yz, xz, xy."""
    return full_3x3_to_voigt_6_stress(0.5 * (strain + np.swapaxes(strain, -1, -2)))
