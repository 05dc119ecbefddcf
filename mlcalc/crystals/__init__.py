"""Crystals as data: symmetry, Wyckoff positions, distances."""

from mlcalc.crystals.distances import ClosestPair, closest_neighbors, closest_pair
from mlcalc.crystals.symmetry import SpaceGroup, find_space_group

__all__ = ["ClosestPair", "SpaceGroup", "closest_neighbors", "closest_pair", "find_space_group"]
