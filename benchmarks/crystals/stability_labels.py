"""Label crystals that need not be stable with the energies that a potential relaxes them to.

python benchmarks/crystals/stability_labels.py --data $MLCALC_DATA/crystals --out labels

What the stability score learns from beside known crystals: crystals of the generators are relaxed for a few steps with
SevenNet-0, and their energies taken to the scale of the Materials Project's formation energies. The same command goes
on after a kill.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any

import ase.io.jsonio
import numpy as np
import torch
from ase import Atoms

from mlcalc.calculators import BatchedCalculator, MLCalculator
from mlcalc.crystals.io import LabelledCrystal, read_crystals
from mlcalc.discovery._benchmark_hull import JudgingHull, published_hull
from mlcalc.discovery._work import check
from mlcalc.discovery.benchmark import BenchmarkSettings, conditions_of
from mlcalc.discovery.records import Journal
from mlcalc.errors import MlcalcError
from mlcalc.generators import Constraints, Generator, make_generator
from mlcalc.workflows import RelaxResult, relax_many

SMALLEST_DISTANCE = 0.6
ATOMS = (1, 20)
# Crystals asked for at a time, of each source in turn.
BLOCK = 25
PROTOTYPES = 1000


def generators(known: list[LabelledCrystal]) -> dict[str, Generator]:
    """Return the sources: ``substitution`` has AFLOW's prototypes, ``known`` a part of the training set."""
    some = np.random.default_rng(0).permutation(len(known))[:PROTOTYPES]
    return {
        "wyckoff": make_generator("wyckoff"),
        "substitution": make_generator("substitution"),
        "known": make_generator("substitution", prototypes=[known[k].atoms for k in some]),
        "random": make_generator("random"),
    }


def proposals(source: str, generator: Generator, seed: int, known: list[LabelledCrystal]) -> Iterator[Atoms]:
    """Yield one block of crystals of a source; random search, the dearest to relax, gives fewer and smaller ones."""
    if source == "random":
        settings = BenchmarkSettings(seed=seed, n_atoms=(1, 12))
        count = BLOCK * 2 // 5
        for k, constraints in enumerate(conditions_of([c.atoms for c in known], count, settings)):
            try:
                yield from (c.atoms for c in generator.sample(1, constraints, seed + k))
            except MlcalcError:
                continue  # a system that no crystal of so few attempts holds; nothing to label
        return
    yield from (c.atoms for c in generator.sample(BLOCK, Constraints(n_atoms=ATOMS), seed))


def label(
    journal: Journal, where: dict[str, Any], structures: list[Atoms], engine: Any, hull: JudgingHull, steps: int
) -> None:
    """Relax one block and keep energies as reached, converged or not; whoever fails is recorded with the reason."""
    corrections = hull.facts.corrections
    assert corrections is not None
    good = [a for a in structures if check(a, SMALLEST_DISTANCE) is None]

    def finished(number: int, result: RelaxResult) -> None:
        atoms, energy = good[number], result.energy_ev
        record = {**where, "number": number, "atoms": _plain(atoms), "steps": result.steps}
        if result.error is not None or not isfinite(energy) or check(result.atoms, SMALLEST_DISTANCE) is not None:
            record["reason"] = result.error or "atoms too close after relaxation"
        else:
            scale = corrections.own_scale
            record |= {
                "relaxed": _plain(result.atoms),
                "converged": result.converged,
                "initial_energy_ev_per_atom": result.initial_energy_ev / len(atoms),
                "energy_ev_per_atom": energy / len(atoms),
                "formation_energy_per_atom": corrections.formation_energy(atoms, energy / len(atoms), scale),
                "e_above_hull": hull(atoms, energy),
                "initial_e_above_hull": hull(atoms, result.initial_energy_ev),
            }
        journal.append(record)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what does not converge is kept as far as it came, and says so
        relax_many(good, engine, cell="full", fmax=0.1, stress_tolerance_gpa=0.5, max_steps=steps, finished=finished)
    journal.append({**where, "drawn": len(structures), "tried": len(good)})


def _plain(atoms: Atoms) -> str:
    return str(ase.io.jsonio.encode(Atoms(atoms.numbers, cell=atoms.cell, positions=atoms.positions, pbc=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="of mp_crystals_train and mp_formation_energies")
    parser.add_argument("--out", type=Path, default=Path("labels"))
    parser.add_argument("--potential", default="sevennet-0")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--blocks", type=int, default=24, help=f"of {BLOCK} crystals, of each source")
    parser.add_argument("--seed", type=int, default=1000, help="of the first block; benchmarks use 0")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    known = read_crystals(arguments.data / "mp_crystals_train.jsonl.gz")
    with Journal(arguments.out / "labels.jsonl") as journal:
        engine = MLCalculator(arguments.potential, dtype="float32", tables=True)
        hull = published_hull(arguments.data / "mp_formation_energies.jsonl.gz", known, engine)
        print(hull.facts.sentence(), flush=True)
        batched = BatchedCalculator.of(engine)
        made = generators(known)
        done = {(r["source"], r["block"]) for r in journal.records if "drawn" in r}
        for block in range(arguments.blocks):
            for source, generator in made.items():
                if (source, block) in done:
                    continue
                start = time.perf_counter()
                structures = list(proposals(source, generator, arguments.seed + 100 * block, known))
                drawn = time.perf_counter()
                label(journal, {"source": source, "block": block}, structures, batched, hull, arguments.steps)
                times = f"drawn in {drawn - start:.0f} s, relaxed in {time.perf_counter() - drawn:.0f} s"
                print(f"{source} {block}: {len(structures)} {times}", flush=True)


if __name__ == "__main__":
    main()
