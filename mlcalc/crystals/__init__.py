"""Crystals as data: symmetry, Wyckoff descriptions, distances, duplicates."""

from mlcalc.crystals.atomic_densities import superposed_density
from mlcalc.crystals.bond_image import BondImage
from mlcalc.crystals.bond_string import atoms_of_net, bond_string, parse_bond_string
from mlcalc.crystals.codec import Codec, make_codec
from mlcalc.crystals.coordinate_image import CoordinateImage
from mlcalc.crystals.density_grid import DensityGrid, atoms_of_density, density_peaks, read_density
from mlcalc.crystals.density_voxels import DensityVoxels
from mlcalc.crystals.description import Orbit, WyckoffCrystal, lattice_parameters
from mlcalc.crystals.distances import ClosestPair, closest_neighbors, closest_pair
from mlcalc.crystals.encoding import canonical, encode, equivalents
from mlcalc.crystals.fingerprints import fingerprint
from mlcalc.crystals.periodic_net import PeriodicNet, bond_net, contact_net
from mlcalc.crystals.symmetry import SpaceGroup, find_space_group

__all__ = [
    "BondImage",
    "ClosestPair",
    "Codec",
    "CoordinateImage",
    "DensityGrid",
    "DensityVoxels",
    "Orbit",
    "PeriodicNet",
    "SpaceGroup",
    "WyckoffCrystal",
    "atoms_of_density",
    "atoms_of_net",
    "bond_net",
    "bond_string",
    "canonical",
    "closest_neighbors",
    "closest_pair",
    "contact_net",
    "density_peaks",
    "encode",
    "equivalents",
    "find_space_group",
    "fingerprint",
    "lattice_parameters",
    "make_codec",
    "parse_bond_string",
    "read_density",
    "superposed_density",
]
