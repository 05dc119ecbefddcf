"""Properties on the model cards: against closed forms and energies, not against stresses."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Dict, Optional

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.units import GPa
from torch import Tensor

from mlcalc import MLCalculator
from mlcalc.errors import WorkflowError
from mlcalc.potentials.base import Potential, PotentialInfo

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "mlearn"))

from crystal_properties import cubic_properties, elastic_constants, lattice_constant


class Keating(Potential):
    """Bonds and angles of a diamond lattice with bond length ``d`` (P. N. Keating, Phys. Rev. 145, 637 (1966))."""

    def __init__(self, d: float, stretch: float, bend: float) -> None:
        super().__init__()
        self.info = PotentialInfo(elements=("Si",), cutoff=1.3 * d, layers=1)
        self.config = {}
        self.square, self.stretch, self.bend = d * d, stretch, bend
        self.anchor = torch.nn.Buffer(torch.zeros(1, dtype=torch.float64))

    def forward(
        self, species: Tensor, edge_index: Tensor, edge_vectors: Tensor, extra: Optional[Dict[str, Tensor]] = None
    ) -> Tensor:
        bonds = edge_vectors.reshape(len(species), 4, 3)
        products = bonds @ bonds.mT
        lengths = torch.diagonal(products, dim1=1, dim2=2)
        first, second = torch.triu_indices(4, 4, offset=1)
        angles = products[:, first, second]
        return 0.5 * self.stretch * ((lengths - self.square) ** 2).sum(1) + self.bend * (
            (angles + self.square / 3.0) ** 2
        ).sum(1)


def test_nearest_neighbour_lennard_jones_has_closed_forms() -> None:
    # Bonds at rest: C11 = √2 k/r, C12 = C44 = C11/2; a vacancy costs six bonds and nothing relaxes.
    epsilon, sigma = 0.3, 2.2
    rest = 2.0 ** (1.0 / 6.0) * sigma
    k = 72.0 * epsilon / rest**2
    cutoff = 1.25 * rest
    bond = epsilon - 4.0 * epsilon * ((sigma / cutoff) ** 6 - (sigma / cutoff) ** 12)  # ASE shifts to zero there
    found = cubic_properties(
        "Ar", "fcc", LennardJones(epsilon=epsilon, sigma=sigma, rc=cutoff), 1.02 * rest * 2**0.5, 2
    )
    assert found.lattice_constant_ang == pytest.approx(rest * 2.0**0.5, abs=1e-6)
    c11 = 2.0**0.5 * k / rest / GPa
    assert found.c11_gpa == pytest.approx(c11, rel=2e-3)
    assert found.c12_gpa == pytest.approx(c11 / 2, rel=2e-3)
    assert found.c44_gpa == pytest.approx(c11 / 2, rel=2e-3)
    assert found.vacancy_ev == pytest.approx(6.0 * bond, abs=1e-4)
    assert found.vacancy_unrelaxed_ev == pytest.approx(6.0 * bond, abs=1e-9)


def test_diamond_relaxes_its_sublattices() -> None:
    # Keating's identity 2 C44 (C11 + C12) = (C11 - C12)(C11 + 3 C12) holds only with relaxed ions.
    unit = bulk("Si", "diamond", a=2.35 * 4.0 / 3.0**0.5)
    calculator = MLCalculator(Keating(2.35, 0.6, 0.3))
    c11, c12, c44 = elastic_constants(unit, calculator)
    assert 2.0 * c44 * (c11 + c12) == pytest.approx((c11 - c12) * (c11 + 3.0 * c12), rel=1e-3)
    clamped = elastic_constants(unit, calculator, relax_ions=False)
    assert clamped[:2] == pytest.approx((c11, c12), rel=1e-3)
    assert clamped[2] > 1.1 * c44


@pytest.mark.parametrize("element", ["Cu", "Ni", "Al"])
def test_emt_elastic_constants_are_curvatures_of_the_energy(element: str) -> None:
    calculator = EMT()
    a = lattice_constant(element, "fcc", calculator, bulk(element).cell.array.max() * 2.0)
    unit = bulk(element, "fcc", a=a)
    c11, c12, c44 = elastic_constants(unit, calculator, strain=5e-4)

    def density(deformation: np.ndarray) -> float:
        strained = Atoms(unit.symbols, cell=unit.cell.array @ (np.eye(3) + deformation), pbc=True, calculator=EMT())
        return strained.get_potential_energy() / unit.get_volume() / GPa

    def curvature(deformation: np.ndarray, h: float = 2e-3) -> float:
        middle = -30.0 * density(0.0 * deformation)
        near = 16.0 * (density(h * deformation) + density(-h * deformation))
        far = density(2.0 * h * deformation) + density(-2.0 * h * deformation)
        return (near - far + middle) / (12.0 * h * h)

    shear = np.zeros((3, 3))
    shear[0, 1] = shear[1, 0] = 1.0
    assert c11 == pytest.approx(curvature(np.diag([1.0, 0.0, 0.0])), rel=1e-3)
    assert 2.0 * c11 - 2.0 * c12 == pytest.approx(curvature(np.diag([1.0, -1.0, 0.0])), rel=1e-3)
    assert 4.0 * c44 == pytest.approx(curvature(shear), rel=1e-3)


def test_a_vacancy_gains_by_relaxing() -> None:
    found = cubic_properties("Cu", "fcc", EMT(), 3.6)
    assert found.vacancy_atoms == 108
    assert 0.5 < found.vacancy_ev < found.vacancy_unrelaxed_ev < 2.0


def test_no_minimum_is_an_error() -> None:
    with pytest.raises(WorkflowError, match="no energy minimum"):
        lattice_constant("Cu", "fcc", EMT(), 4.5)
