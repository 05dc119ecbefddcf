"""The AFLOW prototypes that pymatgen carries, decorated over a chemical system."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import permutations

from ase import Atoms
from ase.formula import Formula
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from mlcalc.crystals import closest_pair
from mlcalc.generators._prototypes import aflow_structures

# Where bonds of the closest pair start: their covalent length.
_BOND = 1.0


@lru_cache(maxsize=1)
def prototypes() -> tuple[tuple[str, Atoms], ...]:
    """Return (AFLOW label, Strukturbericht or mineral if it has one; primitive cell) of every prototype.

    Source: the AFLOW library of crystallographic prototypes (Mehl et al., Comput. Mater. Sci. 136, S1 (2017)).
    """
    found = []
    for tags, atoms in aflow_structures():
        common = [tags[key] for key in ("strukturbericht", "mineral") if tags[key] not in ("None", "", None)]
        found.append((f"{tags['aflow']} ({common[0]})" if common else tags["aflow"], atoms))
    return tuple(found)


def decorated_prototypes(elements: Sequence[str], max_atoms: int = 8) -> Iterator[tuple[str, Atoms]]:
    """Yield (name, structure) of every prototype, on every subset of a chemical system, in every order of its elements.

    Cells are scaled so that the closest atoms, in units of the sum of their covalent radii, are one such sum apart. Of
    decorations that are the same crystal (the two of rock salt, say) one is left.

    Args:
        elements: symbols.
        max_atoms: of the primitive cell.
    """
    matcher = StructureMatcher(ltol=0.01, stol=0.01, angle_tol=0.5, primitive_cell=False, scale=False)
    for label, prototype in prototypes():
        sites = list(dict.fromkeys(prototype.get_chemical_symbols()))
        if len(prototype) > max_atoms or len(sites) > len(elements):
            continue
        seen: dict[str, list[Structure]] = {}
        for chosen in permutations(elements, len(sites)):
            put = dict(zip(sites, chosen, strict=True))
            atoms = prototype.copy()
            atoms.symbols = [put[symbol] for symbol in prototype.get_chemical_symbols()]
            _scale(atoms)
            formula = str(Formula.from_list(atoms.get_chemical_symbols()).reduce()[0].format("hill"))
            structure = AseAtomsAdaptor.get_structure(atoms)
            if any(matcher.fit(structure, other) for other in seen.get(formula, [])):
                continue
            seen.setdefault(formula, []).append(structure)
            yield f"{formula} {label}", atoms


def _scale(atoms: Atoms) -> None:
    reach = 2.0
    while (pair := closest_pair(atoms, reach)) is None:
        reach *= 2.0
    atoms.set_cell(atoms.cell.array * (_BOND / pair.ratio), scale_atoms=True)
