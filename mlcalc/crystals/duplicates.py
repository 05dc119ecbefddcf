"""Which structures are the same crystal: buckets first, pymatgen's StructureMatcher inside, clusters at the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from ase import Atoms
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from mlcalc.crystals.fingerprints import fingerprint
from mlcalc.crystals.structures import structure_of


def cluster_duplicates(
    structures: Sequence[Atoms],
    energies_ev_per_atom: Sequence[float] | None = None,
    *,
    energy_window_ev: float = 0.01,
    volume_window: float = 0.05,
    ltol: float = 0.2,
    stol: float = 0.3,
    angle_tol: float = 5.0,
    symprec: float | None = None,
) -> list[int]:
    """Group structures that are the same crystal.

    Two structures are compared only if they share the reduced composition and their volumes per atom (and energies,
    where given) are close; volumes are never rescaled, so a compressed copy stays a crystal of its own. Matching is not
    transitive, so clusters are the connected components of the matches: they do not depend on the order of the input.
    The price is that a chain of small steps ends up in one cluster; the windows keep such chains short.

    Args:
        structures: fully periodic structures.
        energies_ev_per_atom: one an entry, all from the same potential, eV per atom.
        energy_window_ev: largest difference between duplicates, eV per atom.
        volume_window: largest relative difference of volumes per atom between duplicates.
        ltol: StructureMatcher's relative tolerance of lattice lengths.
        stol: StructureMatcher's tolerance of positions, in units of (volume per atom)^(1/3).
        angle_tol: StructureMatcher's tolerance of lattice angles, degrees.
        symprec: compare only structures with the same space group and Wyckoff positions at this tolerance, Å
            (``fingerprint``). Much faster for many crystals of one composition; copies with noise beyond the tolerance
            count as different. None compares all.

    Returns:
        One cluster number a structure; a cluster's number is the index of its first member.
    """
    matcher = StructureMatcher(ltol=ltol, stol=stol, angle_tol=angle_tol, primitive_cell=False, scale=False)
    primitive = [_primitive(atoms) for atoms in structures]
    volume = [atoms.get_volume() / len(atoms) for atoms in structures]
    buckets: dict[str, list[int]] = defaultdict(list)
    for k, structure in enumerate(primitive):
        formula = structure.composition.reduced_formula
        buckets[formula if symprec is None else fingerprint(structures[k], symprec)].append(k)

    parent = list(range(len(structures)))

    def root(k: int) -> int:
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = parent[k]
        return k

    for bucket in buckets.values():
        bucket.sort(key=lambda k: volume[k])
        for a, i in enumerate(bucket):
            for j in bucket[a + 1 :]:
                if volume[j] > volume[i] * (1 + volume_window):
                    break
                if energies_ev_per_atom and abs(energies_ev_per_atom[i] - energies_ev_per_atom[j]) > energy_window_ev:
                    continue
                one, two = root(i), root(j)
                if one == two:
                    continue
                # The matcher is not symmetric in its arguments either.
                if matcher.fit(primitive[i], primitive[j]) or matcher.fit(primitive[j], primitive[i]):
                    parent[max(one, two)] = min(one, two)
    return [root(k) for k in range(len(structures))]


def _primitive(atoms: Atoms) -> Structure:
    return structure_of(atoms).get_primitive_structure(tolerance=0.1).get_reduced_structure()
