"""Registering the operators: C++ where it is there, plain torch elsewhere."""

from __future__ import annotations

import warnings
from functools import lru_cache

import torch
from torch import library

from mlcalc.errors import CompilerError
from mlcalc.native import enabled, operators_library
from mlcalc.ops import convolution, density, gaunt, mix


@lru_cache(maxsize=1)
def fused() -> bool:
    """Register all operators, the first time, and return whether networks are to call them: whether they are C++.

    They are not with ``MLCALC_OPS=0``, even where LAMMPS, inside this process, has brought the C++ ones; and not where
    there is no C++ compiler, which is warned of: everything works as it does with them, slower.
    """
    native = _load() or torch._C._dispatch_has_kernel("mlcalc::convolve")
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


def _load() -> bool:
    """Load the C++ operators, which are compiled the first time; return whether that went well."""
    if not enabled():
        return False
    try:
        torch.ops.load_library(str(operators_library()))
    except (CompilerError, OSError) as error:  # OSError: it cannot be loaded here
        warnings.warn(f"plain torch instead of compiled operators, which is slower: {error}", stacklevel=3)
        return False
    return True
