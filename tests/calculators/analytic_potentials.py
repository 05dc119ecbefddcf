"""Potentials with closed formulas, on the contract, for the calculator tests."""

import torch

from mlcalc.potentials.base import Potential, PotentialInfo


class LennardJonesPotential(Potential):
    """Lennard-Jones with the smooth cutoff of ASE's ``LennardJones(smooth=True)``; all elements alike.

    Args:
        sigma, epsilon, rc, ro: as in ASE, Å and eV.
        info: overrides of the declared information.
    """

    def __init__(self, elements=("Ar",), sigma=3.4, epsilon=0.0104, rc=7.0, ro=4.5, **info):
        super().__init__()
        self.info = PotentialInfo(tuple(elements), rc, 1, name="lj", **info)
        self.config = {}
        self.rc, self.ro = rc, ro
        self.sigma = torch.nn.Parameter(torch.tensor(sigma, dtype=torch.float64))
        self.epsilon = torch.nn.Parameter(torch.tensor(epsilon, dtype=torch.float64))

    def forward(self, species, edge_index, edge_vectors, extra=None):
        r2 = edge_vectors.pow(2).sum(dim=1)
        a, b = self.ro**2, self.rc**2
        window = torch.where(r2 < a, torch.ones_like(r2), (b - r2) ** 2 * (b + 2.0 * r2 - 3.0 * a) / (b - a) ** 3)
        c6 = (self.sigma**2 / r2) ** 3
        pair = 2.0 * self.epsilon * (c6**2 - c6) * window
        return pair.new_zeros(species.shape[0]).index_add(0, edge_index[0], pair)


class AngularPotential(Potential):
    """Pair and angle terms through all tables, a per-structure input, and species-dependent weights.

    Edges i→j and j→i differ, so wrong signs and centres show.
    """

    def __init__(self, elements=("Si", "C"), cutoff=4.0, inputs=("total_charge",), **info):
        super().__init__()
        self.info = PotentialInfo(
            tuple(elements), cutoff, 1, needs=("reverse_edge", "triplets"), inputs=tuple(inputs), **info
        )
        self.config = {}
        self.weight = torch.nn.Parameter(torch.linspace(0.8, 1.7, len(elements), dtype=torch.float64))

    def forward(self, species, edge_index, edge_vectors, extra=None):
        length = torch.linalg.norm(edge_vectors, dim=1)
        envelope = (1.0 - (length / self.info.cutoff) ** 2) ** 3
        reverse = extra["reverse_edge"]
        edge = envelope * self.weight[species[edge_index[1]]] ** 2 * self.weight[species[edge_index[0]]]
        edge = edge + 0.1 * (edge_vectors - 0.3 * edge_vectors[reverse]).pow(2).sum(dim=1) * envelope[reverse]
        energies = self.weight[species].index_add(0, edge_index[0], edge)
        a, b = extra["triplets"].unbind(1)
        cosine = (edge_vectors[a] * edge_vectors[b]).sum(dim=1) / (length[a] * length[b])
        angle = self.weight[species[edge_index[1][a]]] * (cosine + 1.0 / 3.0) ** 2 * envelope[a] * envelope[b]
        energies = energies.index_add(0, edge_index[0][a], angle)
        for name in self.info.inputs:
            energies = energies * (1.0 + 0.1 * extra[name][extra["batch"]])
        return energies
