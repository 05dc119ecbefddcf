"""Minimum energy path and barrier between two structures, by ASE's nudged elastic band."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import write
from ase.mep import NEB, NEBTools
from numpy.typing import NDArray

from mlcalc.errors import WorkflowError
from mlcalc.files import atomic_path
from mlcalc.records import Record, describe_calculator, structure_hash
from mlcalc.workflows._neb_band import (
    BAND,
    OPTIMIZERS,
    append_band,
    band_force,
    freeze,
    load_band,
    make_images,
    save_band,
    search,
)
from mlcalc.workflows._neb_ends import displacement, matched_ends, refuse_same
from mlcalc.workflows._warnings import ConvergenceWarning, WorkflowWarning
from mlcalc.workflows.relaxation import relax

PATH = "path.extxyz"
BANDS = "bands.traj"


@dataclass(frozen=True)
class NEBResult(Record):
    """A path between two minima.

    Attributes:
        images: the path, ends included, with energy and forces attached; positions are not wrapped.
        distance_ang: (M,) length of the path up to each image, Å (Euclidean norm over all atoms).
        energy_ev: (M,) total energies, eV.
        fit_distance_ang: where ``fit_energy_ev`` is given, Å.
        fit_energy_ev: cubic curve through energies and forces along the path, relative to the initial end, eV.
        barrier_forward_ev: highest image over the initial end, eV; with ``climb`` that image is at the saddle.
        barrier_backward_ev: the same over the final end.
        barrier_fit_forward_ev: highest point of the curve over the initial end, eV.
        barrier_fit_backward_ev: the same over the final end.
        reaction_energy_ev: energy of the final minus that of the initial end, eV.
        saddle_index: highest image.
        saddle: that image.
        max_force_ev_per_ang: largest force on the band: true forces across the path, springs along it, and on the
            climbing image the true force with its component along the path turned round.
        end_forces_ev_per_ang: largest force left in the initial and final end.
        ends_relaxed: both are at most ``fmax``.
        converged: band and ends are.
        steps: optimiser steps in all, those before a kill included.
        resumed_from: steps that were done before this call.
        files: names to paths; empty without ``out``.
        wall_time_s: seconds of this call.
        settings: every option that made this result.
    """

    images: tuple[Atoms, ...]
    distance_ang: NDArray[np.float64]
    energy_ev: NDArray[np.float64]
    fit_distance_ang: NDArray[np.float64]
    fit_energy_ev: NDArray[np.float64]
    barrier_forward_ev: float
    barrier_backward_ev: float
    barrier_fit_forward_ev: float
    barrier_fit_backward_ev: float
    reaction_energy_ev: float
    saddle_index: int
    saddle: Atoms
    max_force_ev_per_ang: float
    end_forces_ev_per_ang: tuple[float, float]
    ends_relaxed: bool
    converged: bool
    steps: int
    resumed_from: int
    files: dict[str, Path]
    wall_time_s: float
    settings: dict[str, Any]


def neb(
    initial: Any,
    final: Any,
    calculator: Any,
    *,
    images: int = 7,
    fmax: float = 0.03,
    climb: bool = True,
    spring_ev_per_ang2: float = 0.5,
    interpolation: str = "idpp",
    order: str = "check",
    relax_ends: bool = True,
    optimizer: str = "FIRE",
    max_steps: int = 1000,
    out: str | Path | None = None,
    resume: bool = True,
    progress: Callable[[int, float], None] | None = None,
) -> NEBResult:
    """Find the minimum energy path between two structures at constant cell, and its saddle.

    Improved tangents after Henkelman & Jónsson, J. Chem. Phys. 113, 9978 (2000); climbing image after Henkelman,
    Uberuaga & Jónsson, J. Chem. Phys. 113, 9901 (2000); first band by Smidstrup et al., J. Chem. Phys. 140, 214106
    (2014). The band first relaxes to ten times ``fmax``, then its highest image climbs.

    With ``out``, the last band is kept at every step: the same call goes on from it, and a smaller ``fmax`` or a larger
    ``max_steps`` goes on with a finished one.

    Args:
        initial: ASE Atoms or pymatgen Structure; not modified. Atoms fixed by ``FixAtoms`` stay.
        final: the same atoms in the same order and cell; each atom goes the shortest way through periodic boundaries.
        calculator: an ASE calculator; all images share it.
        images: moving images, without the ends. An odd number puts one at the middle of a symmetric path.
        fmax: largest allowed force on the band, and in the ends, eV/Å.
        climb: let the highest image climb to the saddle.
        spring_ev_per_ang2: spring constant, eV/Å².
        interpolation: ``"idpp"`` or ``"linear"``.
        order: ``"check"`` refuses ends that seem to number their atoms differently, ``"match"`` renumbers the final
            one, ``"keep"`` takes them as they are.
        relax_ends: relax both ends first, in their cell, to a third of ``fmax``.
        optimizer: FIRE, FIRE2, MDMin, BFGS or LBFGS.
        max_steps: steps of the band after which to give up.
        out: folder for the last band, the path and every band on the way.
        resume: go on from a band in ``out``; False starts again.
        progress: called with (step, largest force on the band in eV/Å) after each step.

    Raises:
        WorkflowError: bad options; ends that differ in cell, composition or order, are the same, or are shifted or
            rotated against each other; a band of another search in ``out``.
        NonFiniteError: the calculator returned NaN or infinity.

    Warns:
        ConvergenceWarning: the band did not converge.
        WorkflowWarning: ends that are not relaxed, a path without a saddle, or one with a minimum on the way.
    """
    start = time.perf_counter()
    if images < 1:
        raise WorkflowError(f"images must be at least 1, got {images}")
    if not fmax > 0 or not spring_ev_per_ang2 > 0:
        raise WorkflowError(f"fmax and spring_ev_per_ang2 must be positive, got {fmax!r} and {spring_ev_per_ang2!r}")
    if optimizer not in OPTIMIZERS:
        raise WorkflowError(f"unknown optimizer {optimizer!r} for a band: choose from {', '.join(OPTIMIZERS)}")
    first, last = matched_ends(initial, final, order)
    identity = {
        "initial_structure": structure_hash(first),
        "final_structure": structure_hash(last),
        "fixed_atoms": [int(i) for item in first.constraints for i in item.index],
        "calculator": describe_calculator(calculator),
        "images": images,
        "climb": climb,
        "spring_ev_per_ang2": spring_ev_per_ang2,
        "interpolation": interpolation,
        "relax_ends": relax_ends,
    }
    folder = None if out is None else Path(out)
    kept = None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        kept = load_band(folder, identity) if resume else None
        if kept is None:
            for name in (BAND, PATH, BANDS):
                (folder / name).unlink(missing_ok=True)

    if kept is not None:
        first.positions, last.positions = kept[0][0], kept[0][-1]
    if relax_ends:
        first = _relaxed_end(first, calculator, fmax, "initial")
        last = _relaxed_end(last, calculator, fmax, "final")
        refuse_same(displacement(first, last), " once relaxed")
    band = make_images(
        freeze(first, calculator, "the initial end"),
        freeze(last, calculator, "the final end"),
        images,
        calculator,
        interpolation if kept is None else "linear",
    )
    climbing, begin = False, 0
    if kept is not None:
        climbing, begin = kept[1], kept[2]
        for image, positions in zip(band[1:-1], kept[0][1:-1], strict=True):
            image.positions = positions

    chain = NEB(band, k=spring_ev_per_ang2, climb=False, method="improvedtangent")
    done = begin

    def observe(step: int) -> None:
        if folder is not None:
            save_band(folder, identity, band, bool(chain.climb), done + step)
            append_band(folder / BANDS, chain.iterimages())
        if progress is not None:
            progress(done + step, band_force(chain))

    log = None if folder is None else folder / "neb.log"
    loose = 10.0 * fmax if climb else fmax
    if not climbing:
        done += search(chain, optimizer, loose, max_steps - done, log, observe)
    if climb and (climbing or band_force(chain) <= loose):
        chain.climb = climbing = True
        done += search(chain, optimizer, fmax, max_steps - done, log, observe)
    chain.climb = climb
    force = band_force(chain)

    path = [image.copy() for image in chain.iterimages()]
    for image, source in zip(path, chain.iterimages(), strict=True):
        image.calc = source.calc
    if folder is not None:
        save_band(folder, identity, band, climbing, done)
        with atomic_path(folder / PATH) as temporary:
            write(temporary, path, format="extxyz")
    result = _result(
        path,
        force,
        fmax,
        done,
        begin,
        {} if folder is None else {name: folder / name for name in (PATH, BANDS, BAND)},
        time.perf_counter() - start,
        {
            **{key: value for key, value in identity.items() if "structure" not in key},
            "fmax": fmax,
            "order": order,
            "optimizer": optimizer,
            "max_steps": max_steps,
        },
    )
    _warn(result, fmax)
    return result


def _relaxed_end(atoms: Atoms, calculator: Any, fmax: float, name: str) -> Atoms:
    """Relax one end; what did not converge is told by the forces that the result reports."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        relaxed = relax(atoms, calculator, fmax=fmax / 3.0).atoms
    moved = float(np.linalg.norm(relaxed.positions - atoms.positions, axis=1).max())
    if moved > 1.0:
        warnings.warn(
            f"the {name} end moved by {moved:.2f} Å while it relaxed: look whether it still is the state you meant",
            WorkflowWarning,
            stacklevel=3,
        )
    return relaxed


