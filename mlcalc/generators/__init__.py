"""Generators of candidate crystals: ``Generator.sample(n, constraints, seed)`` yields ``Candidate`` objects."""

from mlcalc.generators.base import Candidate, Constraints, Generator, Provenance
from mlcalc.generators.io import read_candidates, write_candidates
from mlcalc.generators.registry import GENERATORS, make_generator

__all__ = [
    "GENERATORS",
    "Candidate",
    "Constraints",
    "Generator",
    "Provenance",
    "make_generator",
    "read_candidates",
    "write_candidates",
]
