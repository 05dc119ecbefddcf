"""Relaxes the structures of a file in one way and prints what it took, for ``batched.py``."""

from __future__ import annotations

import argparse
import json
import time
import warnings
from typing import Any


def main() -> None:
    """Relax and print one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("method", choices=("one by one", "batched", "torch-sim"))
    parser.add_argument("file")
    parser.add_argument("--potential", required=True)
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--optimizer", required=True)
    parser.add_argument("--cell", required=True)
    parser.add_argument("--fmax", type=float, required=True)
    parser.add_argument("--stress-gpa", type=float, required=True)
    parser.add_argument("--max-steps", type=int, required=True)
    parser.add_argument("--share", default="0/1", help="every k-th of n structures: k/n")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    import torch
    from ase.io import read

    first, every = (int(word) for word in arguments.share.split("/"))
    frames = read(arguments.file, ":")[first::every]
    method = {"one by one": _one_by_one, "batched": _batched, "torch-sim": _torch_sim}[arguments.method]
    call = method(arguments)
    call(frames[:2])  # loads and compiles what later calls keep
    start, processor = time.perf_counter(), time.process_time()
    found = call(frames)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    print(
        json.dumps(
            {
                "seconds": seconds,
                "processor_seconds": processor,
                "threads": torch.get_num_threads(),
                "energies": [energy for energy, _, _ in found],
                "steps": [steps for _, steps, _ in found],
                "converged": [converged for _, _, converged in found],
            }
        )
    )


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "fmax": arguments.fmax,
        "stress_tolerance_gpa": arguments.stress_gpa,
        "max_steps": arguments.max_steps,
        "optimizer": arguments.optimizer,
        "cell": False if arguments.cell == "fixed" else arguments.cell,
    }


def _one_by_one(arguments: argparse.Namespace) -> Any:
    from mlcalc.calculators import MLCalculator
    from mlcalc.workflows import relax

    calculator = MLCalculator(arguments.potential, dtype=arguments.dtype, device=arguments.device, grade_warn=None)

    def call(frames: list[Any]) -> Any:
        results = [relax(atoms, calculator, **_options(arguments)) for atoms in frames]
        return [(result.energy_ev, result.steps, result.converged) for result in results]

    return call


def _batched(arguments: argparse.Namespace) -> Any:
    from mlcalc.calculators import BatchedCalculator
    from mlcalc.workflows import relax_many

    calculator = BatchedCalculator(arguments.potential, arguments.dtype, arguments.device, grade_warn=None)

    def call(frames: list[Any]) -> Any:
        results = relax_many(frames, calculator, **_options(arguments))
        return [(result.energy_ev, result.steps, result.converged) for result in results]

    return call


def _torch_sim(arguments: argparse.Namespace) -> Any:
    import torch
    import torch_sim
    from ase.units import GPa
    from torch_sim.autobatching import InFlightAutoBatcher

    from mlcalc.calculators.torch_sim import TorchSimModel

    model = TorchSimModel(arguments.potential, arguments.dtype, arguments.device)

    def done(state: Any, last_energy: Any = None) -> Any:
        """The criteria of ``relax``, so that the same minima are reached to the same depth."""
        largest = torch.zeros(state.n_systems, dtype=state.dtype, device=state.device)
        largest.scatter_reduce_(0, state.system_idx, state.forces.norm(dim=1), "amax")
        met = largest <= arguments.fmax
        if arguments.cell != "fixed":
            met &= state.stress.abs().amax(dim=(1, 2)) <= arguments.stress_gpa * GPa
        return met

    def call(frames: list[Any]) -> Any:
        optimizer = torch_sim.fire if arguments.cell == "fixed" else torch_sim.frechet_cell_fire
        # All at once: its own estimate of memory is for GPUs, and time is what counts here.
        batcher = InFlightAutoBatcher(
            model, memory_scales_with="n_atoms", max_memory_scaler=1e6, max_atoms_to_try=1_000_000
        )
        state = torch_sim.optimize(
            frames,
            model,
            optimizer=optimizer,
            convergence_fn=done,
            autobatcher=batcher,
            max_steps=arguments.max_steps,
        )
        met = done(state).tolist()
        return [(energy, None, bool(ok)) for energy, ok in zip(state.energy.tolist(), met, strict=True)]

    return call


if __name__ == "__main__":
    main()
