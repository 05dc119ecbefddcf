"""The contract every potential keeps: atomic energies from species and edge vectors."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Dict, Optional

import torch
from torch import Tensor

from mlcalc.ops import fused


@dataclass(frozen=True)
class PotentialInfo:
    """What a potential declares about itself.

    Attributes:
        elements: chemical symbols in the order of the species indices.
        cutoff: largest edge length the potential looks at, Å.
        layers: message-passing layers; an atom's energy depends on atoms up to ``layers * cutoff`` away.
        name: short name.
        needs: index tables wanted beside the edges, any of ``"reverse_edge"``, ``"triplets"``.
        inputs: named per-structure inputs, e.g. ``"total_charge"``.
        outputs: named per-atom outputs beside the energy, any of ``"grade"`` (the extrapolation grade).
        element_sets: which elements may occur together; empty means any of ``elements``.
        energy_scale: what the energies mean: functional, code, corrections, references.
        min_distance: closest pair distance seen in training, Å (0 if unknown).
        licence: licence of the weights.
        training_data: where the data came from.
        provenance: anything else worth keeping (command, version, date, hashes).
    """

    elements: tuple[str, ...]
    cutoff: float
    layers: int
    name: str = ""
    needs: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    element_sets: tuple[tuple[str, ...], ...] = ()
    energy_scale: str = "unknown"
    min_distance: float = 0.0
    licence: str = "unknown"
    training_data: str = "unknown"
    provenance: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary; ``from_dict`` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PotentialInfo:
        """Build from ``to_dict`` output (lists become tuples)."""
        values = dict(values)
        for key in ("elements", "needs", "inputs", "outputs"):
            values[key] = tuple(values.get(key, ()))
        values["element_sets"] = tuple(tuple(group) for group in values.get("element_sets", ()))
        return cls(**values)


class Potential(torch.nn.Module):
    """Base class: a module that turns species and edge vectors into atomic energies.

    Subclasses set ``info`` and ``config`` (keyword arguments that rebuild the module, JSON-ready) and implement
    ``forward``. They must be scriptable by ``torch.jit.script`` and must accept no atoms, one atom and no edges.
    """

    info: PotentialInfo
    config: dict[str, Any]

    # Python-only members, which torch.jit.script must not look at. Subclasses annotate buffers inside __init__: class
    # annotations are strings here, and TorchScript cannot read those.
    __jit_ignored_attributes__ = ("info", "config")
    __jit_unused_properties__ = ("dtype",)

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the weights, which is also that of edge vectors and energies."""
        return next(t.dtype for t in (*self.parameters(), *self.buffers()) if t.is_floating_point())

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled potential; the operators it calls may not be registered in this process yet."""
        super().__setstate__(state)
        if any(getattr(module, "fused", False) for module in self.modules()):
            fused()

    def forward(
        self, species: Tensor, edge_index: Tensor, edge_vectors: Tensor, extra: Optional[Dict[str, Tensor]] = None
    ) -> Tensor:
        """Return atomic energies.

        Args:
            species: (N,) int64, indices into ``info.elements``.
            edge_index: (2, E) int64; row 0 the centre i (receiver), row 1 the neighbour j (sender). Sorted by centre.
            edge_vectors: (E, 3), r_j + S·cell − r_i in Å.
            extra: index tables and per-structure inputs the potential declared: ``"reverse_edge"`` (E,),
                ``"triplets"`` (T, 2) pairs of edges with a common centre, ``"batch"`` (N,) structure of each atom,
                and each of ``info.inputs`` with shape (B,). In a distributed run ``"owned"`` (n,) says that only the
                first n atoms are centres; the others are ghosts. Under the name of one of ``info.outputs``, any tensor
                asks for that output, which is put in its place, (N,) or (n,).

        Returns:
            (N,) energies in eV, or (n,) where ``extra`` says how many atoms are owned.
        """
        raise NotImplementedError
