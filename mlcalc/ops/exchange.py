"""The operator that brings features of ghost atoms up to date between message-passing layers.

In one process every atom a network sees is owned, so ``mlcalc::exchange`` is the identity, and so is its derivative
``mlcalc::exchange_backward``. Inside LAMMPS the plugin replaces the kernels: forward sends the features of owned atoms
to their ghosts on all ranks, backward returns the gradients of ghosts to their owners. ``torch.export`` does not look
into either, so that compiled programs call them too. The schemas are registered here only if nobody (the plugin, when
LAMMPS runs inside Python) has done it before.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, library

_NAMES = ("exchange", "exchange_backward")


def _register() -> library.Library:
    operators = library.Library("mlcalc", "FRAGMENT")
    for name, other in zip(_NAMES, reversed(_NAMES), strict=True):
        if torch._C._dispatch_has_kernel(f"mlcalc::{name}"):
            continue
        operators.define(f"{name}(Tensor features) -> Tensor")
        # The plugin's explicit CPU and AutogradCPU kernels take precedence when they are there.
        operators.impl(name, lambda features: features.clone(), "CompositeExplicitAutograd")
        operators.impl(name, _autograd(name, other), "Autograd")
        library.register_fake(f"mlcalc::{name}", lambda features: torch.empty_like(features), lib=operators)
    return operators


def _autograd(name: str, other: str) -> Any:
    class Exchange(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, features: Tensor) -> Tensor:
            with torch._C._AutoDispatchBelowAutograd():
                return getattr(torch.ops.mlcalc, name)(features)

        @staticmethod
        def backward(context: Any, *gradients: Tensor) -> Tensor:
            return getattr(torch.ops.mlcalc, other)(gradients[0])

    return Exchange.apply


_LIBRARY = _register()  # kept alive: its registrations go with it


def exchange(features: Tensor) -> Tensor:
    """Return ``features`` (N, …) with the rows of ghost atoms taken from their owners.

    Every layer that reads neighbours' features calls this once, on every rank, whatever its number of atoms and edges,
    so that ranks never wait for each other in vain.
    """
    return torch.ops.mlcalc.exchange(features)
