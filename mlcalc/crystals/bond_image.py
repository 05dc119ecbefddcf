"""The bond image: who is bonded to whom through which image, and how closely, as a picture with 27 + K channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from mlcalc.crystals._codec_checks import known_elements, refuse_unknown
from mlcalc.crystals.bond_string import atoms_of_net
from mlcalc.crystals.codec import Codec, full_sites
from mlcalc.crystals.periodic_net import FARTHEST, RADII, PeriodicNet, contact_net
from mlcalc.errors import CodecError

#: Cells around the central one, in the order of the channels: (-1, -1, -1), (-1, -1, 0), … (1, 1, 1).
IMAGES = np.array([(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)])


class BondImage(Codec):
    """Crystals as arrays (27 + K, N, N) for K elements and at most N atoms: a row for each atom.

    Channel m < 27 of row i and column j says how close atom i comes to the image of atom j in the cell ``IMAGES[m]``:
    the sum of covalent radii over the distance, which is about 1 for a bond, less for contacts, and 0 where there is
    no edge. Each edge stands twice, the other time in row j and column i for the opposite image. Channel 27 + k of
    the whole row i is 1 if atom i is of element k; rows without an atom are 0.

    Edges are those of ``contact_net``: nearest neighbours, at least 12 an atom, and as many as make the crystal
    rigid. Lengths are all that is kept of the geometry, so pictures do not change when the crystal is turned, and what
    comes back has the first vector along x, or any other orientation, either handedness, and the reduced cell; atoms
    keep their order. Which image of an atom lies in the cell depends on the origin: a shift or a mirror moves pixels
    to other channels, with the same values.

    Args:
        elements: those that the codec knows, in the order of their channels.
        max_atoms: N.
        threshold: pixels below this (of about 1 for a bond) are no edges when a picture is read; at most 1/6, the
            least that is written.

    Raises:
        CodecError: no elements, unknown or repeated ones, no room for atoms, or another threshold.
    """

    name: ClassVar[str] = "bond"

    def __init__(self, elements: Sequence[str], max_atoms: int = 20, threshold: float = 0.15) -> None:
        self.elements = known_elements(elements)
        if max_atoms < 1 or not 0 < threshold <= 1 / FARTHEST:
            raise CodecError(
                f"max_atoms ({max_atoms}) must be positive, threshold ({threshold}) in (0, 1/{FARTHEST:g}]"
            )
        self.max_atoms, self.threshold = int(max_atoms), float(threshold)
        self.shape = (len(IMAGES) + len(self.elements), self.max_atoms, self.max_atoms)
        self._radii = RADII[[atomic_numbers[e] for e in self.elements]]

    def options(self) -> dict[str, Any]:
        """Return the arguments that make an equal codec, JSON-ready."""
        return {"elements": list(self.elements), "max_atoms": self.max_atoms, "threshold": self.threshold}

    def encode(self, atoms: Atoms) -> np.ndarray:
        """Return the (27 + K, N, N) picture of a crystal, float32; see the class.

        Raises:
            CodecError: more atoms than fit, an element that the codec does not know, partly occupied sites, not
                periodic along three axes, or atoms so far apart that nothing holds the crystal together.
        """
        full_sites(atoms)
        if len(atoms) > self.max_atoms:
            raise CodecError(f"{len(atoms)} atoms do not fit into a bond image for {self.max_atoms}")
        refuse_unknown(atoms, self.elements)
        net = contact_net(atoms)
        array = np.zeros(self.shape, dtype=np.float32)
        (i, j), channel = net.pairs.T, (net.shifts + 1) @ np.array([9, 3, 1])
        array[channel, i, j] = array[26 - channel, j, i] = net.radii / net.lengths
        for row, symbol in enumerate(net.symbols):
            array[len(IMAGES) + self.elements.index(symbol), row, :] = 1.0
        return array

    def net(self, array: np.ndarray) -> PeriodicNet:
        """Return the net that a picture shows; pixels of the two directions of an edge are averaged.

        Raises:
            CodecError: another shape, numbers that are not finite, no atoms or no bonds.
        """
        values = self._check(array)
        species = values[len(IMAGES) :].mean(axis=2)
        rows = np.flatnonzero(species.max(axis=0) >= 0.5)
        if not len(rows):
            raise CodecError("the bond image holds no atoms: no row has an element")
        kinds = species[:, rows].argmax(axis=0)
        bonds = values[: len(IMAGES)][:, rows][:, :, rows]
        bonds = 0.5 * (bonds + bonds[::-1].transpose(0, 2, 1))
        # Each edge once, by atoms and then by image; the central image of an atom is itself.
        i, j, channel = np.nonzero(np.moveaxis(bonds >= self.threshold, 0, -1))
        once = (i < j) | ((i == j) & (channel > 13))
        i, j, channel = i[once], j[once], channel[once]
        if not len(i):
            raise CodecError("the bond image holds no bonds")
        radii = self._radii[kinds]
        return PeriodicNet(
            tuple(self.elements[k] for k in kinds),
            np.stack([i, j], axis=1),
            IMAGES[channel],
            (radii[i] + radii[j]) / bonds[channel, i, j],
            np.zeros(len(i), dtype=bool),
        )

    def decode(self, array: np.ndarray) -> Atoms:
        """Return the crystal of a picture, whose numbers need not be exact, by relaxing bond lengths.

        Raises:
            CodecError: another shape, numbers that are not finite, no atoms, bonds that do not hold together along
                three directions or contradict each other, or atoms that clash.
        """
        return atoms_of_net(self.net(array))
