"""Symmetric random search: a random space group, random Wyckoff positions, a random lattice, nothing else.

The idea is that of AIRSS (Pickard and Needs, J. Phys.: Condens. Matter 23, 053201 (2011)) with symmetry built in from
the start as in PyXtal (Fredericks et al., Comput. Phys. Commun. 261, 107810 (2021)), whose Wyckoff tables and lattice
sampling are used. Choosing and filling the positions is done here: exact about which compositions fit which group,
with every attempt counted and bounded, and with no random state but the seed's own.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.geometry import minkowski_reduce

from mlcalc.crystals import wyckoff
from mlcalc.crystals.distances import closest_pair
from mlcalc.crystals.symmetry import find_space_group
from mlcalc.errors import GeneratorError
from mlcalc.generators.base import Candidate, Constraints, Generator, Provenance


class RandomGenerator(Generator):
    """Symmetric random search.

    The space group is drawn uniformly from those that can hold an allowed composition, the composition uniformly from
    those that fit the group, Wyckoff positions uniformly at each step, the volume per atom uniformly from a range.
    Special positions may raise the symmetry above the group drawn; where the constraints name space groups, the group
    found in the finished crystal is among them.

    Args:
        min_distance: smallest allowed distance in units of the sum of covalent radii, self images included.
        volume_range: smallest and largest volume per atom in units of the volume of the covalent spheres (tight sphere
            packings lie near 1.4, diamond near 3); used where the constraints give no volume.
        geometries: lattices and coordinates tried for one choice of group and composition.
        choices: groups tried for one candidate before giving up.
    """

    name = "random"
    option_names = ("min_distance", "volume_range", "geometries", "choices")

    def __init__(
        self,
        min_distance: float = 0.85,
        volume_range: tuple[float, float] = (1.0, 4.0),
        geometries: int = 40,
        choices: int = 50,
    ):
        self.min_distance = min_distance
        self.volume_range = volume_range
        self.geometries = geometries
        self.choices = choices

    def sample(self, n: int, constraints: Constraints, seed: int) -> Iterator[Candidate]:
        """Yield ``n`` candidates; see ``Generator.sample``."""
        if n < 0 or seed < 0:
            raise GeneratorError(f"the number of candidates ({n}) and the seed ({seed}) must not be negative")
        if constraints.targets():
            raise GeneratorError(
                f"the generator {self.name!r} knows nothing of {', '.join(constraints.targets())}; "
                "leave the target out or take a generator that has learnt it (wyckoff)"
            )
        compositions = constraints.compositions()
        groups = list(constraints.space_groups) or list(range(1, 231))
        # Fail before the first candidate, not after an hour of them.
        if not any(wyckoff.compatible(g, c) for g in groups for c in compositions):
            raise GeneratorError(
                f"no composition of {'-'.join(constraints.species())} with {constraints.n_atoms[0]} to "
                f"{constraints.n_atoms[1]} atoms in the primitive cell fits the Wyckoff positions of "
                f"{_name_groups(constraints.space_groups)}; widen n_atoms or allow other space groups"
            )
        return self._sample(n, constraints, seed, compositions, groups)

    def _sample(
        self, n: int, constraints: Constraints, seed: int, compositions: list[tuple[int, ...]], groups: list[int]
    ) -> Iterator[Candidate]:
        for index in range(n):
            yield self._one(index, np.random.default_rng([seed, index]), constraints, seed, compositions, groups)

    def _one(
        self,
        index: int,
        rng: np.random.Generator,
        constraints: Constraints,
        seed: int,
        compositions: list[tuple[int, ...]],
        groups: list[int],
    ) -> Candidate:
        failed: Counter[str] = Counter()
        for _ in range(self.choices):
            number, counts = _draw_group(groups, compositions, rng)
            for _ in range(self.geometries):
                atoms = self._geometry(number, counts, constraints, rng, failed)
                if atoms is None:
                    continue
                found = find_space_group(atoms)
                if constraints.space_groups and (found is None or found.number not in constraints.space_groups):
                    failed["came out in a space group that is not allowed"] += 1
                    continue
                provenance = Provenance(
                    generator=self.name,
                    seed=seed,
                    index=index,
                    requested_space_group=number,
                    found_space_group=found.number if found else None,
                    details={"rejected_geometries": sum(failed.values()), "options": self.options()},
                )
                return Candidate(atoms, provenance)
        raise GeneratorError(
            f"candidate {index} (seed {seed}): no crystal of {'-'.join(constraints.species())} in "
            f"{sum(failed.values())} attempts over {self.choices} choices of space group "
            f"({', '.join(f'{reason}: {count}' for reason, count in failed.most_common())}); "
            "allow a larger volume per atom, fewer atoms or other space groups"
        )

    def _geometry(
        self,
        number: int,
        counts: tuple[int, ...],
        constraints: Constraints,
        rng: np.random.Generator,
        failed: Counter[str],
    ) -> Atoms | None:
        """Try one lattice and one set of coordinates."""
        species = constraints.species()
        volume = _draw_volume(species, counts, constraints, self.volume_range, rng)
        cell = _draw_cell(number, volume, rng)
        if cell is None:
            failed["no reasonable lattice of this volume"] += 1
            return None
        drawn = wyckoff.draw_sites(number, counts, rng)
        assert drawn is not None  # _draw_group returns compatible pairs only
        scaled = np.concatenate([wyckoff.place(number, s, rng) for element in drawn for s in element])
        symbols = [symbol for symbol, count in zip(species, counts, strict=True) for _ in range(count)]
        atoms = Atoms(symbols, cell=cell, scaled_positions=scaled, pbc=True)
        atoms.set_cell(minkowski_reduce(atoms.cell)[0])  # the same crystal, in a cell that is good to relax
        atoms.wrap()
        if closest_pair(atoms, self.min_distance) is not None:
            failed["atoms too close"] += 1
            return None
        return atoms


def _name_groups(groups: tuple[int, ...]) -> str:
    return f"space groups {', '.join(map(str, groups))}" if groups else "any space group"


def _draw_group(
    groups: list[int], compositions: list[tuple[int, ...]], rng: np.random.Generator
) -> tuple[int, tuple[int, ...]]:
    """Draw uniformly a group that fits some composition, then uniformly a composition that fits it."""
    for number in rng.permutation(groups):
        for k in rng.permutation(len(compositions)):
            if wyckoff.compatible(int(number), compositions[k]):
                return int(number), compositions[k]
    raise AssertionError("checked before sampling")


def _draw_volume(
    species: tuple[str, ...],
    counts: tuple[int, ...],
    constraints: Constraints,
    volume_range: tuple[float, float],
    rng: np.random.Generator,
) -> float:
    """Volume of the primitive cell, Å³."""
    if constraints.volume_per_atom:
        return float(rng.uniform(*constraints.volume_per_atom)) * sum(counts)
    numbers = Atoms(list(species)).numbers
    spheres = 4 / 3 * np.pi * sum(c * covalent_radii[z] ** 3 for z, c in zip(numbers, counts, strict=True))
    return float(rng.uniform(*volume_range) * spheres)


def _draw_cell(number: int, volume: float, rng: np.random.Generator) -> np.ndarray | None:
    """(3, 3) primitive cell vectors of this volume in Å, or None where PyXtal finds no lattice."""
    from pyxtal.lattice import Lattice
    from pyxtal.msg import VolumeError

    vectors = wyckoff.primitive_vectors(number)
    conventional = volume / np.linalg.det(vectors)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            lattice = Lattice(wyckoff.group(number).lattice_type, conventional, random_state=rng.spawn(1)[0])
    except VolumeError:
        return None
    cell = vectors @ lattice.matrix
    return cell * (volume / abs(np.linalg.det(cell))) ** (1 / 3)
