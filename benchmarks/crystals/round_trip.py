"""Print how many crystals of a file come back from their Wyckoff description: structure, space group, sizes.

python benchmarks/crystals/round_trip.py $MLCALC_DATA/crystals/mp_crystals_train.jsonl.gz
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path

from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.io.ase import AseAtomsAdaptor

from mlcalc.crystals import encode, find_space_group
from mlcalc.crystals.io import read_crystals
from mlcalc.errors import CrystalError
from mlcalc.files import write_atomic


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--symprec", type=float, default=0.1, help="distance tolerance of space groups, Å")
    parser.add_argument("--every", type=int, default=1, help="take every n-th crystal")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    crystals = read_crystals(arguments.file)[:: arguments.every]
    matcher, structure = StructureMatcher(), AseAtomsAdaptor.get_structure
    counts: Counter[str] = Counter()
    seconds = 0.0
    for item in crystals:
        before = find_space_group(item.atoms, arguments.symprec)
        start = time.perf_counter()
        try:
            back = encode(item.atoms, arguments.symprec).atoms()
        except CrystalError as error:
            counts["not encoded"] += 1
            print(f"{item.name}: {error}", flush=True)
            continue
        seconds += time.perf_counter() - start
        after = find_space_group(back, arguments.symprec)
        match = bool(matcher.fit(structure(item.atoms), structure(back)))
        group = before is not None and after is not None and before.number == after.number
        counts["match"] += int(match)
        counts["same group"] += int(group)
        counts["both"] += int(match and group)
        if not (match and group):
            print(f"{item.name}: match {match}, space group {before} -> {after}", flush=True)
    total = len(crystals)
    for name in ("match", "same group", "both", "not encoded"):
        print(f"{name:12s} {counts[name]:6d} of {total}  {100 * counts[name] / total:.3f} %")
    print(f"encode and decode: {1e3 * seconds / total:.2f} ms per crystal; symprec {arguments.symprec} Å")
    if arguments.json:
        result = {"file": arguments.file.name, "symprec_ang": arguments.symprec, "crystals": total, **counts}
        write_atomic(arguments.json, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
