"""What the tests of codecs share: awkward crystals, and whether two crystals are the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.io.ase import AseAtomsAdaptor


def _twenty() -> Atoms:
    rng = np.random.default_rng(4)
    atoms = bulk("NaCl", "rocksalt", a=5.64).repeat((1, 2, 5))
    atoms.rattle(0.15, rng=rng)
    return atoms


def _left_handed() -> Atoms:
    atoms = bulk("ZnO", "wurtzite", a=3.25, c=5.2)
    return Atoms(atoms.numbers, cell=atoms.cell.array[[1, 0, 2]], positions=atoms.positions, pbc=True)


def _sliver() -> Atoms:
    # The cell of a cubic crystal, sheared by several vectors: angles of a few degrees.
    atoms = bulk("CsCl", "cesiumchloride", a=4.12)
    cell = np.array([[1, 0, 0], [4, 1, 0], [-3, 5, 1]]) @ atoms.cell.array
    return Atoms(atoms.numbers, cell=cell, positions=atoms.positions + 0.1, pbc=True)


def _triclinic() -> Atoms:
    cell = [[4.1, 0, 0], [1.7, 5.2, 0], [-1.1, 1.9, 6.6]]
    places = [(0.02, 0.11, 0.93), (0.48, 0.57, 0.41), (0.27, 0.81, 0.66), (0.71, 0.29, 0.15)]
    return Atoms("KBrOLi", cell=cell, scaled_positions=places, pbc=True)


def _graphite() -> Atoms:
    atoms = graphene(a=2.46, vacuum=3.35 / 2)
    atoms.pbc = True
    return atoms


def _molecules() -> Atoms:
    # Solid CO2, Pa-3.
    u = 0.1185
    carbons = np.array([(0, 0, 0), (0.5, 0.5, 0), (0, 0.5, 0.5), (0.5, 0, 0.5)])
    turns = np.array([(1, 1, 1), (-1, 1, -1), (-1, -1, 1), (1, -1, -1)])
    places = np.vstack([carbons, carbons + u * turns, carbons - u * turns])
    return Atoms("C4O8", cell=[5.63] * 3, scaled_positions=places, pbc=True)


AWKWARD: dict[str, Callable[[], Atoms]] = {
    "one atom": lambda: bulk("Cu"),
    "one atom, simple cubic": lambda: bulk("Po", "sc", a=3.35),
    "sliver": _sliver,
    "triclinic": _triclinic,
    "twenty atoms": _twenty,
    "left-handed": _left_handed,
    "at the faces": lambda: Atoms(
        "NaCl", cell=[4.0] * 3, scaled_positions=[(0, 1 - 1e-13, 0.5), (0.5, 0.5, 1 - 1e-9)], pbc=True
    ),
    "layers": _graphite,
    "molecules": _molecules,
    "helium": lambda: bulk("He", "hcp", a=3.57, c=5.83),
    "perovskite": lambda: Atoms(
        "SrTiO3",
        cell=[3.905] * 3,
        scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)],
        pbc=True,
    ),
}


@pytest.fixture
def named_crystals() -> dict[str, Callable[[], Atoms]]:
    return AWKWARD


@pytest.fixture(params=list(AWKWARD))
def awkward(request: pytest.FixtureRequest) -> Atoms:
    return AWKWARD[request.param]()


@pytest.fixture(scope="session")
def same_crystal() -> Callable[..., bool]:
    """Whether two crystals are equal up to rotation, reflection and choice of cell, within about 0.3 % of a bond."""

    def same(one: Atoms, other: Atoms, tolerance: float = 3e-3) -> bool:
        matcher = StructureMatcher(
            ltol=tolerance,
            stol=tolerance,
            angle_tol=100 * tolerance,
            primitive_cell=False,
            scale=False,
            attempt_supercell=False,
        )
        structure = AseAtomsAdaptor.get_structure
        return bool(matcher.fit(structure(one), structure(other)))

    return same
