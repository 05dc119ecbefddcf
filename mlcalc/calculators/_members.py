"""What a calculator evaluates: one potential, or the members of a committee side by side."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlcalc.calculators import _blocks
from mlcalc.calculators._checks import read_inputs
from mlcalc.deploy.tables import with_tables
from mlcalc.errors import SettingsError
from mlcalc.graphs import Graph, VerletList, species_indices
from mlcalc.graphs.build import assemble
from mlcalc.potentials.base import Potential, PotentialInfo
from mlcalc.potentials.derivatives import forces

Source = str | os.PathLike[str] | Potential
Array = NDArray[np.float64]


@dataclass
class Evaluation:
    """What is known about one structure; quantities of K members come first by member.

    Attributes:
        graphs: of each member, float64.
        volume: Å³, None unless periodic along three axes.
        energies: (K, N) eV, empty before they are computed.
        forces: (K, N, 3) eV/Å, empty before.
        gradients: g_e = ∂E/∂r_e of each member, (E, 3) float64; empty before.
        grades: (N,) the largest extrapolation grade of the members that have one.
    """

    graphs: list[Graph]
    volume: float | None
    energies: Array = field(default_factory=lambda: np.zeros((0, 0)))
    forces: Array = field(default_factory=lambda: np.zeros((0, 0, 3)))
    gradients: list[Tensor] = field(default_factory=list)
    grades: Array | None = None


class Members:
    """Private copies of potentials, ready to be evaluated.

    Args:
        source: what ``mlcalc.load`` takes, or a list of such.
        dtype: of all; None keeps that of each.
        device: where they run.
        tables: tables in the place of radial networks; None makes them in float32 on the CPU.

    Attributes:
        potentials: the copies.
        names: what each was asked for as, for records.
        info: what holds for them together; of one potential, its own.

    Raises:
        ModelFileError: a potential cannot be found or loaded.
        SettingsError: an empty list, or members that do not fit together.
    """

    def __init__(
        self,
        source: Source | Sequence[Source],
        dtype: str | torch.dtype | None,
        device: torch.device,
        tables: bool | None = None,
    ) -> None:
        from mlcalc.zoo import load

        sources = [source] if isinstance(source, str | os.PathLike | Potential) else list(source)
        if not sources:
            raise SettingsError("a committee needs members: the list of potentials is empty")
        self.device = device
        #: What records say beside number type and names: tables, where they were asked for or refused.
        self.parameters = {} if tables is None else {"tables": tables}
        self.names: list[str] = []
        potentials = []
        for one in sources:
            # ``load`` rebuilds a network for another dtype, so that its coupling coefficients are exact in it; where
            # nothing had to change it returns the caller's own object.
            loaded = load(one, dtype=dtype)
            kind = type(loaded).__name__
            self.names.append(loaded.info.name or kind if isinstance(one, Potential) else os.fspath(one))
            ready = _tabulated(loaded, device, tables)
            potentials.append((copy.deepcopy(ready) if ready is loaded else ready).to(device=device))
            potentials[-1].requires_grad_(False)
            potentials[-1].eval()
        self.potentials: tuple[Potential, ...] = tuple(potentials)
        self._dtypes = [potential.dtype for potential in potentials]  # each is a walk through all of its parts
        infos = [potential.info for potential in potentials]
        self.info = infos[0] if len(infos) == 1 else combined_info(infos, self.names)

    def pairs(self) -> Iterator[tuple[Potential, torch.dtype]]:
        """Yield each potential with its number type."""
        return zip(self.potentials, self._dtypes, strict=True)

    def look_at(
        self,
        numbers: NDArray[np.int64],
        edges: tuple[NDArray[np.int64], Array, NDArray[np.int64]],
        verlet: VerletList,
        values: Mapping[str, Any],
        volume: float | None,
    ) -> Evaluation:
        """Return the graphs of a structure: to each member its species, its inputs, the edges within its cutoff.

        Args:
            numbers: (N,) atomic numbers.
            edges: what ``verlet.update`` gave.
            verlet: list for the largest cutoff.
            values: where per-structure inputs are read.
            volume: Å³ or None.
        """
        graphs = []
        for potential in self.potentials:
            info = potential.info
            edge_index, vectors, shifts = edges
            if info.cutoff < verlet.cutoff:
                keep = np.flatnonzero(verlet.squared_lengths < info.cutoff**2)
                edge_index, vectors, shifts = edge_index[:, keep], vectors[keep], shifts[keep]
            graphs.append(
                assemble(
                    species_indices(numbers, info.elements),
                    edge_index,
                    vectors,
                    shifts,
                    info.needs,
                    torch.float64,
                    self.device,
                    read_inputs(info, values),
                )
            )
        return Evaluation(graphs, volume)

    def evaluate(self, now: Evaluation, with_forces: bool) -> None:
        """Fill in energies and grades, and forces and gradients if wanted: one derivative a member."""
        energies, grades, all_forces, all_gradients = [], [], [], []
        for (potential, dtype), graph in zip(self.pairs(), now.graphs, strict=True):
            graded = "grade" in potential.info.outputs
            outputs = {"grade": torch.empty(0, device=self.device)} if graded else {}
            values, gradients = _blocks.evaluate(potential, graph.to(dtype=dtype), outputs, with_forces)
            if with_forces:
                gradients = gradients.to(torch.float64)
                all_gradients.append(gradients)
                all_forces.append(as_array(forces(gradients, graph.edge_index, graph.n_atoms)))
            energies.append(as_array(values))
            grades += [as_array(grade) for grade in outputs.values()]
        now.energies = np.stack(energies)
        now.grades = np.max(grades, axis=0) if grades else None
        if with_forces:
            now.forces, now.gradients = np.stack(all_forces), all_gradients


def as_array(tensor: Tensor) -> Array:
    """Return a float64 array on the CPU."""
    return tensor.detach().to(device="cpu", dtype=torch.float64).numpy()


def _tabulated(potential: Potential, device: torch.device, tables: bool | None) -> Potential:
    if tables is None:
        if potential.dtype != torch.float32 or device.type != "cpu":
            return potential
        try:
            return with_tables(potential)[0]
        except SettingsError:  # the bound is not met: better slow than other than the caller thinks
            return potential
    return with_tables(potential)[0] if tables else potential


def combined_info(infos: Sequence[PotentialInfo], names: Sequence[str]) -> PotentialInfo:
    """Return what holds for the members of a committee together.

    Elements and sets of elements are those that all members know, cutoff and closest training distance the largest.

    Raises:
        SettingsError: energies of the members mean different things, or they share no element.
    """
    first = infos[0]
    for info, name in zip(infos, names, strict=True):
        if info.energy_scale != first.energy_scale:
            raise SettingsError(
                f"members of a committee must mean the same by energy: {names[0]} says {first.energy_scale!r}, {name} "
                f"says {info.energy_scale!r}"
            )
    elements = tuple(symbol for symbol in first.elements if all(symbol in info.elements for info in infos))
    if not elements:
        raise SettingsError(f"{', '.join(names)} have no element in common")
    sets = [first.elements] if not first.element_sets else list(first.element_sets)
    for info in infos[1:]:
        others = info.element_sets or (info.elements,)
        shared = [tuple(symbol for symbol in group if symbol in other) for group in sets for other in others]
        sets = list(dict.fromkeys(group for group in shared if group))
    whole = any(set(elements) <= set(group) for group in sets)

    called = [info.name or name for info, name in zip(infos, names, strict=True)]

    def union(values: Sequence[Sequence[str]]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(item for group in values for item in group))

    return PotentialInfo(
        elements=elements,
        cutoff=max(info.cutoff for info in infos),
        layers=max(info.layers for info in infos),
        name=f"the committee of {', '.join(union([called]))}",
        needs=union([info.needs for info in infos]),
        inputs=union([info.inputs for info in infos]),
        outputs=union([info.outputs for info in infos]),
        element_sets=() if whole else tuple(sets),
        energy_scale=first.energy_scale,
        min_distance=max(info.min_distance for info in infos),
        licence="; ".join(union([[info.licence] for info in infos])),
        training_data="; ".join(union([[info.training_data] for info in infos])),
        provenance={"members": [info.provenance for info in infos]},
    )
