"""Networks as others write them, in plain torch: message passing with and without the exchange operator."""

from typing import Dict, Optional

import torch
from torch import Tensor, nn

from mlcalc.potentials.base import Potential, PotentialInfo


class _Layer(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weigh = nn.Linear(4, channels, bias=False)
        self.update = nn.Linear(channels, channels)

    def forward(self, features: Tensor, edge_index: Tensor, radial: Tensor) -> Tensor:
        messages = self.weigh(radial) * features[edge_index[1]]
        return features + torch.tanh(self.update(torch.zeros_like(features).index_add(0, edge_index[0], messages)))


class Plain(Potential):
    """Layers of messages added up at their receivers; every node it is given is a centre."""

    def __init__(self, layers: int, cutoff: float, channels: int = 6, exchanges: bool = False) -> None:
        super().__init__()
        self.config = {"layers": layers, "cutoff": cutoff, "channels": channels}
        self.info = PotentialInfo(elements=("Si", "Mo"), cutoff=cutoff, layers=layers, name="plain")
        self.cutoff = cutoff
        self.exchanges = exchanges
        self.embedding = nn.Embedding(2, channels)
        self.layers = nn.ModuleList([_Layer(channels) for _ in range(layers)])
        self.readout = nn.Linear(channels, 1)

    def forward(
        self, species: Tensor, edge_index: Tensor, edge_vectors: Tensor, extra: Optional[Dict[str, Tensor]] = None
    ) -> Tensor:
        r = torch.linalg.norm(edge_vectors, dim=1) / self.cutoff
        window = torch.where(r < 1.0, (1.0 - r**2) ** 3, torch.zeros_like(r))
        radial = torch.stack([torch.cos(k * r) for k in range(1, 5)], dim=1) * window.unsqueeze(1)
        features = self.embedding(species)
        for number, layer in enumerate(self.layers):
            if self.exchanges and number > 0:
                features = torch.ops.mlcalc.exchange(features)
            features = layer(features, edge_index, radial)
        return self.readout(features).squeeze(1)


class Failing(Potential):
    """Two layers and an exchange; where two atoms are closer than 1 Å it fails in one of the ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.config = {"way": way}
        self.info = PotentialInfo(elements=("Si",), cutoff=4.0, layers=2, name="failing")
        self.way = way
        self.weight = nn.Parameter(torch.tensor([0.3], dtype=torch.float64))

    def forward(
        self, species: Tensor, edge_index: Tensor, edge_vectors: Tensor, extra: Optional[Dict[str, Tensor]] = None
    ) -> Tensor:
        r = torch.linalg.norm(edge_vectors, dim=1)
        features = torch.zeros_like(species, dtype=r.dtype).index_add(0, edge_index[0], (1.0 - r / 4.0) ** 3)
        if bool((r < 1.0).any()):
            if self.way == "raise":
                raise RuntimeError("no such environment")
            elif self.way == "memory":
                features = features + torch.zeros([1 << 50]).sum()
            else:
                features = features * float("nan")
        features = torch.ops.mlcalc.exchange(features)
        return features * self.weight + torch.zeros_like(features).index_add(
            0, edge_index[0], features[edge_index[1]] * (1.0 - r / 4.0) ** 3
        )


class Forking(Potential):
    """Exchanges on another thread."""

    def __init__(self) -> None:
        super().__init__()
        self.config = {}
        self.info = PotentialInfo(elements=("Si",), cutoff=4.0, layers=2, name="forking")
        self.weight = nn.Parameter(torch.tensor([0.3], dtype=torch.float64))

    def forward(
        self, species: Tensor, edge_index: Tensor, edge_vectors: Tensor, extra: Optional[Dict[str, Tensor]] = None
    ) -> Tensor:
        r = torch.linalg.norm(edge_vectors, dim=1)
        features = torch.zeros_like(species, dtype=r.dtype).index_add(0, edge_index[0], (1.0 - r / 4.0) ** 3)
        features = torch.jit.wait(torch.jit.fork(_exchange, features * self.weight))
        return torch.zeros_like(features).index_add(0, edge_index[0], features[edge_index[1]] * (1.0 - r / 4.0) ** 3)


def _exchange(features: Tensor) -> Tensor:
    return torch.ops.mlcalc.exchange(features)
