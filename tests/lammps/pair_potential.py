"""A pair potential on the potential contract whose native twin in LAMMPS is ``lj/smooth/linear``."""

from typing import Dict, Optional

import torch
from torch import Tensor

from mlcalc.potentials.base import Potential, PotentialInfo


class LennardJones(Potential):
    """φ(r) − φ(r_c) − (r − r_c) φ'(r_c), half to either atom: energy and force go to zero at the cutoff."""

    epsilon: Tensor

    def __init__(self, epsilon: float, sigma: float, cutoff: float) -> None:
        super().__init__()
        self.config = {"epsilon": epsilon, "sigma": sigma, "cutoff": cutoff}
        self.info = PotentialInfo(elements=("Ar",), cutoff=cutoff, layers=1, name="lennard-jones")
        self.register_buffer("epsilon", torch.tensor(epsilon, dtype=torch.float64))
        self.sigma = sigma
        self.cutoff = cutoff
        s6 = (sigma / cutoff) ** 6
        self.at_cutoff = 4.0 * epsilon * (s6 * s6 - s6)
        self.slope = 4.0 * epsilon * (-12.0 * s6 * s6 + 6.0 * s6) / cutoff

    def forward(
        self, species: Tensor, edge_index: Tensor, edge_vectors: Tensor, extra: Optional[Dict[str, Tensor]] = None
    ) -> Tensor:
        r = torch.linalg.norm(edge_vectors, dim=1)
        s6 = (self.sigma / r) ** 6
        pair = 4.0 * self.epsilon * (s6 * s6 - s6) - self.at_cutoff - (r - self.cutoff) * self.slope
        return torch.zeros_like(species, dtype=r.dtype).index_add(0, edge_index[0], 0.5 * pair)


class Angles(Potential):
    """Half the strength times Σ (cos θ + 1/3)² f(r) f(r') over ordered pairs of edges: wants triplets and an input."""

    def __init__(self, cutoff: float) -> None:
        super().__init__()
        self.config = {"cutoff": cutoff}
        self.info = PotentialInfo(
            elements=("Si",), cutoff=cutoff, layers=1, name="angles", needs=("triplets",), inputs=("strength",)
        )
        self.register_buffer("third", torch.tensor(1.0 / 3.0, dtype=torch.float64))
        self.cutoff = cutoff

    def forward(
        self, species: Tensor, edge_index: Tensor, edge_vectors: Tensor, extra: Optional[Dict[str, Tensor]] = None
    ) -> Tensor:
        assert extra is not None
        strength, triplets = extra["strength"], extra["triplets"]
        r = torch.linalg.norm(edge_vectors, dim=1)
        f = (1.0 - (r / self.cutoff) ** 2) ** 3
        unit = edge_vectors / r.unsqueeze(1)
        one, two = triplets[:, 0], triplets[:, 1]
        cosine = (unit[one] * unit[two]).sum(1)
        energy = 0.5 * strength[0] * (cosine + self.third) ** 2 * f[one] * f[two]
        return torch.zeros_like(species, dtype=r.dtype).index_add(0, edge_index[0, one], energy)
