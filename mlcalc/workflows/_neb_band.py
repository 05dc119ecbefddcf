"""The moving band: images that share one calculator, and the file that a killed search goes on from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import ase.optimize
import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import Trajectory
from ase.mep import NEB
from ase.mep.neb import idpp_interpolate, interpolate
from numpy.typing import NDArray

from mlcalc.errors import NonFiniteError, WorkflowError
from mlcalc.workflows._steps import damaged, load_arrays, save_arrays

BAND = "neb.npz"
INTERPOLATIONS = ("idpp", "linear")
OPTIMIZERS = ("FIRE", "FIRE2", "MDMin", "BFGS", "LBFGS")  # those that need forces only: a band has no energy


class SharedCalculator(Calculator):
    """One image's view of a calculator that all images use.

    It keeps its own copy of the results, so that the band can be asked again without another evaluation, and no image
    sees what belongs to another.
    """

    implemented_properties = ["energy", "free_energy", "forces"]  # noqa: RUF012 (ASE's attribute)

    def __init__(self, engine: Any, name: str) -> None:
        super().__init__()
        self.engine = engine
        self.image = name

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = ("energy",),
        system_changes: Any = all_changes,
    ) -> None:
        """Evaluate energy and forces together."""
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        work = self.atoms.copy()
        work.set_constraint()
        work.calc = self.engine
        forces = np.array(work.get_forces(), dtype=np.float64)
        energy = float(work.get_potential_energy())
        if not np.isfinite(forces).all() or not np.isfinite(energy):
            raise NonFiniteError(f"the calculator returned NaN or infinity for {self.image} of the band")
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}


def make_images(initial: Atoms, final: Atoms, count: int, engine: Any, interpolation: str) -> list[Atoms]:
    """Return ``count`` interpolated images between the ends, which have energies and forces attached.

    Raises:
        WorkflowError: unknown interpolation, or atoms that pass through each other on a straight line.
    """
    if interpolation not in INTERPOLATIONS:
        raise WorkflowError(f"unknown interpolation {interpolation!r}: choose from {', '.join(INTERPOLATIONS)}")
    images = [initial, *(initial.copy() for _ in range(count)), final]
    interpolate(images, mic=False, apply_constraint=True)  # the final end already is the nearest image
    closest = min((_closest(image) for image in images[1:-1]), default=np.inf)
    if closest < 0.1:
        raise WorkflowError(
            f"on the straight way atoms come within {closest:.2g} Å of each other: give ends in which they go around "
            "each other, or join the ends by a state in between"
        )
    if interpolation == "idpp":
        idpp_interpolate(NEB(images, method="improvedtangent"), traj=None, log=None, mic=bool(initial.pbc.any()))
        if not all(np.isfinite(image.positions).all() for image in images):
            raise WorkflowError("IDPP found no first band between these ends: use interpolation='linear'")
    for number, image in enumerate(images[1:-1], 1):
        image.calc = SharedCalculator(engine, f"image {number}")
    return images


def freeze(atoms: Atoms, engine: Any, name: str) -> Atoms:
    """Return a copy with energy and unconstrained forces attached for good."""
    copy = atoms.copy()
    copy.calc = SharedCalculator(engine, name)
    results = {"energy": copy.get_potential_energy(), "forces": copy.get_forces(apply_constraint=False)}
    copy.calc = SinglePointCalculator(copy, **results)
    return copy


def _closest(atoms: Atoms) -> float:
    if len(atoms) < 2:
        return np.inf
    distances = atoms.get_all_distances(mic=bool(atoms.pbc.any()))
    return float(distances[np.triu_indices(len(atoms), 1)].min())


def band_force(neb: NEB) -> float:
    """Return the largest norm of a band force (eV/Å): true forces across the path, springs along it."""
    return float(np.sqrt((neb.get_forces() ** 2).sum(axis=1).max()))


def search(
    neb: NEB,
    optimizer: str,
    fmax: float,
    steps: int,
    log: Path | None,
    observe: Callable[[int], None],
) -> int:
    """Move the band until its forces are below ``fmax``; return the steps taken."""
    run = getattr(ase.optimize, optimizer)(neb, logfile=None if log is None else str(log))
    run.attach(lambda: observe(run.nsteps))
    run.run(fmax=fmax, steps=steps)
    return int(run.nsteps)


def save_band(folder: Path, identity: dict[str, Any], images: list[Atoms], climbing: bool, steps: int) -> None:
    """Keep the band where a killed run finds it."""
    save_arrays(
        folder / BAND,
        identity,
        positions=np.array([image.positions for image in images]),
        climbing=np.array(climbing),
        steps=np.array(steps),
    )


def append_band(path: Path, images: Iterable[Atoms]) -> None:
    """Write the images of one step behind those that are in a trajectory.

    Raises:
        WorkflowError: the file there is damaged.
    """
    try:
        trajectory = Trajectory(path, "a")
    except (ValueError, OSError) as error:  # what ASE raises for a file that is cut off
        raise damaged(path, error) from error
    with trajectory:
        for image in images:
            trajectory.write(image)


def load_band(folder: Path, identity: dict[str, Any]) -> tuple[NDArray[np.float64], bool, int] | None:
    """Return positions (images, N, 3), whether the band climbed, and steps done; None without a kept band.

    Raises:
        WorkflowError: the band belongs to another search, or its file is damaged.
    """
    kept = load_arrays(folder / BAND, identity)
    return None if kept is None else (kept["positions"], bool(kept["climbing"]), int(kept["steps"]))
