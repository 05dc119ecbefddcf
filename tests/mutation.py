"""Mutation run: each deliberate fault, put into a copy of the sources, must make a named test fail.

A suite that stays green with a wrong sign in the virial proves nothing. ``python tests/mutation.py`` copies the tree,
makes one fault at a time and runs the test that has to notice; a fault that goes unnoticed, or a test that breaks for
another reason, fails the run. Names given on the command line choose faults; ``faults.py`` lists them.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from faults import FAULTS, Fault, environment

from mlcalc.native import operators_library

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("mlcalc", "lammps_plugin", "tests", "setup.py", "pyproject.toml", "README.md")


def run(fault: Fault) -> tuple[Fault, str, float]:
    """Make the fault in a fresh copy and run its test; return what is wrong with the outcome, empty if noticed."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mlcalc-mutation-") as name:
        root = Path(name)
        for item in COPIED:
            source = ROOT / item
            if source.is_dir():
                shutil.copytree(source, root / item, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
            else:
                shutil.copy(source, root / item)
        operators = operators_library().parent  # a copy with other operators makes its own, under another name
        (root / "cache" / "ops").mkdir(parents=True)
        (root / "cache" / "ops" / operators.name).symlink_to(operators)
        fault.make(root)
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", fault.test]
        result = subprocess.run(
            command, cwd=root, env=environment(root), capture_output=True, text=True, timeout=900, check=False
        )
        summary = (result.stdout.strip().splitlines() or [""])[-1]
        if result.returncode == 0:
            problem = "went unnoticed"
        elif result.returncode == 1 and re.search(r"\b1 failed\b", summary) and "error" not in summary:
            problem = ""
        else:
            problem = f"the test broke instead of failing:\n{result.stdout[-3000:]}{result.stderr[-1000:]}"
    return fault, problem, time.monotonic() - start


def main() -> int:
    """Run the chosen faults, two at a time, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="faults to run (default: all)")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    known = {fault.name: fault for fault in FAULTS}
    unknown = [name for name in arguments.names if name not in known]
    if unknown:
        parser.error(f"no fault named {unknown[0]!r}; known: {', '.join(known)}")
    chosen = [known[name] for name in arguments.names] or list(FAULTS)
    if os.environ.get("MLCALC_OPS") == "0":  # plain torch was asked for: what tests operators is not collected
        chosen = [fault for fault in chosen if not fault.test.startswith("tests/ops/")]
    unnoticed = 0
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for fault, problem, seconds in pool.map(run, chosen):
            print(
                f"{'noticed' if not problem else 'FAILED ':8} {fault.name} ({seconds:.0f} s): {fault.test}", flush=True
            )
            if problem:
                unnoticed += 1
                print(f"         {problem}", flush=True)
    print(f"mutation run: {len(chosen) - unnoticed} of {len(chosen)} faults noticed")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    raise SystemExit(main())
