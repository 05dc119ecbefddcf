"""The graph a potential sees, for one structure or a batch of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Graph:
    """Species and edges of B structures, concatenated.

    Attributes:
        species: (N,) int64 indices into a potential's elements.
        edge_index: (2, E) int64, centre and neighbour, sorted by centre.
        edge_vectors: (E, 3) r_j + S·cell − r_i, Å.
        batch: (N,) int64 structure of each atom.
        n_structures: B.
        tables: index tables and per-structure inputs, by name (see ``Potential.forward``).
    """

    species: Tensor
    edge_index: Tensor
    edge_vectors: Tensor
    batch: Tensor
    n_structures: int = 1
    tables: dict[str, Tensor] = field(default_factory=dict)

    @property
    def n_atoms(self) -> int:
        """Number of atoms over all structures."""
        return int(self.species.shape[0])

    @property
    def n_edges(self) -> int:
        """Number of directed edges over all structures."""
        return int(self.edge_index.shape[1])

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Graph:
        """Move to a device, and floating-point members to ``dtype``."""

        def move(t: Tensor) -> Tensor:
            return t.to(device=device, dtype=dtype if t.is_floating_point() else None)

        return replace(
            self,
            species=move(self.species),
            edge_index=move(self.edge_index),
            edge_vectors=move(self.edge_vectors),
            batch=move(self.batch),
            tables={k: move(v) for k, v in self.tables.items()},
        )


def collate(graphs: Sequence[Graph]) -> Graph:
    """Concatenate graphs into one; index tables are shifted, per-structure inputs concatenated.

    Raises:
        ValueError: if ``graphs`` is empty or the graphs carry different tables.
    """
    if not graphs:
        raise ValueError("cannot collate an empty list of graphs")
    names = set(graphs[0].tables)
    if any(set(g.tables) != names for g in graphs):
        raise ValueError("graphs to collate carry different index tables or inputs")
    atoms = edges = structures = 0
    index, batch = [], []
    tables: dict[str, list[Tensor]] = {name: [] for name in names}
    shifts_by_edge = ("reverse_edge", "triplets")
    for g in graphs:
        index.append(g.edge_index + atoms)
        batch.append(g.batch + structures)
        for name in names:
            tables[name].append(g.tables[name] + edges if name in shifts_by_edge else g.tables[name])
        atoms, edges, structures = atoms + g.n_atoms, edges + g.n_edges, structures + g.n_structures
    return Graph(
        species=torch.cat([g.species for g in graphs]),
        edge_index=torch.cat(index, dim=1),
        edge_vectors=torch.cat([g.edge_vectors for g in graphs]),
        batch=torch.cat(batch),
        n_structures=structures,
        tables={name: torch.cat(parts) for name, parts in tables.items()},
    )
