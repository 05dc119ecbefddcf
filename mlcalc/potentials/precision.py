"""The two number types of potentials: their names, and a potential rebuilt in one of them."""

from __future__ import annotations

import copy

import torch

from mlcalc.errors import SettingsError
from mlcalc.potentials.base import Potential
from mlcalc.potentials.neural import NeuralPotential
from mlcalc.potentials.per_element import PerElement
from mlcalc.potentials.registry import build

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def parse_dtype(value: str | torch.dtype) -> torch.dtype:
    """Return the torch type of ``"float32"`` or ``"float64"``, or of either itself.

    Raises:
        SettingsError: for any other type.
    """
    if isinstance(value, torch.dtype) and value in DTYPES.values():
        return value
    if isinstance(value, str) and value in DTYPES:
        return DTYPES[value]
    raise SettingsError(f"dtype must be float32 or float64, not {value!r}")


def dtype_name(dtype: str | torch.dtype) -> str:
    """Return ``"float32"`` or ``"float64"``; raises as ``parse_dtype``."""
    return str(parse_dtype(dtype)).removeprefix("torch.")


def in_dtype(potential: Potential, dtype: torch.dtype) -> Potential:
    """Return a copy in evaluation mode, on the CPU, without gradients of weights.

    A network is rebuilt rather than converted, so that its tables (coupling coefficients) are exact in ``dtype``.
    """
    if isinstance(potential, NeuralPotential) and "architecture" in potential.config:
        result: Potential = build(potential.config, potential.info, dtype)
        result.load_state_dict(potential.state_dict())
    elif isinstance(potential, PerElement):
        members = [in_dtype(member, dtype) for member in potential.parts()]
        result = PerElement(members, potential.info.name)
    else:
        with torch.no_grad():  # or parameters of a TorchScript program inside become results of a copy
            result = copy.deepcopy(potential).to(dtype)
    return result.cpu().eval().requires_grad_(False)
