"""Index tables that some potentials want beside the edges."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TABLES = ("reverse_edge", "triplets")


def index_tables(edge_index: Any, shifts: Any, needs: Iterable[str]) -> dict[str, Tensor]:
    """Return the index tables named in ``needs``.

    Args:
        edge_index: (2, E) centres and neighbours, array or tensor; sorted by centre if triplets are wanted.
        shifts: (E, 3) integer shifts, array or tensor.
        needs: any of ``"reverse_edge"``, (E,) the edge (j, i, −S) of each edge (i, j, S), and ``"triplets"``, (T, 2)
            all ordered pairs of distinct edges with a common centre, sorted by the first edge.

    Raises:
        ValueError: an unknown name, an edge without its reverse, or edges not sorted by centre.
    """
    edge_index, shifts = np.asarray(edge_index, dtype=np.int64), np.asarray(shifts, dtype=np.int64)
    tables: dict[str, Tensor] = {}
    for name in needs:
        if name == "reverse_edge":
            table = _reverse_edge(edge_index, shifts)
        elif name == "triplets":
            table = _triplets(edge_index[0])
        else:
            raise ValueError(f"unknown index table {name!r}; known: {', '.join(TABLES)}")
        tables[name] = torch.from_numpy(table)
    return tables


def _reverse_edge(edge_index: NDArray[np.int64], shifts: NDArray[np.int64]) -> NDArray[np.int64]:
    i, j = edge_index
    forward = np.column_stack([i, j, shifts])
    backward = np.column_stack([j, i, -shifts])
    # Sorted by their keys, the n-th edge and the n-th reversed edge are the same edge.
    by_forward, by_backward = np.lexsort(forward.T), np.lexsort(backward.T)
    if not np.array_equal(forward[by_forward], backward[by_backward]):
        raise ValueError("some edges have no reverse edge; index tables need a full neighbour list")
    table = np.empty(len(i), dtype=np.int64)
    table[by_backward] = by_forward
    return table


def _triplets(centres: NDArray[np.int64]) -> NDArray[np.int64]:
    if len(centres) and (np.diff(centres) < 0).any():
        raise ValueError("edges must be sorted by centre")
    _, start, inverse, degree = np.unique(centres, return_index=True, return_inverse=True, return_counts=True)
    partners = degree[inverse]
    first = np.repeat(np.arange(len(centres)), partners)
    rank = np.arange(len(first)) - np.repeat(np.cumsum(partners) - partners, partners)
    second = start[inverse[first]] + rank
    distinct = first != second
    return np.column_stack([first[distinct], second[distinct]]).astype(np.int64)
