"""An environment with an old ASE and numpy, made once."""

from __future__ import annotations

import pytest
from remote_environment import make_environment


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of an environment with an old ASE and numpy."""
    return make_environment(tmp_path_factory.mktemp("other") / "environment")
