"""Neighbour lists, Verlet skin, index tables and batches."""

from mlcalc.graphs.batched_verlet import BatchedEdges, BatchedVerletList
from mlcalc.graphs.build import build_graph, species_indices
from mlcalc.graphs.graph import Graph, collate
from mlcalc.graphs.neighbors import neighbor_list
from mlcalc.graphs.tables import index_tables
from mlcalc.graphs.verlet import VerletList

__all__ = [
    "BatchedEdges",
    "BatchedVerletList",
    "Graph",
    "VerletList",
    "build_graph",
    "collate",
    "index_tables",
    "neighbor_list",
    "species_indices",
]
