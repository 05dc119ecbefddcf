"""Linear maps of channels within each degree, for small numbers of channels in one pass over the rows.

``mlcalc::mix`` can be differentiated any number of times. C++ does it where it is there; otherwise the function below.
"""

from __future__ import annotations

from typing import Any, List, Optional

import torch
from torch import Tensor

SCHEMA = "mix(Tensor x, Tensor weights, Tensor? set) -> Tensor"


def plain_mix(x: Tensor, weights: Tensor, set: Optional[Tensor]) -> Tensor:
    """``mlcalc::mix`` in plain torch; scriptable.

    Args:
        x: (N, (l_max + 1)², C), components of degrees 0 … l_max.
        weights: (S, l_max + 1, C, D).
        set: (N,) int64, which of the S each row takes; may be None if there is only one.

    Returns:
        (N, (l_max + 1)², D).
    """
    out: List[Tensor] = []
    for l in range(weights.shape[1]):
        weight = weights[0, l] if set is None else weights[:, l].index_select(0, set)
        out.append(torch.matmul(x.narrow(1, l * l, 2 * l + 1), weight))
    return torch.cat(out, dim=1)


def _fake_weight(x: Tensor, y: Tensor, set: Optional[Tensor], sets: int) -> Tensor:
    degrees = 0
    while degrees * degrees < x.shape[1]:
        degrees += 1
    return x.new_empty(sets, degrees, x.shape[2], y.shape[2])


PLAIN: dict[str, Any] = {SCHEMA: plain_mix}
FAKES: dict[str, Any] = {
    "mix": lambda x, weights, set: x.new_empty(x.shape[0], x.shape[1], weights.shape[3]),
    "mix_weight": _fake_weight,
}
