"""Write ``mlearn_pinned.json`` from the shipped weights: run once, when new weights ship."""

import json
from pathlib import Path

from test_mlearn import LATTICES, shaken

from mlcalc import MLCalculator

if __name__ == "__main__":
    pinned = {}
    for element in LATTICES:
        atoms = shaken(element)
        atoms.calc = MLCalculator("mlearn", dtype="float64")
        pinned[element] = {
            "energy": atoms.get_potential_energy(),
            "forces": atoms.get_forces()[:4].tolist(),
            "stress": atoms.get_stress().tolist(),
        }
    Path(__file__).with_name("mlearn_pinned.json").write_text(json.dumps(pinned, indent=1) + "\n")
