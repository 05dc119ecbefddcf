"""Universal screened nuclear repulsion of Ziegler, Biersack and Littmark, for atoms closer than any bond.

J. F. Ziegler, J. P. Biersack and U. Littmark, *The Stopping and Range of Ions in Matter*, vol. 1 (Pergamon, 1985).
"""

from __future__ import annotations

from typing import Dict, Optional

import torch
from ase.data import atomic_numbers, covalent_radii
from torch import Tensor

from mlcalc.errors import UnknownElementError
from mlcalc.potentials.base import Potential, PotentialInfo

COULOMB = 14.399645478425668  # e²/(4πε₀), eV·Å (CODATA 2018)
DEFAULT_FRACTION = 0.8  # of the sum of covalent radii: closer than thermal bonds of every common solid and molecule


class ZBL(Potential):
    """ZBL pair repulsion, switched off smoothly below bonding distances.

    E_i = ½ Σ_j k Z_i Z_j / r · φ(r/a) · s(r/r_out), with a = 0.4685 Å / (Z_i^0.23 + Z_j^0.23), φ the universal
    screening function (four exponentials), s = 1 − 10x³ + 15x⁴ − 6x⁵ (twice continuously differentiable), and r_out a
    fraction of the sum of covalent radii (``ase.data``).

    Args:
        elements: chemical symbols in the order of the species indices.
        fraction: r_out over the sum of the two covalent radii.
        dtype: of the constants; None is torch's default.

    Raises:
        UnknownElementError: if a symbol is not a chemical element.
        ValueError: if ``fraction`` is not positive.
    """

    def __init__(
        self, elements: tuple[str, ...], fraction: float = DEFAULT_FRACTION, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        unknown = [symbol for symbol in elements if symbol not in atomic_numbers]
        if unknown:
            raise UnknownElementError(f"not chemical elements: {', '.join(unknown)}")
        if not fraction > 0:
            raise ValueError(f"fraction of the covalent distance must be positive, not {fraction}")
        numbers = torch.tensor([atomic_numbers[symbol] for symbol in elements], dtype=torch.float64)
        radii = torch.tensor([covalent_radii[atomic_numbers[symbol]] for symbol in elements], dtype=torch.float64)
        power = numbers**0.23
        dtype = dtype or torch.get_default_dtype()
        self.charges = torch.nn.Buffer((COULOMB * torch.outer(numbers, numbers)).reshape(-1).to(dtype))
        self.inverse_lengths = torch.nn.Buffer(((power[:, None] + power) / 0.46850).reshape(-1).to(dtype))
        self.outer = torch.nn.Buffer((fraction * (radii[:, None] + radii)).reshape(-1).to(dtype))
        self.exchange_width = 0
        self.n_elements = len(elements)
        cutoff = float(fraction * 2 * radii.max()) if len(elements) else 0.0
        self.info = PotentialInfo(
            elements=tuple(elements), cutoff=cutoff, layers=0, name="zbl", energy_scale="ZBL repulsion", licence="MIT"
        )
        self.config = {"architecture": "zbl", "fraction": fraction}

    def forward(
        self, species: Tensor, edge_index: Tensor, edge_vectors: Tensor, extra: Optional[Dict[str, Tensor]] = None
    ) -> Tensor:
        """Return (N,) energies in eV, half of each pair's energy on each of its two atoms."""
        n = species.shape[0]
        if extra is not None and "owned" in extra:
            n = extra["owned"].shape[0]
        pair = species[edge_index[0]] * self.n_elements + species[edge_index[1]]
        outer = self.outer[pair]
        # Beyond its range the switch is zero; so near it no exponential is so small that processors take their time.
        distance = torch.minimum(torch.linalg.norm(edge_vectors, dim=1), outer)
        energy = 0.5 * self.bare(pair, distance) * _switch(distance / outer)
        return edge_vectors.new_zeros(n).index_add(0, edge_index[0], energy)

    def bare(self, pair: Tensor, distance: Tensor) -> Tensor:
        """Return the unswitched pair energy (E,) in eV.

        Args:
            pair: (E,) int64, species_i · K + species_j.
            distance: (E,) in Å.
        """
        x = distance * self.inverse_lengths[pair]
        screening = (
            0.18175 * torch.exp(-3.19980 * x)
            + 0.50986 * torch.exp(-0.94229 * x)
            + 0.28022 * torch.exp(-0.40290 * x)
            + 0.02817 * torch.exp(-0.20162 * x)
        )
        return self.charges[pair] * screening / distance


def _switch(x: Tensor) -> Tensor:
    """Go from 1 at x = 0 to 0 at x = 1 and beyond, with two vanishing derivatives at both ends."""
    x = torch.clamp(x, max=1.0)
    return 1.0 - x * x * x * (10.0 + x * (6.0 * x - 15.0))
