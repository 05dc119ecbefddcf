"""A short text that equal crystals share: composition, space group, Wyckoff positions."""

from __future__ import annotations

from ase import Atoms
from ase.formula import Formula

from mlcalc.crystals.encoding import SYMPREC, encode
from mlcalc.errors import CrystalError


def fingerprint(atoms: Atoms, symprec: float = SYMPREC) -> str:
    """Return reduced formula, space group and occupied positions of a crystal, in their canonical choice.

    The same crystal in any cell, orientation and order of atoms has the same fingerprint. Different crystals may share
    one, since free coordinates and lattice are left out: it sorts crystals into buckets, and does not decide. Noise
    beyond ``symprec`` changes it.

    Args:
        atoms: fully periodic structure.
        symprec: distance tolerance of the symmetry, Å.

    Returns:
        For example ``"Al2MgO4 227 Mg:a Al:d O:e"``; the formula alone where no symmetry can be found.
    """
    formula = Formula.from_list(atoms.get_chemical_symbols()).reduce()[0].format("hill")
    try:
        crystal = encode(atoms, symprec)
    except CrystalError:
        return formula
    return f"{formula} {crystal.space_group} {' '.join(f'{o.element}:{o.letter}' for o in crystal.orbits)}"
