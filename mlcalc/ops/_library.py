"""Loading the C++ operators into torch, or registering plain ones in their place."""

from __future__ import annotations

import warnings
from functools import lru_cache

import torch

from mlcalc.errors import CompilerError
from mlcalc.native import enabled, operators_library


@lru_cache(maxsize=1)
def native_operators() -> bool:
    """Return whether the C++ operators are there, loading (and at the first time compiling) them.

    They are not with ``MLCALC_OPS=0`` and where there is no C++ compiler, which is warned of: everything works as it
    does with them, slower.
    """
    if not enabled():
        return False
    try:
        torch.ops.load_library(str(operators_library()))
    except (CompilerError, OSError) as error:  # OSError: it cannot be loaded here
        warnings.warn(f"plain torch instead of compiled operators, which is slower: {error}", stacklevel=2)
        return False
    return True
