"""Rules for the whole suite: where data lies, which skips are allowed, which tests must not run side by side."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED_SKIP = "MLCALC_DATA"
# Programs that are no Python packages; what they test is no part of what every user needs.
MISSING_PROGRAMS = ("no Chromium", "no PostgreSQL")

# What is about compiled operators, where plain torch was asked for in their place. Everything else holds for both.
collect_ignore = (
    ["ops", "deploy/test_tables.py", "lammps/test_lammps_tables.py", "benchmarks/test_benchmark_scripts.py"]
    if os.environ.get("MLCALC_OPS") == "0"
    else []
)


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
    """Turn a skip for any other reason than missing data, browser or database server into a failure."""
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not text.removeprefix("Skipped: ").startswith((ALLOWED_SKIP, *MISSING_PROGRAMS)):
        report.outcome = "failed"
        report.longrepr = f"only a missing {ALLOWED_SKIP} or one of the named programs may skip a test, not: {text}"


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


@pytest.fixture(scope="session")
def compiled_pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same potential as TorchScript and AOTInductor file: two layers, two elements, graded, float64.

    Compiling takes most of a minute; tests that use it stay on one worker (group ``mpi``).
    """
    import torch
    from ase.build import bulk

    from mlcalc.deploy import export
    from mlcalc.graphs import build_graph
    from mlcalc.potentials import PotentialInfo, build
    from mlcalc.training.extrapolation import fit_grade

    torch.manual_seed(11)
    info = PotentialInfo(elements=("Si", "Mo"), cutoff=4.0, layers=2, name="small")
    network = {"layers": 2, "channels": 4, "l_max": 2, "correlation": 2}
    potential = build({"architecture": "equivariant", "network": network, "zbl": True}, info, torch.float64)
    potential.set_energies([-1.0, -2.0], 0.7)
    structures = []
    for seed in range(4):
        atoms = bulk("Si", cubic=True)
        atoms.rattle(0.2, seed=seed)
        atoms.symbols[seed::2] = "Mo"
        structures.append(build_graph(atoms, info.elements, info.cutoff))
    graded = fit_grade(potential, structures, landmarks=4)
    folder = tmp_path_factory.mktemp("compiled")
    files = folder / "small.pt", folder / "small.pt2"
    for file in files:
        export(graded, file, "float64")
    return files


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables that tests recorded."""
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties:
            if name == "table" and report.when == "call":
                terminalreporter.write_line(f"\n{value}")
