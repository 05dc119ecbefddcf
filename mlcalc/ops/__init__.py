"""Torch operators of mlcalc, each with a plain-torch twin."""

from mlcalc.ops._fused import fused
from mlcalc.ops.exchange import exchange

__all__ = ["exchange", "fused"]
