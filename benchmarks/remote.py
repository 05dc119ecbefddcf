"""Calculators of another environment: ms per structure that the socket costs, with a calculator that computes nothing.

Run ``python benchmarks/remote.py``, with ``--python /other/environment/bin/python`` for another environment than this.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from ase.build import bulk

from mlcalc import MLCalculator

NOTHING = """
import numpy as np
from ase.calculators.calculator import Calculator

class Nothing(Calculator):
    implemented_properties = ["energy", "forces", "stress"]

    def calculate(self, atoms=None, properties=(), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6)}
"""


def main() -> None:
    """Print one line per size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--repeats", type=int, default=200)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "nothing.py"
        file.write_text(NOTHING)
        with MLCalculator.remote(args.python, f"{file}:Nothing") as calc:
            for cells in (1, 5, 10):
                atoms = bulk("Cu", cubic=True).repeat(cells)
                atoms.calc = calc
                atoms.get_forces()
                start = time.perf_counter()
                for _ in range(args.repeats):
                    atoms.positions += 0.001
                    atoms.get_forces()
                print(f"{len(atoms):6d} atoms {1e3 * (time.perf_counter() - start) / args.repeats:8.2f} ms")


if __name__ == "__main__":
    main()
