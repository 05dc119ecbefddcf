"""One derivative, g_e = ∂E/∂(edge vector e), and everything that follows from it.

With r_e = r_j + S·cell − r_i: forces F_i = Σ_{e: centre i} g_e − Σ_{e: neighbour i} g_e; strain derivative
∂E/∂ε = Σ_e r_e ⊗ g_e, hence stress = (1/V) Σ_e r_e ⊗ g_e (tension positive) and virial W = −Σ_e r_e ⊗ g_e; per-atom
virial W_i = −½ Σ_{e ∋ i} r_e ⊗ g_e. The same lines hold for bulk, slab, wire and molecule.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mlcalc.graphs.graph import Graph
from mlcalc.potentials.base import Potential


def energies_and_gradients(
    potential: Potential | torch.jit.ScriptModule,
    graph: Graph,
    create_graph: bool = False,
    outputs: dict[str, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return atomic energies (N,) in eV and g_e = ∂E/∂r_e (E, 3) in eV/Å.

    Args:
        potential: anything on the potential contract.
        graph: one structure or a batch; its vectors have the potential's dtype.
        create_graph: keep the graph of the derivative, for training on forces.
        outputs: its keys name further outputs that are wanted, among ``info.outputs``; they become its values.
    """
    vectors = graph.edge_vectors.detach().requires_grad_(True)
    extra = {"batch": graph.batch, **graph.tables, **(outputs or {})}
    with torch.enable_grad():
        energies = potential(graph.species, graph.edge_index, vectors, extra)
        if outputs is not None:
            outputs.update({name: extra[name].detach() for name in outputs})
        if vectors.shape[0] == 0 or not energies.requires_grad:
            return energies if create_graph else energies.detach(), torch.zeros_like(vectors)
        (gradients,) = torch.autograd.grad(energies.sum(), vectors, create_graph=create_graph, allow_unused=True)
    if gradients is None:
        gradients = torch.zeros_like(vectors)
    if create_graph:
        return energies, gradients
    return energies.detach(), gradients


def forces(gradients: Tensor, edge_index: Tensor, n_atoms: int) -> Tensor:
    """Return forces (N, 3) in eV/Å from edge gradients (E, 3)."""
    out = gradients.new_zeros((n_atoms, 3))
    out = out.index_add(0, edge_index[0], gradients)
    return out.index_add(0, edge_index[1], -gradients)


def strain_derivative(gradients: Tensor, graph: Graph) -> Tensor:
    """Return Σ_e r_e ⊗ g_e per structure, (B, 3, 3) in eV: ∂E/∂ε, which is volume × stress and minus the virial."""
    outer = graph.edge_vectors.unsqueeze(2) * gradients.unsqueeze(1)
    structure = graph.batch[graph.edge_index[0]]
    return outer.new_zeros((graph.n_structures, 3, 3)).index_add(0, structure, outer)


def atomic_virials(gradients: Tensor, graph: Graph) -> Tensor:
    """Return W_i = −½ Σ_{e ∋ i} r_e ⊗ g_e, (N, 3, 3) in eV; they sum to the total virial.

    The share of an edge is split evenly between its two atoms. With more than one message-passing layer this is a
    convention, not the quantity a Green–Kubo heat flux needs.
    """
    half = -0.5 * graph.edge_vectors.unsqueeze(2) * gradients.unsqueeze(1)
    out = half.new_zeros((graph.n_atoms, 3, 3))
    return out.index_add(0, graph.edge_index[0], half).index_add(0, graph.edge_index[1], half)
