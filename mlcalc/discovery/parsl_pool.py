"""Campaigns on batch systems and clusters, through Parsl (Babuji et al., HPDC 2019, doi:10.1145/3307681.3325400)."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlcalc.errors import WorkflowError


@contextmanager
def parsl_executor(path: str | Path) -> Iterator[Executor]:
    """Yield an executor made of a Python file that defines ``config``, a ``parsl.config.Config``.

    Workers that are lost are no error to a campaign, which gives their shards out again, so Parsl's own ``retries`` may
    stay at 0.

    Args:
        path: the file; it is run.

    Raises:
        WorkflowError: Parsl is not installed, no such file, one that fails or defines no ``config``, or Parsl cannot
            start with it.
    """
    config = _read(Path(path))
    from parsl import DataFlowKernel
    from parsl.concurrent import ParslPoolExecutor

    try:
        kernel = DataFlowKernel(config)  # not parsl.load: its kernel is one for the process, and for good
    except Exception as error:  # of any of its providers
        raise WorkflowError(f"Parsl cannot start with {path}: {type(error).__name__}: {error}") from error
    try:
        yield ParslPoolExecutor(dfk=kernel)
    finally:
        kernel.cleanup()  # the jobs that it started end too


def _read(path: Path) -> Any:
    try:
        from parsl.config import Config
    except ImportError as error:
        raise WorkflowError("campaigns on Parsl need parsl: pip install 'mlcalc[parsl]'") from error
    if not path.is_file():
        raise WorkflowError(f"{path}: no such file; give a Python file that defines config = parsl.config.Config(…)")
    try:
        found = runpy.run_path(str(path)).get("config")
    except Exception as error:  # whatever the user's file raises
        raise WorkflowError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    if not isinstance(found, Config):
        what = "defines no config" if found is None else f"config is a {type(found).__name__}"
        raise WorkflowError(f"{path}: {what}; it must define config = parsl.config.Config(…)")
    return found
