"""One ASE calculator in its own environment, measured on request; started by ``peers.py``.

``python _peer_ase_worker.py PEER DTYPE MODEL`` loads the calculator, prints a line of versions, then reads a line of
JSON (``{"file": extended XYZ, "seconds": s}``) at a time and answers each with a line of JSON. Nothing but ASE and the
peer itself is imported here.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from ase.io import read

DISPLACEMENT_ANG = 0.01  # of every atom between two calls, so that no result can be kept
CUTOFF_ANG = 5.0  # where it is ours to choose: that of mlcalc's `mlearn` for silicon
PACKAGES = ("ase", "numpy", "torch", "e3nn", "chgnet", "sevenn", "mace-torch", "mlcalc", "vesin", "matscipy")


def chgnet(dtype: str, model: str) -> Any:
    from chgnet.model.dynamics import CHGNetCalculator

    return CHGNetCalculator(use_device="cpu")


def sevennet(dtype: str, model: str) -> Any:
    from sevenn.calculator import SevenNetCalculator

    return SevenNetCalculator("7net-0", device="cpu")


def mace(dtype: str, model: str) -> Any:
    """MACE with the channels and layers of MACE-MP-0 "medium", one element and random weights."""
    import torch

    torch.set_default_dtype(getattr(torch, dtype))
    torch.manual_seed(0)
    torch.serialization.add_safe_globals([slice])  # in a file of constants of e3nn 0.4.4
    from e3nn import o3
    from mace import modules
    from mace.calculators import MACECalculator

    network = modules.ScaleShiftMACE(
        r_max=CUTOFF_ANG,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        num_interactions=2,
        num_elements=1,
        hidden_irreps=o3.Irreps("128x0e + 128x1o"),
        MLP_irreps=o3.Irreps("16x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=np.zeros(1),
        avg_num_neighbors=28.0,
        atomic_numbers=[14],
        correlation=3,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )
    return MACECalculator(models=[network], device="cpu", default_dtype=dtype)


def mlcalc(dtype: str, model: str) -> Any:
    from mlcalc import MLCalculator

    return MLCalculator(model, dtype=dtype)


MAKERS = {"chgnet": chgnet, "sevennet": sevennet, "mace": mace, "mlcalc": mlcalc}


def versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def measure(calculator: Any, file: str, seconds: float, warm_up: int) -> dict[str, float]:
    """Return calls, wall and processor time of energy and forces together, after ``warm_up`` calls."""
    atoms: Any = read(file)
    atoms.calc = calculator
    base, numbers = atoms.get_positions(), np.random.default_rng(0)
    calls = -warm_up
    start = processor = spent = 0.0
    while calls < 2 or spent < seconds:
        if calls == 0:
            start, processor = time.perf_counter(), time.process_time()
        atoms.positions = base + numbers.normal(scale=DISPLACEMENT_ANG, size=base.shape)
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            raise ValueError(f"energy or forces of {file} are not finite")
        calls += 1
        spent = time.perf_counter() - start if calls > 0 else 0.0
    return {"atoms": len(atoms), "calls": calls, "wall_s": spent, "processor_s": time.process_time() - processor}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")  # packages print to standard output, too: that goes to standard error
    os.dup2(2, 1)
    peer, dtype, model = sys.argv[1:]
    import torch

    torch.set_num_threads(1)
    calculator = MAKERS[peer](dtype, model)
    print(json.dumps(versions()), file=answers, flush=True)
    seen = set()
    for line in sys.stdin:
        job = json.loads(line)
        warm_up = 1 if job["file"] in seen else 2  # compilers of torch look at the first calls
        seen.add(job["file"])
        print(json.dumps(measure(calculator, job["file"], job["seconds"], warm_up)), file=answers, flush=True)


if __name__ == "__main__":
    main()
