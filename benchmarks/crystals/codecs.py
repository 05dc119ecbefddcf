"""Print what comes back from each codec: share matched, root mean square distance of atoms, time.

python benchmarks/crystals/codecs.py -n 1000 --json benchmarks/crystals/results/codecs.json
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase import Atoms
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.io.ase import AseAtomsAdaptor

from mlcalc.crystals import atoms_of_net, bond_string, make_codec, parse_bond_string
from mlcalc.crystals.codec import CODECS
from mlcalc.crystals.io import LabelledCrystal, read_crystals
from mlcalc.errors import CodecError
from mlcalc.files import write_atomic

SETS = {"perov_5": ("perov_5_train", "perov_5_val"), "mp_crystals_train": ("mp_crystals_train",)}
RoundTrip = tuple[Callable[[Atoms], object], Callable[[object], Atoms]]


def round_trips(elements: list[str], most: int) -> dict[str, RoundTrip]:
    """Return how each codec encodes and decodes, by the name of its row."""
    found: dict[str, RoundTrip] = {}
    for name in sorted(CODECS):
        codec = make_codec({"name": name, "elements": elements, "max_atoms": most})
        found[name] = (codec.encode, codec.decode)
    decode = lambda text: atoms_of_net(parse_bond_string(text))  # noqa: E731
    found["bond string with lengths"] = (lambda atoms: bond_string(atoms, lengths=True), decode)
    found["bond string"] = (bond_string, decode)
    return found


def measure(crystals: list[LabelledCrystal], trip: RoundTrip, matcher: StructureMatcher) -> dict[str, float]:
    """Return shares in percent, distances in Å and times in ms; whatever does not come back is not matched."""
    refused = undecoded = 0
    distances, volumes, times = [], [], []
    structure = AseAtomsAdaptor.get_structure
    for item in crystals:
        start = time.process_time()
        try:
            code = trip[0](item.atoms)
        except CodecError:
            refused += 1
            continue
        try:
            back = trip[1](code)
        except CodecError:
            undecoded += 1
            continue
        times.append(time.process_time() - start)
        pair = (structure(item.atoms), structure(back))
        found = matcher.get_rms_dist(*pair)
        if found is None:
            # Primitive cells of equal crystals can come out differently oriented, and do not match then.
            found = StructureMatcher(primitive_cell=False).get_rms_dist(*pair)
        if found is not None:
            # The matcher divides by the edge of a cube with the volume of an atom.
            distances.append(found[0] * (item.atoms.get_volume() / len(item.atoms)) ** (1 / 3))
            volumes.append(abs(back.get_volume() / len(back) * len(item.atoms) / item.atoms.get_volume() - 1))
    d, total = np.array(distances), len(crystals)
    return {
        "crystals": total,
        "matched_percent": 100 * len(d) / total,
        "matched_of_encoded_percent": 100 * len(d) / max(total - refused, 1),
        "below_0.05_ang_of_encoded_percent": 100 * float((d < 0.05).sum()) / max(total - refused, 1),
        "rmse_ang": float(np.sqrt(np.mean(d**2))) if len(d) else float("nan"),
        "largest_ang": float(d.max()) if len(d) else float("nan"),
        "volume_error_percent": 100 * float(np.mean(volumes)) if volumes else float("nan"),
        "not_encoded": refused,
        "not_decoded": undecoded,
        "ms_per_crystal": 1e3 * float(np.mean(times)) if times else float("nan"),
    }


def shown(distance: float) -> str:
    """Return a distance in Å; the matcher is not exact below a millionth."""
    return "< 1e-6" if distance < 1e-6 else f"{distance:.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=1000, help="crystals of each set, drawn with a fixed seed; 0: all")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MLCALC_DATA", "../shared/data")) / "crystals")
    parser.add_argument("--atoms", type=int, default=20, help="leave out larger cells")
    parser.add_argument("--only", help="one row alone")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    result: dict[str, dict[str, dict[str, float]]] = {}
    print("| crystals | codec | matched, % | RMSE, Å | largest, Å | volume off by, % | refused | lost | ms |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, files in SETS.items():
        known = [item for file in files for item in read_crystals(arguments.data / f"{file}.jsonl.gz")]
        crystals = [item for item in known if len(item.atoms) <= arguments.atoms]
        if arguments.n and arguments.n < len(crystals):
            drawn = np.random.default_rng(0).choice(len(crystals), arguments.n, replace=False)
            crystals = [crystals[k] for k in drawn]
        elements = sorted({s for item in known for s in item.atoms.get_chemical_symbols()})
        most = max(len(item.atoms) for item in crystals)
        for row, trip in round_trips(elements, most).items():
            if arguments.only not in (None, row):
                continue
            f = result.setdefault(name, {})[row] = measure(crystals, trip, StructureMatcher())
            print(
                f"| {name}, {f['crystals']} | {row} | {f['matched_percent']:.2f} | {shown(f['rmse_ang'])} "
                f"| {shown(f['largest_ang'])} | {f['volume_error_percent']:.1f} | {f['not_encoded']} "
                f"| {f['not_decoded']} | {f['ms_per_crystal']:.1f} |",
                flush=True,
            )
    if arguments.json:
        write_atomic(arguments.json, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
