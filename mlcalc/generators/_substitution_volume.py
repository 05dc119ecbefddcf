"""The volume of a crystal whose elements were replaced."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.formula import Formula

from mlcalc.crystals.charges import oxidation_states


def predicted_volume(old: Atoms, new: Atoms, states: Mapping[str, int] | None) -> float:
    """Return the volume of the new crystal, Å³.

    Where both crystals are neutral with ions whose radii are known (Shannon's, averaged over coordinations), lengths go
    with the mean radius of cations plus that of anions. Elsewhere it is the volume that bond lengths known from other
    crystals suggest (pymatgen's ``DLSVolumePredictor``).

    Args:
        old: the crystal before.
        new: the same sites with other elements.
        states: oxidation states of the old elements, None if unknown.
    """
    found = oxidation_states(Formula(str(new.symbols)).reduce()[0].count())
    before, after = _bond(old, states), _bond(new, found)
    if before is not None and after is not None:
        return float(old.get_volume() * (after / before) ** 3)
    return _from_bond_lengths(old, new)


def spheres(atoms: Atoms) -> float:
    """Return the volume of the covalent spheres, Å³."""
    return float(4 / 3 * np.pi * (covalent_radii[atoms.numbers] ** 3).sum())


def scale(atoms: Atoms, volume: float) -> None:
    """Give atoms a volume, Å³, in place."""
    atoms.set_cell(atoms.cell.array * (volume / atoms.get_volume()) ** (1 / 3), scale_atoms=True)


def _bond(atoms: Atoms, states: Mapping[str, int] | None) -> float | None:
    """Mean ionic radius of cations plus that of anions, Å; None if a radius or one of the two is missing."""
    from pymatgen.core import Species

    if states is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ions without radii
        found = {e: Species(e, states[e]).ionic_radius for e in set(atoms.symbols)}
    radii = {e: float(radius) for e, radius in found.items() if radius is not None}
    if len(radii) < len(found):
        return None
    cations = [radii[e] for e in atoms.symbols if states[e] > 0]
    anions = [radii[e] for e in atoms.symbols if states[e] < 0]
    return float(np.mean(cations) + np.mean(anions)) if cations and anions else None


def _from_bond_lengths(old: Atoms, new: Atoms) -> float:
    from pymatgen.analysis.structure_prediction.volume_predictor import DLSVolumePredictor
    from pymatgen.io.ase import AseAtomsAdaptor

    # By covalent spheres first, since the predictor changes a volume by no more than half.
    volume = float(old.get_volume() * spheres(new) / spheres(old))
    start = new.copy()
    scale(start, volume)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of elements without bond lengths, for which it takes atomic radii
        try:
            return float(DLSVolumePredictor().predict(AseAtomsAdaptor.get_structure(start)))
        except (ValueError, TypeError):  # no radii at all
            return volume
