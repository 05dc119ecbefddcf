"""What tests of operators share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from mlcalc.ops import fused


@pytest.fixture(autouse=True)
def compiled() -> None:
    assert fused(), "the C++ operators are not there; this test compares them"


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