def _result(
    path: list[Atoms],
    force: float,
    fmax: float,
    steps: int,
    begin: int,
    files: dict[str, Path],
    seconds: float,
    settings: dict[str, Any],
) -> NEBResult:
    from ase.utils.forcecurve import fit_images

    energies = np.array([image.get_potential_energy() for image in path])
    highest = int(energies.argmax())
    curve = fit_images(path)
    fitted, change = NEBTools(path).get_barrier(fit=True)
    ends = tuple(float(np.linalg.norm(path[k].get_forces(), axis=1).max()) for k in (0, -1))
    return NEBResult(
        images=tuple(path),
        distance_ang=np.array(curve.path),
        energy_ev=energies,
        fit_distance_ang=np.asarray(curve.fit_path),
        fit_energy_ev=np.asarray(curve.fit_energies),
        barrier_forward_ev=float(energies[highest] - energies[0]),
        barrier_backward_ev=float(energies[highest] - energies[-1]),
        barrier_fit_forward_ev=float(fitted),
        barrier_fit_backward_ev=float(fitted - change),
        reaction_energy_ev=float(change),
        saddle_index=highest,
        saddle=path[highest],
        max_force_ev_per_ang=force,
        end_forces_ev_per_ang=(ends[0], ends[1]),
        ends_relaxed=max(ends) <= fmax,
        converged=force <= fmax and max(ends) <= fmax,
        steps=steps,
        resumed_from=begin,
        files=files,
        wall_time_s=seconds,
        settings=settings,
    )


