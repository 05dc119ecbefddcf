"""CHGNet's own calculator, in float64 too."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from chgnet.graph import converter
from chgnet.model import composition_model, model
from chgnet.model.dynamics import CHGNetCalculator


@contextmanager
def upstream(dtype: torch.dtype) -> Iterator[CHGNetCalculator]:
    """Yield the authors' calculator in a dtype; it is written for float32, so its modules are told while it lives."""
    with contextlib.redirect_stdout(io.StringIO()):
        calculator = CHGNetCalculator(use_device="cpu", on_isolated_atoms="ignore")
    calculator.model.to(dtype)
    before = converter.TORCH_DTYPE, model.TORCH_DTYPE
    assemble = composition_model.AtomRef._assemble_graphs
    converter.TORCH_DTYPE = model.TORCH_DTYPE = dtype
    composition_model.AtomRef._assemble_graphs = lambda self, graphs: assemble(self, graphs).to(dtype)
    try:
        yield calculator
    finally:
        converter.TORCH_DTYPE, model.TORCH_DTYPE = before
        composition_model.AtomRef._assemble_graphs = assemble
