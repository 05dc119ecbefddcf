"""Write which crystals a generator's weights were trained on into the weights file, as its training does.

python benchmarks/crystals/known.py --config benchmarks/crystals/wyckoff.yaml
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mlcalc.crystals import fingerprint
from mlcalc.crystals.io import read_crystals
from mlcalc.generators._known import KnownFingerprints
from mlcalc.generators._weights import find_weights
from mlcalc.generators._wyckoff_weights import load_network, save_network
from mlcalc.generators.training import read_generator_settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=Path(__file__).parent / "wyckoff.yaml")
    parser.add_argument("--weights", type=Path, default=find_weights("wyckoff"))
    arguments = parser.parse_args()
    loaded = load_network(arguments.weights)
    _, settings = read_generator_settings(arguments.config)
    symprec = loaded.facts["symprec_ang"]
    prints = [fingerprint(item.atoms, symprec) for path in settings.data for item in read_crystals(path)]
    known = KnownFingerprints(prints, symprec)
    save_network(loaded.network, arguments.weights, loaded.facts, known)
    print(f"{len(known)} fingerprints of {len(prints)} crystals in {arguments.weights}")


if __name__ == "__main__":
    main()
