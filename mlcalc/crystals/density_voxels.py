"""Density voxels: the electron density of a crystal on a periodic grid, and which element is where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.neighborlist import neighbor_list

from mlcalc.crystals._codec_checks import known_elements, refuse_clash, refuse_unknown
from mlcalc.crystals._reduced_cell import reduced
from mlcalc.crystals._voxel_peaks import draw_peaks, fit_peaks, heights_at
from mlcalc.crystals.atomic_densities import form_factor, superposed_density
from mlcalc.crystals.codec import Codec
from mlcalc.errors import CodecError

#: Atoms closer than this many widths of a peak cannot be told apart safely.
RESOLVED = 1.6
#: Å; unit of the channel that is the cell.
CELL_UNIT = 10.0
_NOBLE = (0, 2, 10, 18, 36, 54, 86, 118)


class DensityVoxels(Codec):
    """Crystals as arrays (6, n, n, n) over their reduced cell.

    Voxel (a, b, c) lies at the fractional coordinates (a, b, c)/n. Channels:

    - Channel 0: electron density, superposed from free atoms, electrons per Å³. It is smeared by 0.25 Å and by
      ``width``.
    - Channel 1: atoms, each a Gaussian of height 1 and of ``width`` voxels along each cell vector.
    - Channels 2 to 4: the same Gaussians, times group/18, period/7 and, for lanthanides and actinides, their place in
      their row/15: the elements by their place in the periodic table, so that a small error is a similar element.
    - Channel 5: the cell. Its own picture is that of the distance from the middle of the cell, in units of 10 Å:
      the corners of the cell are farther away than the faces, by as much as the cell is long and oblique.

    A periodic shift of the crystal by whole voxels rolls the first five channels; the orientation is not kept, so
    that a turned crystal has the same picture. What comes back has the first vector along x and the second in the xy
    plane, atoms in the order in which they are found.

    Args:
        elements: those that the codec knows, in any order.
        points: n, even.
        width: standard deviation of a peak, voxels.
        max_atoms: more peaks than this are no crystal of this codec.
        max_spacing_ang: longest edge of a voxel, Å; cells longer than ``points`` times this are refused.

    Raises:
        CodecError: no elements, unknown or repeated ones or such without tabulated density; other options out of range.
    """

    name: ClassVar[str] = "density"
    #: Names of the channels.
    CHANNELS: ClassVar[tuple[str, ...]] = ("electrons", "atoms", "group", "period", "f row", "cell")

    def __init__(
        self,
        elements: Sequence[str],
        points: int = 32,
        width: float = 1.25,
        max_atoms: int = 20,
        max_spacing_ang: float = 1.5,
    ) -> None:
        self.elements = known_elements(elements)
        for element in self.elements:
            form_factor(element, atomic_numbers[element], np.zeros(1))
        if points < 8 or points % 2:
            raise CodecError(f"points ({points}) must be even, and at least 8")
        if not 0.8 <= width <= points / 8:
            raise CodecError(f"width ({width}) must lie between 0.8 voxels and an eighth of the points")
        if max_atoms < 1 or max_spacing_ang <= 0:
            raise CodecError(f"max_atoms ({max_atoms}) and max_spacing_ang ({max_spacing_ang}) must be positive")
        self.points, self.width, self.max_atoms = int(points), float(width), int(max_atoms)
        self.max_spacing_ang = float(max_spacing_ang)
        self.shape = (len(self.CHANNELS), self.points, self.points, self.points)
        self._places = np.array([place_in_table(e) for e in self.elements])

    def options(self) -> dict[str, Any]:
        """Return the arguments that make an equal codec, JSON-ready."""
        return {
            "elements": list(self.elements),
            "points": self.points,
            "width": self.width,
            "max_atoms": self.max_atoms,
            "max_spacing_ang": self.max_spacing_ang,
        }

    def encode(self, atoms: Atoms) -> np.ndarray:
        """Return the (6, n, n, n) array of a crystal, float32; see the class.

        Raises:
            CodecError: more atoms or a longer cell than fit, atoms too close for these voxels, an element that the
                codec does not know, partly occupied sites, or not periodic along three axes.
        """
        crystal = reduced(atoms)
        if len(crystal) > self.max_atoms:
            raise CodecError(f"{len(crystal)} atoms do not fit into voxels for {self.max_atoms}")
        refuse_unknown(crystal, self.elements)
        longest = float(crystal.cell.lengths().max())
        if longest > self.points * self.max_spacing_ang:
            raise CodecError(
                f"a cell vector of {longest:.1f} Å is too long for {self.points} voxels of at most "
                f"{self.max_spacing_ang:g} Å: more points, or a larger max_spacing_ang"
            )
        self._refuse_unresolved(crystal)
        centres = crystal.get_scaled_positions() * self.points
        places = np.array([place_in_table(s) for s in crystal.get_chemical_symbols()])
        array = np.empty(self.shape, dtype=np.float32)
        array[0] = superposed_density(crystal, (self.points,) * 3, self.width)
        for channel, heights in enumerate((np.ones(len(crystal)), *places.T), start=1):
            array[channel] = draw_peaks(centres, heights, self.points, self.width)
        array[5] = np.linalg.norm(self._from_middle() @ crystal.cell.array, axis=-1) / CELL_UNIT
        return array

    def decode(self, array: np.ndarray) -> Atoms:
        """Return the crystal of an array, whose numbers need not be exact.

        Atoms are the peaks of channel 1, the cell follows from channel 5 by least squares, and the element is the
        nearest in the periodic table among the codec's. Channel 0 is not needed.

        Raises:
            CodecError: another shape, numbers that are not finite, no peaks or too many, a cell that is no cell, or
                atoms that clash.
        """
        values = self._check(array)
        if np.abs(values[1:]).max() > 1e3:
            raise CodecError("numbers above 1000: heights of atoms and lengths in a cell are of the order of one")
        cell = self._cell(values[5])
        centres, heights = fit_peaks(values[1], self.width, self.max_atoms + 1)
        if not len(centres):
            raise CodecError("no peaks: channel 1 nowhere reaches half the height of an atom")
        if len(centres) > self.max_atoms:
            raise CodecError(f"more than {self.max_atoms} peaks")
        found = np.stack([heights_at(values[k], centres, self.width) for k in (2, 3, 4)], axis=1) / heights[:, None]
        # In steps of the table: one group, one period, one place in a row of f elements.
        steps = (found[:, None, :] - self._places) * np.array([18.0, 7.0, 15.0])
        kinds = (steps**2).sum(axis=2).argmin(axis=1)
        atoms = Atoms([self.elements[k] for k in kinds], cell=cell, scaled_positions=centres / self.points, pbc=True)
        refuse_clash(atoms)
        return atoms

    def spacing(self, atoms: Atoms) -> float:
        """Return the distance of the closest two atoms of a crystal in widths of a peak, in voxel coordinates.

        Peaks are told apart safely above ``RESOLVED``.
        """
        crystal = reduced(atoms)
        voxels = Atoms(
            crystal.numbers,
            cell=np.eye(3) * self.points / self.width,
            scaled_positions=crystal.get_scaled_positions(),
            pbc=True,
        )
        d = neighbor_list("d", voxels, 4.0, self_interaction=False)
        return float(d.min(initial=4.0))

    def _refuse_unresolved(self, crystal: Atoms) -> None:
        spacing = self.spacing(crystal)
        if spacing < RESOLVED:
            raise CodecError(
                f"{crystal.get_chemical_formula()}: the closest two atoms are {spacing * self.width:.2f} voxels apart, "
                f"{self.points} points do not resolve them: take more"
            )

    def _from_middle(self) -> np.ndarray:
        """Return (n, n, n, 3) fractional coordinates from the middle of the cell."""
        axis = (np.arange(self.points) - (self.points - 1) / 2) / self.points
        return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)

    def _cell(self, picture: np.ndarray) -> np.ndarray:
        """Return the (3, 3) cell in Å of the picture of distances."""
        u = self._from_middle().reshape(-1, 3)
        first, second = np.array([0, 1, 2, 1, 0, 0]), np.array([0, 1, 2, 2, 2, 1])
        squares = u[:, first] * u[:, second] * np.where(first == second, 1.0, 2.0)
        wanted = CELL_UNIT * np.maximum(picture.ravel(), 0.0)
        numbers = np.linalg.solve(squares.T @ squares, squares.T @ wanted**2)
        # Squares put weight on the corners and turn noise into length; these steps fit the distances themselves.
        for _ in range(10):
            found = np.sqrt(np.maximum(squares @ numbers, 1e-6))
            slopes = squares / (2 * found[:, None])
            step = np.linalg.solve(slopes.T @ slopes, slopes.T @ (wanted - found))
            numbers = numbers + step
            if np.abs(step).max() < 1e-12 * np.abs(numbers).max():
                break
        metric = np.empty((3, 3))
        metric[first, second] = metric[second, first] = numbers
        if not np.linalg.eigvalsh(metric).min() > 0.01:
            raise CodecError("the picture of the cell is that of no cell: it has no volume")
        return np.linalg.cholesky(metric)


def place_in_table(symbol: str) -> tuple[float, float, float]:
    """Return group/18, period/7 and the place among lanthanides or actinides/15 (0 for others) of an element."""
    from pymatgen.core import Element

    number = atomic_numbers[symbol]
    period = next(k for k, last in enumerate(_NOBLE) if number <= last)
    place = next((number - first + 1 for first in (57, 89) if first <= number < first + 15), 0)
    return (3 if place else Element(symbol).group) / 18, period / 7, place / 15
