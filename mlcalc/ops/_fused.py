"""Registering the operators that C++ does where it is there, and plain torch elsewhere."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import library

from mlcalc.native import enabled
from mlcalc.ops import convolution, density, gaunt, mix
from mlcalc.ops._library import native_operators


@lru_cache(maxsize=1)
def fused() -> bool:
    """Register all operators, the first time, and return whether networks are to call them: whether they are C++.

    With ``MLCALC_OPS=0`` LAMMPS, inside this process, may have brought the C++ ones; no network calls them then.
    """
    native = native_operators() or torch._C._dispatch_has_kernel("mlcalc::convolve")
    operators = library.Library("mlcalc", "FRAGMENT")
    _KEPT.append(operators)
    for module in (convolution, density, gaunt, mix):
        if native:
            for name, fake in module.FAKES.items():
                library.register_fake(f"mlcalc::{name}", fake, lib=operators)
        else:
            for schema, plain in module.PLAIN.items():
                operators.define(schema)
                operators.impl(schema.split("(", 1)[0], plain, "CompositeImplicitAutograd")
    return native and enabled()


_KEPT: list[library.Library] = []  # registrations go with their library
