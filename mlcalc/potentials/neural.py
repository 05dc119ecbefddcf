"""A trained network with everything that turns its numbers into energies: scale, reference energies, repulsion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Dict, Optional

import torch
from torch import Tensor

from mlcalc.potentials.base import Potential, PotentialInfo
from mlcalc.potentials.grade import ExtrapolationGrade
from mlcalc.potentials.zbl import ZBL


class NeuralPotential(Potential):
    """E_i = scale · network_i + reference[species_i] + ZBL_i.

    Args:
        network: module with the forward of ``Potential`` whose output is dimensionless, (N,); it has the integer
            attributes ``layers``, ``exchange_width`` (the most numbers per atom it passes to one ``exchange``) and
            ``n_descriptors`` (invariants per atom that it writes where ``extra`` asks for ``"descriptors"``; 0: none).
        info: what the potential declares.
        config: what rebuilds it: ``{"architecture": name, "network": keyword arguments, "zbl": bool, "grade": int}``,
            the last being the number of training environments that the extrapolation grade keeps (0 or absent: none).
        reference_energies: (K,) eV per atom of each element; zeros if not given. They are added last; in float32
            they limit an atomic energy to about 1e-7 of its size, so sum atomic energies in float64.
        scale: eV per unit of the network's output.

    Raises:
        ValueError: if the number of reference energies is not that of the elements, or the cutoff is shorter than the
            range of the repulsion.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        info: PotentialInfo,
        config: dict[str, Any],
        reference_energies: Tensor | Sequence[float] | None = None,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.info = info
        self.config = config
        self.network = network
        self.exchange_width = int(network.exchange_width)  # type: ignore[arg-type]
        dtype = next((p.dtype for p in network.parameters()), torch.get_default_dtype())
        landmarks = int(config.get("grade", 0))
        n_descriptors = int(getattr(network, "n_descriptors", 0))
        if landmarks and not n_descriptors:
            raise ValueError(f"{type(network).__name__} has no descriptors for an extrapolation grade")
        grade = ExtrapolationGrade(len(info.elements), n_descriptors, landmarks).to(dtype) if landmarks else None
        self.grade = grade
        self.scale = torch.nn.Buffer(torch.tensor(float(scale), dtype=dtype))
        self.reference_energies = torch.nn.Buffer(torch.zeros(len(info.elements), dtype=dtype))
        self.zbl = ZBL(info.elements, dtype=dtype) if config.get("zbl", False) else None
        if self.zbl is not None and self.zbl.info.cutoff > info.cutoff:
            raise ValueError(f"the cutoff of {info.cutoff} Å is inside the repulsion's {self.zbl.info.cutoff:.2f} Å")
        if reference_energies is not None:
            self.set_energies(reference_energies, scale)

    def set_energies(self, reference_energies: Tensor | Sequence[float], scale: float) -> None:
        """Set reference energies (K,) in eV and the scale in eV, as fitted to the training data."""
        values = torch.as_tensor(reference_energies, dtype=torch.float64)
        if values.shape != (len(self.info.elements),):
            raise ValueError(
                f"{len(self.info.elements)} elements ({', '.join(self.info.elements)}) need as many reference "
                f"energies, not an array of shape {tuple(values.shape)}"
            )
        self.reference_energies.copy_(values)
        self.scale.fill_(float(scale))

    def forward(
        self, species: Tensor, edge_index: Tensor, edge_vectors: Tensor, extra: Optional[Dict[str, Tensor]] = None
    ) -> Tensor:
        """Return energies in eV, of all atoms or, where the network was told, of the owned ones."""
        grade = self.grade
        graded = grade is not None and extra is not None and "grade" in extra
        if graded:
            assert extra is not None
            extra["descriptors"] = edge_vectors.new_zeros(0)
        energies = self.scale * self.network(species, edge_index, edge_vectors, extra)
        if graded:
            assert grade is not None
            assert extra is not None
            extra["grade"] = grade(extra["descriptors"], species[: energies.shape[0]])
        if self.zbl is not None:
            energies = energies + self.zbl(species, edge_index, edge_vectors, extra)
        return energies + self.reference_energies[species[: energies.shape[0]]]
