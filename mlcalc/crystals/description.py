"""A crystal as its space group, occupied Wyckoff positions and free parameters: ``WyckoffCrystal``."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.geometry.cell import cellpar_to_cell

from mlcalc.crystals._tables import primitive_vectors, tables
from mlcalc.errors import CrystalError
from mlcalc.records import jsonable

#: Which of a, b, c, alpha, beta, gamma are free, by crystal system.
_FREE = {
    "triclinic": (0, 1, 2, 3, 4, 5),
    "monoclinic": (0, 1, 2, 4),
    "orthorhombic": (0, 1, 2),
    "tetragonal": (0, 2),
    "hexagonal": (0, 2),
    "cubic": (0,),
}


def crystal_system(number: int) -> str:
    """Return the lattice system of a space group; trigonal groups count as hexagonal, whose axes they are set on."""
    for last, name in ((2, "triclinic"), (15, "monoclinic"), (74, "orthorhombic"), (142, "tetragonal")):
        if number <= last:
            return name
    return "hexagonal" if number <= 194 else "cubic"


def lattice_parameters(number: int) -> tuple[str, ...]:
    """Return the names of the free parameters of the conventional cell, in the order of ``WyckoffCrystal.lattice``."""
    names = ("a", "b", "c", "alpha", "beta", "gamma")
    return tuple(names[k] for k in _FREE[crystal_system(number)])


def full_cell(number: int, lattice: tuple[float, ...]) -> np.ndarray:
    """Return (6,) a, b, c in Å and angles in degrees from the free parameters."""
    system = crystal_system(number)
    cell = np.array([1.0, 1.0, 1.0, 90.0, 90.0, 120.0 if system == "hexagonal" else 90.0])
    cell[list(_FREE[system])] = lattice
    if system in ("tetragonal", "hexagonal", "cubic"):
        cell[1] = cell[0]
    if system == "cubic":
        cell[2] = cell[0]
    return cell


def reduced_cell(number: int, cell: np.ndarray) -> tuple[float, ...]:
    """Return the free parameters of a conventional cell of (6,) lengths and angles."""
    return tuple(float(cell[k]) for k in _FREE[crystal_system(number)])


@dataclass(frozen=True)
class Orbit:
    """Atoms of one element on one Wyckoff position.

    Attributes:
        element: chemical symbol.
        letter: Wyckoff letter.
        free: free coordinates of the position's first point, in fractions of the conventional cell.
    """

    element: str
    letter: str
    free: tuple[float, ...] = ()


@dataclass(frozen=True)
class WyckoffCrystal:
    """A crystal whose symmetry holds by construction.

    Settings are PyXtal's: unique axis b, hexagonal axes for rhombohedral groups, origin choice 2.

    Attributes:
        space_group: number, 1 to 230.
        orbits: occupied positions.
        lattice: free parameters of the conventional cell (``lattice_parameters`` names them), Å and degrees.
    """

    space_group: int
    orbits: tuple[Orbit, ...]
    lattice: tuple[float, ...]

    def __post_init__(self) -> None:
        """Reject what is no description of a crystal."""
        if not 1 <= self.space_group <= 230:
            raise CrystalError(f"space group numbers go from 1 to 230, not {self.space_group}")
        if not self.orbits:
            raise CrystalError("a crystal without atoms")
        names = lattice_parameters(self.space_group)
        if len(self.lattice) != len(names) or not all(np.isfinite(v) and v > 0 for v in self.lattice):
            raise CrystalError(
                f"space group {self.space_group} needs positive lattice parameters {', '.join(names)}; "
                f"given: {self.lattice}"
            )
        positions = tables(self.space_group).positions
        fixed: set[str] = set()
        for orbit in self.orbits:
            if atomic_numbers.get(orbit.element, 0) < 1:
                raise CrystalError(f"{orbit.element!r} is not a chemical element")
            if orbit.letter not in positions:
                raise CrystalError(
                    f"space group {self.space_group} has no Wyckoff position {orbit.letter!r}; "
                    f"there are {''.join(sorted(positions))}"
                )
            wanted = len(positions[orbit.letter].columns)
            if len(orbit.free) != wanted or not all(np.isfinite(orbit.free)):
                raise CrystalError(
                    f"position {orbit.letter} of space group {self.space_group} has {wanted} free coordinates; "
                    f"given: {orbit.free}"
                )
            if not wanted and orbit.letter in fixed:
                raise CrystalError(f"position {orbit.letter} of space group {self.space_group} can be occupied once")
            if not wanted:
                fixed.add(orbit.letter)

    def multiplicities(self) -> tuple[int, ...]:
        """Return the atoms of each orbit in the primitive cell."""
        positions = tables(self.space_group).positions
        return tuple(positions[orbit.letter].multiplicity for orbit in self.orbits)

    def counts(self) -> dict[str, int]:
        """Return the atoms of each element in the primitive cell."""
        total: Counter[str] = Counter()
        for orbit, multiplicity in zip(self.orbits, self.multiplicities(), strict=True):
            total[orbit.element] += multiplicity
        return dict(total)

    def cell(self) -> np.ndarray:
        """Return (3, 3) vectors of the primitive cell, rows, Å.

        Raises:
            CrystalError: no cell has these angles.
        """
        parameters = full_cell(self.space_group, self.lattice)
        angles = np.cos(np.radians(parameters[3:]))
        if 1 - (angles**2).sum() + 2 * angles.prod() <= 1e-8:
            raise CrystalError(f"no cell has the angles {parameters[3:].tolist()}")
        return primitive_vectors(self.space_group) @ cellpar_to_cell(parameters)

    def atoms(self) -> Atoms:
        """Return the primitive cell; its symmetry is that of the space group, or higher, to rounding.

        Raises:
            CrystalError: no cell has the angles.
        """
        positions = tables(self.space_group).positions
        scaled = [positions[o.letter].primitive_points(np.array(o.free)) for o in self.orbits]
        symbols = [o.element for o, points in zip(self.orbits, scaled, strict=True) for _ in points]
        return Atoms(symbols, cell=self.cell(), scaled_positions=np.concatenate(scaled), pbc=True)

    def key(self) -> tuple[Any, ...]:
        """Return space group, elements and letters: what can be compared exactly."""
        return (self.space_group, tuple(sorted((o.element, o.letter) for o in self.orbits)))

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary; ``from_dict`` reads it back."""
        values: dict[str, Any] = jsonable(asdict(self))
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> WyckoffCrystal:
        """Build from ``to_dict`` output.

        Raises:
            CrystalError: not such a dictionary, or no crystal.
        """
        try:
            orbits = tuple(Orbit(o["element"], o["letter"], tuple(map(float, o["free"]))) for o in values["orbits"])
            return cls(int(values["space_group"]), orbits, tuple(map(float, values["lattice"])))
        except (KeyError, TypeError) as error:
            raise CrystalError(f"not the description of a crystal: {type(error).__name__} {error}") from error
