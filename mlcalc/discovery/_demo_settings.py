"""Settings of the main job."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DemoSettings:
    """What the job does.

    Attributes:
        elements: elements of the crystals, all of them present.
        number: candidates.
        n_atoms: smallest and largest number of atoms in the primitive cell.
        seed: of candidates and dynamics.
        workers: processes that relax.
        temperature_k: of the dynamics, K.
        md_steps: steps of 1 fs in each engine.
        md_warmup_steps: steps of them that do not count.
        ranks: MPI ranks of LAMMPS.
    """

    elements: tuple[str, ...] = ("Si",)
    number: int = 200
    n_atoms: tuple[int, int] = (1, 8)
    seed: int = 0
    workers: int = 2
    temperature_k: float = 300.0
    md_steps: int = 1200
    md_warmup_steps: int = 400
    ranks: int = 2