def _warn(result: NEBResult, fmax: float) -> None:
    """Say loudly what is wrong with a path."""
    if not result.ends_relaxed:
        warnings.warn(
            f"the end points are NOT relaxed: forces up to {result.end_forces_ev_per_ang[0]:.3g} (initial) and "
            f"{result.end_forces_ev_per_ang[1]:.3g} eV/Å (final), wanted {fmax:g}; barriers refer to no minimum",
            WorkflowWarning,
            stacklevel=3,
        )
    if result.max_force_ev_per_ang > fmax:
        warnings.warn(
            f"the band is NOT converged after {result.steps} steps: largest force {result.max_force_ev_per_ang:.3g} "
            f"eV/Å (wanted {fmax:g}). The barrier is not that of a saddle; raise max_steps and go on.",
            ConvergenceWarning,
            stacklevel=3,
        )
    energies = result.energy_ev
    if result.saddle_index in (0, len(energies) - 1):
        warnings.warn(
            "the path has no saddle: its highest image is an end point. One of the ends is no minimum, or more images "
            "are needed",
            WorkflowWarning,
            stacklevel=3,
        )
    for k in range(1, len(energies) - 1):
        depth = min(energies[:k].max(), energies[k + 1 :].max()) - energies[k]
        if depth > 0.01 and energies[k] <= min(energies[k - 1], energies[k + 1]):
            warnings.warn(
                f"the path has a minimum on the way, at image {k} ({depth:.3g} eV deep): relax that image and search "
                "the two halves separately",
                WorkflowWarning,
                stacklevel=3,
            )
