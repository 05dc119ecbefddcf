"""Crystals as data: symmetry, Wyckoff descriptions, distances, duplicates."""

from mlcalc.crystals.codec import Codec, make_codec
from mlcalc.crystals.description import Orbit, WyckoffCrystal, lattice_parameters
from mlcalc.crystals.distances import ClosestPair, closest_neighbors, closest_pair
from mlcalc.crystals.encoding import canonical, encode, equivalents
from mlcalc.crystals.fingerprints import fingerprint
from mlcalc.crystals.symmetry import SpaceGroup, find_space_group

__all__ = [
    "ClosestPair",
    "Codec",
    "Orbit",
    "SpaceGroup",
    "WyckoffCrystal",
    "canonical",
    "closest_neighbors",
    "closest_pair",
    "encode",
    "equivalents",
    "find_space_group",
    "fingerprint",
    "lattice_parameters",
    "make_codec",
]
