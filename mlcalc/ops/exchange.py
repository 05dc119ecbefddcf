"""The operator that brings features of ghost atoms up to date between message-passing layers.

In one process every atom a network sees is owned, so ``mlcalc::exchange`` is the identity. Inside LAMMPS the plugin
replaces the kernels: forward sends the features of owned atoms to their ghosts on all ranks, backward returns the
gradients of ghosts to their owners. The schema is registered here only if nobody (the plugin, when LAMMPS runs inside
Python) has done it before.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SCHEMA = "mlcalc::exchange"


def _register() -> torch.library.Library | None:
    if torch._C._dispatch_has_kernel(_SCHEMA):
        return None
    library = torch.library.Library("mlcalc", "FRAGMENT")
    library.define("exchange(Tensor features) -> Tensor")
    # Composite, so that autograd, fake tensors and export see through it; the plugin's explicit CPU and AutogradCPU
    # kernels take precedence when they are there.
    library.impl("exchange", lambda features: features.view_as(features), "CompositeImplicitAutograd")
    return library


_LIBRARY = _register()  # kept alive: its registrations go with it


def exchange(features: Tensor) -> Tensor:
    """Return ``features`` (N, …) with the rows of ghost atoms taken from their owners.

    Every layer that reads neighbours' features calls this once, on every rank, whatever its number of atoms and edges,
    so that ranks never wait for each other in vain.
    """
    return torch.ops.mlcalc.exchange(features)
