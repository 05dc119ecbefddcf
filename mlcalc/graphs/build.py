"""From atoms to graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import ArrayLike, NDArray

from mlcalc.errors import UnknownElementError
from mlcalc.graphs.graph import Graph
from mlcalc.graphs.neighbors import edge_vectors, name_atoms, neighbor_list
from mlcalc.graphs.tables import index_tables

if TYPE_CHECKING:
    from ase import Atoms


def build_graph(
    atoms: Atoms,
    elements: Sequence[str],
    cutoff: float,
    needs: Sequence[str] = (),
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    inputs: Mapping[str, float] | None = None,
) -> Graph:
    """Build the graph of one structure.

    Args:
        atoms: the structure.
        elements: chemical symbols in the order of the species indices.
        cutoff: Å.
        needs: index tables wanted, see ``index_tables``.
        dtype: of edge vectors and inputs; vectors are computed in float64 and then cast.
        device: where the graph lives.
        inputs: per-structure inputs by name.

    Raises:
        UnknownElementError: an element is not in ``elements`` (atoms named).
        NonFiniteError: positions or cell are NaN or infinite (atoms named).
    """
    species = species_indices(atoms.numbers, elements)
    positions, cell = atoms.positions, atoms.cell.array
    edge_index, shifts = neighbor_list(positions, cell, atoms.pbc, cutoff)
    vectors = edge_vectors(positions, np.where(atoms.pbc[:, None], cell, 0.0), edge_index, shifts)
    return assemble(species, edge_index, vectors, shifts, needs, dtype, device, inputs)


def assemble(
    species: NDArray[np.int64],
    edge_index: NDArray[np.int64],
    vectors: NDArray[np.float64],
    shifts: NDArray[np.int64],
    needs: Sequence[str] = (),
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    inputs: Mapping[str, float] | None = None,
) -> Graph:
    """Put species (N,), edges (2, E), vectors (E, 3) in Å and shifts (E, 3) of one structure into a graph."""
    tables = {name: table.to(device) for name, table in index_tables(edge_index, shifts, needs).items()}
    for name, value in (inputs or {}).items():
        tables[name] = torch.tensor([value], dtype=dtype, device=device)
    return Graph(
        species=torch.from_numpy(species).to(device),
        edge_index=torch.from_numpy(edge_index).to(device),
        edge_vectors=torch.from_numpy(vectors).to(device=device, dtype=dtype),
        batch=torch.zeros(len(species), dtype=torch.int64, device=device),
        tables=tables,
    )


def species_indices(numbers: ArrayLike, elements: Sequence[str]) -> NDArray[np.int64]:
    """Return the (N,) position of each atomic number in ``elements``.

    Raises:
        UnknownElementError: naming the elements that are missing and their atoms.
    """
    numbers = np.asarray(numbers, dtype=np.int64)
    lookup = np.full(len(chemical_symbols), -1, dtype=np.int64)
    for index, symbol in enumerate(elements):
        lookup[atomic_numbers[symbol]] = index
    species = lookup[numbers]
    if (species < 0).any():
        unknown = [
            f"{chemical_symbols[z]} ({name_atoms(np.nonzero(numbers == z)[0])})"
            for z in np.unique(numbers[species < 0])
        ]
        raise UnknownElementError(f"the potential does not know {', '.join(unknown)}; it knows {', '.join(elements)}")
    return species
