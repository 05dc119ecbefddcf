"""Which operators of mlcalc a potential calls, and what it exchanges between layers: found out by running it."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import mlcalc.ops  # noqa: F401  (defines the operator)
from mlcalc.deploy._reference import reference_graph
from mlcalc.errors import SettingsError
from mlcalc.potentials.base import Potential


class _Watch(TorchDispatchMode):
    """Writes down the calls of mlcalc's operators, and the numbers per atom of every exchange."""

    def __init__(self) -> None:
        super().__init__()
        self.widths: list[int] = []
        self.operators: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.mlcalc.exchange.default:
            (features,) = args
            self.widths.append(features[:1].numel())
        elif func.namespace == "mlcalc":
            self.operators.add(func._opname)
        return func(*args, **(kwargs or {}))


def calls(potential: Potential) -> tuple[int, list[str]]:
    """Return the most numbers per atom in one exchange, 0 if there is none, and the names of other operators called.

    What a potential declares as ``exchange_width`` counts where it is larger: a family may run another member.

    Args:
        potential: float64.

    Raises:
        SettingsError: the potential declares exchanges and makes none, or makes too few for its layers, so that on
            several ranks features of ghosts would be wrong.
    """
    info = potential.info
    declared = int(getattr(potential, "exchange_width", 0))
    graph = reference_graph(info, torch.float64)
    with torch.no_grad(), _Watch() as watch:
        potential(graph.species, graph.edge_index, graph.edge_vectors, {"batch": graph.batch, **graph.tables})
    calls, name = len(watch.widths), info.name or type(potential).__name__
    if declared > 0 and calls == 0:
        raise SettingsError(
            f"{name} declares exchange_width {declared} but never calls mlcalc.ops.exchange; call it before each layer "
            "that reads neighbours' features, or do not declare it"
        )
    if 0 < calls < info.layers - 1 and len(info.element_sets) < 2:
        raise SettingsError(
            f"{name} declares {info.layers} layers, which need {info.layers - 1} exchanges of features, and makes "
            f"{calls}: call mlcalc.ops.exchange before each layer that reads neighbours' features"
        )
    return max([declared, *watch.widths]), sorted(watch.operators)
