"""A potential with a closed formula that can be exported, for tests of both MD engines."""

from typing import Dict, Optional

import torch
from torch import Tensor

from mlcalc.potentials.base import Potential, PotentialInfo


class ScriptedLennardJones(Potential):
    """Lennard-Jones argon, 4ε[(σ/r)¹² − (σ/r)⁶]·(1 − r²/rc²)³ (eV, Å): energy and force go to zero at the cutoff."""

    def __init__(self, sigma: float = 3.4, epsilon: float = 0.0104, cutoff: float = 6.0) -> None:
        super().__init__()
        self.info = PotentialInfo(("Ar",), cutoff, 1, name="lj")
        self.config = {"sigma": sigma, "epsilon": epsilon, "cutoff": cutoff}
        self.cutoff = cutoff
        self.sigma = torch.nn.Parameter(torch.tensor(sigma, dtype=torch.float64))
        self.epsilon = torch.nn.Parameter(torch.tensor(epsilon, dtype=torch.float64))

    def forward(
        self, species: Tensor, edge_index: Tensor, edge_vectors: Tensor, extra: Optional[Dict[str, Tensor]] = None
    ) -> Tensor:
        r2 = (edge_vectors * edge_vectors).sum(dim=1)
        c6 = (self.sigma * self.sigma / r2) ** 3
        pair = 2.0 * self.epsilon * (c6 * c6 - c6) * torch.clamp(1.0 - r2 / self.cutoff**2, min=0.0) ** 3
        energies = torch.zeros(species.shape[0], dtype=edge_vectors.dtype, device=edge_vectors.device)
        return energies.index_add(0, edge_index[0], pair)
