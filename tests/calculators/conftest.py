"""An environment with an old ASE and numpy, made once."""

from __future__ import annotations

import sys

import pytest
from remote_environment import make_environment

# torch-sim, which the extra leaves out there, needs Python 3.11.
collect_ignore = ["test_torch_sim_model.py"] if sys.version_info < (3, 11) else []


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of an environment with an old ASE and numpy."""
    return make_environment(tmp_path_factory.mktemp("other") / "environment")
