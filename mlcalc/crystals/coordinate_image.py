"""The coordinate image: lattice and sites as columns of a small picture, elements and coordinates as its channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.geometry.cell import cell_to_cellpar

from mlcalc.crystals._codec_checks import known_elements, refuse_clash, refuse_unknown
from mlcalc.crystals.codec import Codec, full_sites
from mlcalc.errors import CodecError

#: Channels of lattice and coordinates; those of the elements follow.
GEOMETRY = 6
_SQRT2 = np.sqrt(2.0)


class CoordinateImage(Codec):
    """Crystals as arrays (channels, 1 + max_atoms): first the lattice, then a column for each atom.

    The first column holds six numbers in its first six channels: the logarithm of the cell, that is half the matrix
    logarithm of the metric tensor in Å², as xx, yy, zz, √2 yz, √2 xz, √2 xy, with log(``length_ang``) taken off the
    first three. Whatever six numbers stand there, they are a cell.

    A column of an atom holds (cos, sin) of 2π times each fractional coordinate in its first six channels, so that 0
    and 1 are the same place; then the channel ``EMPTY``, which is 1 where there is no atom; then one channel an
    element, 1 for the atom's own and 0 elsewhere. Empty columns hold 0 in all other channels.

    Atoms keep their order. Orientation is not kept: what comes back is the same crystal with its first vector along x
    and the second in the xy plane. A left-handed cell comes back with all three vectors reversed.

    Args:
        elements: those that the codec knows, in the order of their channels.
        max_atoms: that fit.
        length_ang: a cell of vectors of this length, at right angles, has a lattice column of zeros, Å.
        min_distance_ang: crystals with atoms closer than this, own images included, are refused both ways, Å.

    Raises:
        CodecError: no elements, unknown or repeated ones, or no room for atoms.
    """

    name: ClassVar[str] = "coordinate"
    #: Channel that says that there is no atom.
    EMPTY: ClassVar[int] = GEOMETRY

    def __init__(
        self,
        elements: Sequence[str],
        max_atoms: int = 20,
        length_ang: float = 5.0,
        min_distance_ang: float = 0.5,
    ) -> None:
        if max_atoms < 1 or length_ang <= 0:
            raise CodecError(f"max_atoms ({max_atoms}) and length_ang ({length_ang}) must be positive")
        self.elements, self.max_atoms = known_elements(elements), int(max_atoms)
        self.length_ang, self.min_distance_ang = float(length_ang), float(min_distance_ang)
        self.shape = (GEOMETRY + 1 + len(self.elements), 1 + self.max_atoms)
        self._channel = {e: GEOMETRY + 1 + k for k, e in enumerate(self.elements)}

    def options(self) -> dict[str, Any]:
        """Return the arguments that make an equal codec, JSON-ready."""
        return {
            "elements": list(self.elements),
            "max_atoms": self.max_atoms,
            "length_ang": self.length_ang,
            "min_distance_ang": self.min_distance_ang,
        }

    def encode(self, atoms: Atoms) -> np.ndarray:
        """Return the (channels, 1 + max_atoms) array of a crystal, float32; see the class.

        Raises:
            CodecError: more atoms than fit, an element that the codec does not know, partly occupied sites, not
                periodic along three axes, or what ``decode`` would refuse: a degenerate lattice, atoms that clash.
        """
        full_sites(atoms)
        if len(atoms) > self.max_atoms:
            raise CodecError(f"{len(atoms)} atoms do not fit into a coordinate image for {self.max_atoms}")
        refuse_unknown(atoms, self.elements)
        array = np.zeros(self.shape, dtype=np.float32)
        array[:GEOMETRY, 0] = log_cell(atoms.cell.array) - np.log(self.length_ang) * np.array([1, 1, 1, 0, 0, 0])
        scaled = atoms.get_scaled_positions(wrap=False) * (1.0 if atoms.cell.handedness > 0 else -1.0)
        turns = 2 * np.pi * scaled
        for k, symbol in enumerate(atoms.symbols):
            array[0:GEOMETRY:2, 1 + k], array[1:GEOMETRY:2, 1 + k] = np.cos(turns[k]), np.sin(turns[k])
            array[self._channel[symbol], 1 + k] = 1.0
        array[self.EMPTY, 1 + len(atoms) :] = 1.0
        self.decode(array)  # refuses to the last digit what would not come back
        return array

    def decode(self, array: np.ndarray) -> Atoms:
        """Return the crystal of an array, whose numbers need not be exact.

        The element of a column is that of its largest channel, or none if this is ``EMPTY``; coordinates are angles.

        Raises:
            CodecError: another shape, numbers that are not finite, no atoms, a coordinate whose cosine and sine both
                vanish, a lattice that is no lattice, or atoms that clash.
        """
        values = self._check(array)
        kinds = values[GEOMETRY:, 1:].argmax(axis=0)
        there = np.flatnonzero(kinds)
        if not len(there):
            raise CodecError("the coordinate image holds no atoms")
        cosines, sines = values[0:GEOMETRY:2, 1 + there], values[1:GEOMETRY:2, 1 + there]
        if np.hypot(cosines, sines).min() < 1e-6:
            raise CodecError("cosine and sine of a coordinate both vanish: it is nowhere")
        scaled = (np.arctan2(sines, cosines) / (2 * np.pi)).T % 1.0
        cell = cell_of_log(values[:GEOMETRY, 0] + np.log(self.length_ang) * np.array([1, 1, 1, 0, 0, 0]))
        symbols = [self.elements[k - 1] for k in kinds[there]]
        atoms = Atoms(symbols, cell=cell, scaled_positions=scaled, pbc=True)
        refuse_clash(atoms, self.min_distance_ang)
        return atoms


def log_cell(cell: np.ndarray) -> np.ndarray:
    """Return (6,) half the matrix logarithm of the metric tensor (Å²) as xx, yy, zz, √2 yz, √2 xz, √2 xy."""
    values, vectors = np.linalg.eigh(cell @ cell.T)
    matrix = 0.5 * (vectors * np.log(values)) @ vectors.T
    return np.array([*np.diag(matrix), *(_SQRT2 * matrix[[1, 0, 0], [2, 2, 1]])])


def cell_of_log(log: np.ndarray) -> np.ndarray:
    """Return the (3, 3) right-handed cell in Å whose ``log_cell`` this is.

    Raises:
        CodecError: lengths or angles that no crystal has.
    """
    matrix = np.diag(log[:3])
    matrix[[1, 0, 0], [2, 2, 1]] = matrix[[2, 2, 1], [1, 0, 0]] = log[3:] / _SQRT2
    values, vectors = np.linalg.eigh(matrix)
    if np.abs(values).max() > np.log(1000.0):
        raise CodecError("the lattice is degenerate: a vector far shorter or longer than any crystal's")
    metric = (vectors * np.exp(2 * values)) @ vectors.T
    cell = np.linalg.cholesky(metric)
    lengths_angles = cell_to_cellpar(cell)
    if lengths_angles[3:].min() < 10 or lengths_angles[3:].max() > 170 or np.prod(np.diag(cell)) < 1.0:
        raise CodecError(
            "the lattice is degenerate: lengths and angles of "
            f"{', '.join(f'{v:.3g}' for v in lengths_angles)} (Å, degrees)"
        )
    return cell
