"""Crystals as pymatgen has them."""

from __future__ import annotations

from ase import Atoms
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor


def structure_of(atoms: Atoms) -> Structure:
    """Return cell, elements and positions as pymatgen has them; whatever else the atoms carry is left out."""
    return AseAtomsAdaptor.get_structure(Atoms(atoms.numbers, cell=atoms.cell, positions=atoms.positions, pbc=True))
