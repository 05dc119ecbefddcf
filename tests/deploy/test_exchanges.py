"""A model file says truly how its program exchanges features, whatever the potential declares."""

from pathlib import Path
from typing import Dict, Optional

import pytest
import torch
from torch import Tensor, nn

from mlcalc.deploy import export, read_document
from mlcalc.errors import SettingsError
from mlcalc.potentials.base import Potential, PotentialInfo


class Sums(Potential):
    """As many layers as wanted, with ``calls`` exchanges of rows of 3 x 2 numbers."""

    def __init__(self, layers: int, calls: int, declared: Optional[int] = None) -> None:
        super().__init__()
        self.config = {}
        self.info = PotentialInfo(elements=("Si",), cutoff=4.0, layers=layers, name="sums")
        self.layers, self.calls = layers, calls
        if declared is not None:
            self.exchange_width = declared
        self.weight = nn.Parameter(torch.tensor(0.2, dtype=torch.float64))

    def forward(
        self, species: Tensor, edge_index: Tensor, edge_vectors: Tensor, extra: Optional[Dict[str, Tensor]] = None
    ) -> Tensor:
        window = (1.0 - torch.linalg.norm(edge_vectors, dim=1) / 4.0).reshape(-1, 1, 1) ** 2
        features = self.weight * torch.ones([species.shape[0], 3, 2], dtype=edge_vectors.dtype)
        for layer in range(self.layers):
            if 0 < layer <= self.calls:
                features = torch.ops.mlcalc.exchange(features)
            features = features + torch.zeros_like(features).index_add(
                0, edge_index[0], window * features[edge_index[1]]
            )
        return features.sum(dim=[1, 2])


@pytest.mark.parametrize(
    ("layers", "calls", "declared", "width"),
    [(3, 2, None, 6), (3, 2, 1, 6), (3, 2, 8, 8), (3, 0, None, 0), (1, 0, 0, 0)],
)
def test_width_is_measured(layers: int, calls: int, declared: Optional[int], width: int, tmp_path: Path) -> None:
    export(Sums(layers, calls, declared), tmp_path / "sums.pt")
    assert read_document(tmp_path / "sums.pt")["exchange_width"] == width


def test_a_loaded_file_is_measured_as_the_potential_was(tmp_path: Path) -> None:
    """The operator is seen inside a TorchScript program too."""
    loaded = export(Sums(2, 1), tmp_path / "one.pt")
    del loaded.exchange_width
    export(loaded, tmp_path / "two.pt")
    assert read_document(tmp_path / "two.pt")["exchange_width"] == 6


def test_too_few_exchanges(tmp_path: Path) -> None:
    expected = (
        "sums declares 3 layers, which need 2 exchanges of features, and makes 1: call mlcalc.ops.exchange before"
    )
    with pytest.raises(SettingsError, match=expected):
        export(Sums(3, 1), tmp_path / "sums.pt")
    with pytest.raises(SettingsError, match=r"declares exchange_width 6 but never calls mlcalc\.ops\.exchange"):
        export(Sums(3, 0, 6), tmp_path / "sums.pt")
    assert not list(tmp_path.iterdir())
