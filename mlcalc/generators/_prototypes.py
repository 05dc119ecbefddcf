"""Crystals whose structure others may take: those of pymatgen's AFLOW library, or any list of atoms."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlcalc.crystals.charges import oxidation_states
from mlcalc.crystals.symmetry import find_space_group, primitive_cell
from mlcalc.errors import GeneratorError
from mlcalc.generators.base import Constraints


@dataclass(frozen=True)
class Source:
    """A structure as it was given.

    Attributes:
        name: what provenance calls it.
        atoms: any cell.
        elements: its elements, most atoms first.
        counts: of each, in the reduced formula.
    """

    name: str
    atoms: Atoms
    elements: tuple[str, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, name: str, atoms: Atoms) -> Source:
        """Return a source; cell, elements and positions are kept, all else is left out."""
        count = atoms.symbols.formula.count()
        elements = tuple(sorted(count, key=lambda e: (-count[e], e)))
        divisor = int(np.gcd.reduce(list(count.values())))
        bare = Atoms(atoms.numbers, cell=atoms.cell, positions=atoms.positions, pbc=True)
        return cls(name, bare, elements, tuple(count[e] // divisor for e in elements))


@dataclass(frozen=True)
class Prototype:
    """A structure ready for replacements: idealised primitive cell, space group, oxidation states.

    Attributes:
        source: what it was made of.
        atoms: idealised primitive cell.
        space_group: number.
        number: position in the library.
        states: oxidation state of each element; None where no neutral assignment is known.
    """

    source: Source
    atoms: Atoms
    space_group: int
    number: int
    states: dict[str, int] | None


class Library:
    """Prototypes, standardised when they are first needed.

    Args:
        sources: structures.
        symprec: tolerance of the symmetry they are idealised to, Å.
    """

    def __init__(self, sources: Iterable[Source], symprec: float):
        self.sources = list(sources)
        self.symprec = symprec
        self._made: dict[int, Prototype | None] = {}

    @property
    def elements(self) -> set[str]:
        """Elements that occur in any of them."""
        return {e for source in self.sources for e in source.elements}

    def digest(self) -> str:
        """Return a hash of all structures and of the tolerance."""
        digest = hashlib.sha256(f"{self.symprec}".encode())
        for source in self.sources:
            for array in (source.atoms.numbers, source.atoms.cell.array, source.atoms.positions):
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    def fitting(self, constraints: Constraints) -> list[Prototype]:
        """Return the prototypes whose numbers of elements and atoms, stoichiometry and space group fit."""
        found = []
        for k, source in enumerate(self.sources):
            if not _suits(source, constraints):
                continue
            if k not in self._made:
                self._made[k] = _prototype(source, self.symprec, k)
            made = self._made[k]
            if made is None or not constraints.n_atoms[0] <= len(made.atoms) <= constraints.n_atoms[1]:
                continue
            if not constraints.space_groups or made.space_group in constraints.space_groups:
                found.append(made)
        return found


def _suits(source: Source, constraints: Constraints) -> bool:
    """Return whether the composition alone can fit."""
    species = constraints.species()
    if constraints.formula:
        counts = constraints.compositions()[0]
        divisor = int(np.gcd.reduce(counts))
        return sorted(source.counts) == sorted(c // divisor for c in counts)
    if not species:
        return True
    least = len(constraints.elements) if constraints.chemical_system else len(species)
    return max(least, 1) <= len(source.elements) <= len(species)


def _prototype(source: Source, symprec: float, number: int) -> Prototype | None:
    """Return the idealised structure; None where no symmetry is found, or it is another one afterwards."""
    try:
        atoms = primitive_cell(source.atoms, symprec)
    except ValueError:
        return None
    found = find_space_group(atoms)
    if found is None:
        return None
    states = oxidation_states(dict(zip(source.elements, source.counts, strict=True)))
    return Prototype(source, atoms, found.number, number, states)


def user_sources(structures: Iterable[Atoms]) -> list[Source]:
    """Return sources of a list of atoms, named by their number and formula.

    Raises:
        GeneratorError: none, or one that is not periodic in three directions.
    """
    found = []
    for k, atoms in enumerate(structures):
        if len(atoms) == 0 or not atoms.pbc.all() or atoms.cell.rank < 3:
            raise GeneratorError(
                f"prototype {k} ({atoms.get_chemical_formula() or 'no atoms'}) is not periodic in three directions; "
                "leave it out"
            )
        name = str(atoms.info.get("name", f"{k} {atoms.get_chemical_formula(empirical=True)}"))
        found.append(Source.of(name, atoms))
    if not found:
        raise GeneratorError("the list of prototypes is empty; give at least one structure")
    return found


@lru_cache(maxsize=1)
def aflow_sources() -> tuple[Source, ...]:
    """Return the 288 prototypes of AFLOW's library (Mehl et al., Comput. Mater. Sci. 136, S1 (2017)) in pymatgen.

    The file is read as JSON: importing pymatgen's matcher takes far longer.

    Raises:
        GeneratorError: this version of pymatgen keeps the file somewhere else.
    """
    return tuple(_read_aflow())


def _read_aflow() -> Iterator[Source]:
    for tags, atoms in aflow_structures():
        label = " ".join(str(tags[key]) for key in ("aflow", "mineral") if tags.get(key) not in (None, "None"))
        yield Source.of(label, atoms)


def aflow_structures() -> Iterator[tuple[dict[str, Any], Atoms]]:
    """Yield tags (``aflow``, ``mineral``, ``strukturbericht``) and structure of every prototype of the library."""
    for row in json.loads(gzip.decompress(_aflow_file().read_bytes())):
        sites = row["snl"]["sites"]
        atoms = Atoms(
            [site["species"][0]["element"] for site in sites],
            cell=row["snl"]["lattice"]["matrix"],
            scaled_positions=[site["abc"] for site in sites],
            pbc=True,
        )
        yield row["tags"], atoms


def _aflow_file() -> Path:
    spec = find_spec("pymatgen.analysis")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "prototypes" / "aflow_prototypes.json.gz"
        if path.is_file():
            return path
    raise GeneratorError(
        "the installed pymatgen does not hold AFLOW's prototypes where they are looked for; "
        "give structures of your own (--prototypes FILE)"
    )
