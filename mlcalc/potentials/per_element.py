"""Several potentials behind one name, each for its own set of elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Dict, Optional

import torch
from torch import Tensor

from mlcalc.errors import UnknownElementError
from mlcalc.potentials.base import Potential, PotentialInfo


class PerElement(Potential):
    """Routes each structure to the member that knows its elements; sets of elements never mix.

    If all atoms belong to one member (a calculator, an MD run) that member sees the tensors as they come, without
    edges beyond its own cutoff. In a batch of different structures each member gets its own atoms and edges.

    In a distributed run every rank must make the same exchanges. A rank without atoms cannot tell which member the
    others use, so the LAMMPS plugin gives it one foreign node of an element in the run; without any node the first
    member runs. Members must have equal layers and widths: if they differ, ``exchange_width`` is −1 and ``export`` asks
    for a single set. All atoms of a distributed run must belong to one set, ghosts included.

    Args:
        members: potentials whose element sets do not overlap; their own ``element_sets`` must be empty.
        name: short name of the whole.

    Raises:
        ValueError: if there is no member, sets overlap, members are nested, differ in dtype, or need index tables or
            per-structure inputs.
    """

    def __init__(self, members: Sequence[Potential], name: str = "") -> None:
        super().__init__()
        _validate(members)
        elements = tuple(symbol for member in members for symbol in member.info.elements)
        self.members = torch.nn.ModuleList(members)
        self.info = _join([member.info for member in members], name)
        self.config = {
            "architecture": "per_element",
            "members": [{"config": member.config, "info": member.info.to_dict()} for member in members],
        }
        widths = {(member.info.layers, int(getattr(member, "exchange_width", 0))) for member in members}
        self.exchange_width = widths.pop()[1] if len(widths) == 1 else -1
        self.cutoffs = [float(member.info.cutoff) for member in members]
        self.cutoff = max(self.cutoffs)
        self.n_members = len(members)
        member_of = [m for m, member in enumerate(members) for _ in member.info.elements]
        local = [s for member in members for s in range(len(member.info.elements))]
        self.member_of = torch.nn.Buffer(torch.tensor(member_of, dtype=torch.int64), persistent=False)
        self.local = torch.nn.Buffer(torch.tensor(local, dtype=torch.int64), persistent=False)
        self.mixing = (
            f"atoms of different sets are neighbours; of {', '.join(elements)} only these may occur together: "
            + " | ".join(" ".join(member.info.elements) for member in members)
        )

    def parts(self) -> list[Potential]:
        """Return the members."""
        return [member for member in self.members if isinstance(member, Potential)]

    def forward(
        self, species: Tensor, edge_index: Tensor, edge_vectors: Tensor, extra: Optional[Dict[str, Tensor]] = None
    ) -> Tensor:
        """Return (N,) energies in eV; see ``Potential.forward``.

        Raises:
            UnknownElementError: if an edge connects different sets.
        """
        member = self.member_of[species]
        local = self.local[species]
        only = -1
        if species.shape[0] == 0:
            only = 0
        elif bool((member == member[0]).all()):
            only = int(member[0])
        if only < 0:
            return self._each(member, local, edge_index, edge_vectors, extra)
        energies = edge_vectors.new_zeros(0)
        for m, potential in enumerate(self.members):
            if m == only:
                if self.cutoffs[m] < self.cutoff:
                    near = torch.linalg.norm(edge_vectors, dim=1) < self.cutoffs[m]
                    energies = potential(local, edge_index[:, near], edge_vectors[near], extra)
                else:
                    energies = potential(local, edge_index, edge_vectors, extra)
        return energies

    def _each(
        self,
        member: Tensor,
        local: Tensor,
        edge_index: Tensor,
        edge_vectors: Tensor,
        extra: Optional[Dict[str, Tensor]],
    ) -> Tensor:
        """Run every member that has atoms on those alone."""
        n = member.shape[0]
        if extra is not None and "owned" in extra:
            n = extra["owned"].shape[0]
        of_edge = member[edge_index[0]]
        if bool((of_edge != member[edge_index[1]]).any()):
            raise UnknownElementError(self.mixing)
        length = torch.linalg.norm(edge_vectors, dim=1)
        graded = extra is not None and "grade" in extra
        energies, grades = edge_vectors.new_zeros(n), edge_vectors.new_zeros(n)
        for m, potential in enumerate(self.members):
            atoms = torch.nonzero(member == m).flatten()
            if atoms.shape[0] > 0:
                edges = torch.nonzero((of_edge == m) & (length < self.cutoffs[m])).flatten()
                row = torch.zeros_like(member)
                row[atoms] = torch.arange(atoms.shape[0], device=atoms.device)
                owned = atoms[atoms < n]
                given: Dict[str, Tensor] = {"owned": owned}
                if graded:
                    given["grade"] = edge_vectors.new_zeros(0)
                found = potential(local[atoms], row[edge_index[:, edges]], edge_vectors[edges], given)
                energies = energies.index_add(0, owned, found[: owned.shape[0]])
                if graded:
                    grades = grades.index_copy(0, owned, given["grade"])
        if extra is not None and graded:
            extra["grade"] = grades
        return energies


def _validate(members: Sequence[Potential]) -> None:
    if not members:
        raise ValueError("no potentials to join")
    seen: set[str] = set()
    for member in members:
        if member.info.element_sets:
            raise ValueError(
                f"{member.info.name or 'a member'} is itself divided into sets of elements; join its members"
            )
        if member.info.needs or member.info.inputs:
            raise ValueError(f"{member.info.name or 'a member'} needs index tables or inputs, which cannot be routed")
        twice = seen.intersection(member.info.elements)
        if twice:
            raise ValueError(f"more than one potential for {', '.join(sorted(twice))}")
        seen.update(member.info.elements)
    dtypes = {str(member.dtype) for member in members}
    if len(dtypes) > 1:
        raise ValueError(f"potentials of different dtype ({', '.join(sorted(dtypes))}); convert them to one")


def _join(infos: Sequence[PotentialInfo], name: str) -> PotentialInfo:
    def common(values: list[str]) -> str:
        return values[0] if len(set(values)) == 1 else "; ".join(dict.fromkeys(values))

    return PotentialInfo(
        elements=tuple(symbol for info in infos for symbol in info.elements),
        cutoff=max(info.cutoff for info in infos),
        layers=max(info.layers for info in infos),
        name=name,
        outputs=tuple(output for output in infos[0].outputs if all(output in info.outputs for info in infos)),
        element_sets=tuple(info.elements for info in infos),
        energy_scale=common([info.energy_scale for info in infos]),
        min_distance=min(info.min_distance for info in infos),
        licence=common([info.licence for info in infos]),
        training_data=common([info.training_data for info in infos]),
        provenance={info.name or " ".join(info.elements): info.provenance for info in infos},
    )
