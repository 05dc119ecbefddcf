"""One structure in parts: a potential that looks no farther than its edges can take atoms a block at a time."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from mlcalc.graphs import Graph
from mlcalc.potentials.base import Potential
from mlcalc.potentials.derivatives import energies_and_gradients

# Most atoms at a time, as in LAMMPS: enough that the price of a call does not show, and few enough that what an
# evaluation writes is still in the cache when it is read.
BLOCK = 512


def is_separable(potential: Potential) -> bool:
    """Whether energies of some atoms need no more of others than where they are.

    One layer, no exchange between layers, no index tables.
    """
    info = potential.info
    return info.layers == 1 and not getattr(potential, "exchange_width", 0) and not info.needs


def evaluate(
    potential: Potential, graph: Graph, outputs: dict[str, Tensor], with_gradients: bool
) -> tuple[Tensor, Tensor]:
    """Return energies (N,) in eV and ∂E/∂r_e (E, 3) in eV/Å, which are empty if not wanted.

    Where the potential allows it, at most ``BLOCK`` atoms are evaluated at a time, in blocks of equal size.

    Args:
        potential: the potential.
        graph: one structure in the potential's dtype.
        outputs: its keys name further outputs that are wanted; they become its values, (N,).
        with_gradients: compute the derivative.
    """
    count = -(-graph.n_atoms // BLOCK)
    if count <= 1 or not is_separable(potential):
        return _evaluate(potential, graph, outputs, with_gradients)
    energies, gradients = [], []
    parts: dict[str, list[Tensor]] = {name: [] for name in outputs}
    bounds = [graph.n_atoms * k // count for k in range(count + 1)]
    edges = torch.searchsorted(graph.edge_index[0], torch.tensor(bounds, device=graph.edge_index.device)).tolist()
    for (first, last), (start, end) in zip(pairwise(bounds), pairwise(edges), strict=True):
        wanted = dict(outputs)
        result = _evaluate(potential, _part(graph, first, last, start, end), wanted, with_gradients)
        energies.append(result[0][: last - first])
        gradients.append(result[1])
        for name, values in wanted.items():
            parts[name].append(values[: last - first])
    outputs.update({name: torch.cat(values) for name, values in parts.items()})
    return torch.cat(energies), torch.cat(gradients)


def _part(graph: Graph, first: int, last: int, start: int, end: int) -> Graph:
    """Return the graph of atoms ``first`` to before ``last``, whose edges are ``start`` to before ``end``.

    Nodes are these atoms and then, each once, the others that edges lead to.
    """
    centres, neighbours = graph.edge_index[:, start:end].cpu().numpy()
    inside = (neighbours >= first) & (neighbours < last)
    foreign, places = np.unique(neighbours[~inside], return_inverse=True)
    index = np.stack([centres - first, neighbours - first])
    index[1, ~inside] = last - first + places
    device = graph.species.device
    nodes = torch.cat([torch.arange(first, last), torch.from_numpy(foreign)]).to(device)
    return replace(
        graph,
        species=graph.species[nodes],
        edge_index=torch.from_numpy(index).to(device),
        edge_vectors=graph.edge_vectors[start:end],
        batch=graph.batch[nodes],
        tables={**graph.tables, "owned": torch.arange(last - first, device=device)},
    )


def _evaluate(
    potential: Potential, graph: Graph, outputs: dict[str, Tensor], with_gradients: bool
) -> tuple[Tensor, Tensor]:
    if with_gradients:
        return energies_and_gradients(potential, graph, outputs=outputs)
    extra = {"batch": graph.batch, **graph.tables, **outputs}
    with torch.no_grad():
        energies = potential(graph.species, graph.edge_index, graph.edge_vectors, extra)
    outputs.update({name: extra[name] for name in outputs})
    return energies, graph.edge_vectors.new_zeros((0, 3))
