"""Errors of DeePMD-kit's se_e2_a for silicon on frames it never saw: the same folds as ``cross_validate.py``.

    MLCALC_DATA=../shared/data python benchmarks/mlearn/deepmd_errors.py --folds 4 --environments ENVS --out deepmd \
        --json deepmd-Si.json

Trains the network that ``benchmarks/speed/peers.py`` times, with DeePMD-kit's own schedule of weights, on energies and
forces of the frames outside a fold, and predicts those in it. Interrupted runs begin the fold again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "speed"))

import numpy as np
from _environments import make, run
from _peer_lammps import deepmd_settings, write_deepmd_system

from mlcalc.training.dataset import Labelled, read_labelled, take_fold
from mlcalc.training.settings import read_settings

# As for the timing: neighbours that DeePMD-kit makes room for depend on the element.
ELEMENT = "Si"


def systems(frames: Sequence[Labelled], folder: Path) -> list[str]:
    """Write frames as DeePMD systems, one for each number of atoms, and return their folders."""
    by_size: dict[int, list[Labelled]] = {}
    for frame in frames:
        by_size.setdefault(len(frame.atoms), []).append(frame)
    for size, alike in sorted(by_size.items()):
        write_deepmd_system(folder / str(size), ELEMENT, [(x.atoms, x.energy, x.forces) for x in alike])
    return [str(folder / str(size)) for size in sorted(by_size)]


def fold_errors(
    seen: Sequence[Labelled], unseen: Sequence[Labelled], folder: Path, environment: Path, steps: int
) -> dict[str, Any]:
    """Train on ``seen`` and return squared errors of ``unseen``, in eV²/atom² and eV²/Å²."""
    done = folder / "errors.json"
    if not done.exists():
        training = systems(seen, folder / "training")
        settings = deepmd_settings(ELEMENT, "float32", training, steps)
        (folder / "input.json").write_text(json.dumps(settings, indent=1))
        program = [str(environment / "bin" / "dp"), "--tf"]
        run([*program, "train", "input.json"], environment, cwd=folder, log=folder / "train.log")
        run([*program, "freeze", "-o", "model.pb"], environment, cwd=folder, log=folder / "freeze.log")
        found: dict[str, list[float]] = {"energies": [], "forces": []}
        for k, system in enumerate(systems(unseen, folder / "test")):
            test = ["test", "-m", "model.pb", "-s", system, "-n", "100000", "-d", f"detail-{k}"]
            run([*program, *test], environment, cwd=folder, log=folder / f"test-{k}.log")
            energies = np.loadtxt(folder / f"detail-{k}.e_peratom.out", ndmin=2)
            forces = np.loadtxt(folder / f"detail-{k}.f.out", ndmin=2)
            found["energies"] += [float(x) for x in (energies[:, 0] - energies[:, 1]) ** 2]
            found["forces"] += [float(x) for x in ((forces[:, :3] - forces[:, 3:]) ** 2).ravel()]
        done.write_text(json.dumps(found))
    return dict(json.loads(done.read_text()))


def main() -> None:
    """Train and test the folds of one element and print the pooled errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--take", type=int, nargs="+", help="folds to train, from 0 (default: all)")
    parser.add_argument("--steps", type=int, default=40_000, help="of training (default: %(default)s)")
    parser.add_argument("--environments", type=Path, required=True, help="where peers.py keeps its environments")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--json", type=Path, help="write the errors here")
    args = parser.parse_args()
    environment = make("deepmd", args.environments)
    config = read_settings(Path(__file__).parent / f"mlearn-{ELEMENT}.yaml").data
    frames = [x for path in config.train for x in read_labelled(path, config)]
    taken = list(range(args.folds)) if args.take is None else args.take
    pooled: dict[str, list[float]] = {"energies": [], "forces": []}
    for fold in taken:
        seen, unseen = take_fold(frames, args.folds, fold)
        folder = args.out.resolve() / f"{ELEMENT}-{fold}of{args.folds}-{args.steps}"
        found = fold_errors([frames[k] for k in seen], [frames[k] for k in unseen], folder, environment, args.steps)
        for name, values in found.items():
            pooled[name] += values
        print(f"fold {fold}: {_rms(found['energies'], 1e3):.2f} meV/atom, {_rms(found['forces']):.4f} eV/Å", flush=True)
    result = {
        "element": ELEMENT,
        "folds": args.folds,
        "taken": taken,
        "steps": args.steps,
        "overall": {
            "n_structures": len(pooled["energies"]),
            "energy_rmse_mev_per_atom": _rms(pooled["energies"], 1e3),
            "forces_rmse_ev_per_ang": _rms(pooled["forces"]),
        },
    }
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["overall"]))


def _rms(squares: Sequence[float], unit: float = 1.0) -> float:
    return float(unit * np.sqrt(np.mean(squares)))


if __name__ == "__main__":
    main()
