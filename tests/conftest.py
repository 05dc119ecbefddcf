"""Rules for the whole suite: where data lies, which skips are allowed, which tests must not run side by side."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED_SKIP = "MLCALC_DATA"


def find_data_folder() -> Path | None:
    """Return the folder of reference data: MLCALC_DATA, else ../shared/data beside the checkout."""
    named = os.environ.get("MLCALC_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def data_folder() -> Path:
    folder = find_data_folder()
    if folder is None:
        pytest.skip(f"{ALLOWED_SKIP} does not name a folder of reference data")
    return folder


def _forbid(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip for any other reason than missing data into a failure."""
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not text.removeprefix("Skipped: ").startswith(ALLOWED_SKIP):
        report.outcome = "failed"
        report.longrepr = f"only a missing {ALLOWED_SKIP} may skip a test, not: {text}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report = yield
    _forbid(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    report = yield
    _forbid(report)
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests that start MPI ranks on one xdist worker, so that they do not starve each other."""
    for item in items:
        if {"lammps", "lammps_plugin", "cli"} & set(item.path.relative_to(ROOT).parts) or "docs" in item.path.name:
            item.add_marker(pytest.mark.xdist_group("mpi"))
