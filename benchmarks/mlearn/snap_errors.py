"""Errors of SNAP and qSNAP on frames they never saw, in the folds of ``cross_validate.py``.

    MLCALC_DATA=../shared/data python benchmarks/mlearn/snap_errors.py --out snap

Published errors are on frames that are not at hand; these two potentials are linear and take seconds to fit, so they
can be had on the same frames as ``mlearn``: bispectra by LAMMPS (``compute snap``), least squares on energies and
forces. Cutoff and weight of the energies are those of a grid with the lowest product of both errors on the very frames
taken out: as good as such a fit can be made to look.
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from cross_validate import intervals
from numpy.typing import NDArray
from published import PUBLISHED

from mlcalc.lammps.box import make_box
from mlcalc.lammps.run import open_library
from mlcalc.training.dataset import Labelled, read_labelled, take_fold
from mlcalc.training.metrics import Predictions, errors_by_group
from mlcalc.training.settings import read_settings

SNAPS = {"SNAP": (8, False), "qSNAP": (6, True)}  # 2Jmax, with products of bispectrum components
CUTOFFS_ANG = {
    "Ni": (3.6, 3.9, 4.3),
    "Li": (4.6, 5.1, 5.6),
    "Mo": (3.8, 4.2, 4.7),
    "Si": (4.5, 4.9, 5.4),
}
ENERGY_WEIGHTS = (10.0, 30.0, 100.0, 300.0, 1000.0)  # of residuals in eV/atom, beside 1 Å/eV of forces
RIDGE = 1e-9  # of the largest diagonal element

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Frame:
    """What one frame adds to the fit: rows of the energy per atom (n,) and of force components (3N, n)."""

    energy: Array
    forces: Array


def bispectra(atoms: Atoms, highest: int, quadratic: bool, cutoff_ang: float) -> Frame:
    """Return the descriptors of a periodic frame and their derivatives, from LAMMPS."""
    box = make_box(atoms)
    (xhi, _, _), (xy, yhi, _), (xz, yz, zhi) = box.cell
    number = len(atoms)
    lmp = open_library()
    try:
        lmp.commands_string(
            "units metal\nbox tilt large\natom_modify map array sort 0 0\n"
            f"region box prism 0 {xhi} 0 {yhi} 0 {zhi} {xy} {xz} {yz}\ncreate_box 1 box\nmass 1 1\n"
        )
        inside = (box.vectors_to_lammps(atoms.positions) @ np.linalg.inv(box.cell)) % 1.0 @ box.cell
        lmp.create_atoms(number, None, [1] * number, inside.ravel().tolist())
        lmp.commands_string(
            f"pair_style zero {cutoff_ang + 0.1}\npair_coeff * *\n"
            f"compute snap all snap {cutoff_ang} 0.99363 {highest} 0.5 1 rmin0 0 quadraticflag {int(quadratic)}\n"
            "thermo_style custom step c_snap[1][1]\nrun 0\n"
        )
        # Style 0 is global, type 2 an array; the last column is the pair style's own energy and forces: zero.
        found = np.array(lmp.numpy.extract_compute("snap", 0, 2))[:, :-1]
    finally:
        lmp.close()
    width = found.shape[1]
    forces = np.einsum("ij,ajn->ain", box.rotation, found[1 : 1 + 3 * number].reshape(number, 3, width))
    forces = np.concatenate([np.zeros((number, 3, 1)), forces], axis=2)
    return Frame(np.concatenate([[1.0], found[0] / number]), forces.reshape(3 * number, width + 1))


@dataclass(frozen=True)
class Normal:
    """Normal equations: Gram matrix and right side."""

    matrix: Array
    right: Array

    def __add__(self, other: Normal) -> Normal:
        return Normal(self.matrix + other.matrix, self.right + other.right)

    def scaled(self, weight: float) -> Normal:
        """Return them with every residual counting ``weight`` times."""
        return Normal(weight * self.matrix, weight * self.right)

    def solve(self) -> Array:
        """Return the coefficients, columns scaled and slightly damped."""
        scale = 1 / np.sqrt(np.maximum(np.diag(self.matrix), np.finfo(float).tiny))
        matrix = self.matrix * np.outer(scale, scale)
        matrix[np.diag_indices_from(matrix)] += RIDGE
        return np.asarray(scale * np.linalg.solve(matrix, scale * self.right))


def fold_normals(frames: list[Frame], data: list[Labelled], inside: list[int]) -> tuple[Normal, Normal]:
    """Return the normal equations of the energies and of the forces of some frames."""
    energies = np.stack([frames[k].energy for k in inside])
    labels = np.array([data[k].energy / len(data[k].atoms) for k in inside])
    forces = np.concatenate([frames[k].forces for k in inside])
    return (
        Normal(energies.T @ energies, energies.T @ labels),
        Normal(forces.T @ forces, forces.T @ np.concatenate([data[k].forces.ravel() for k in inside])),
    )


def cross_validated(frames: list[Frame], data: list[Labelled], folds: int, weight: float) -> Predictions:
    """Fit without each fold in turn and predict it."""
    insides = [take_fold(data, folds, k)[1] for k in range(folds)]
    normals = [fold_normals(frames, data, inside) for inside in insides]
    energies = np.zeros(len(data))
    forces: list[Array] = [np.empty(0)] * len(data)
    for fold, inside in enumerate(insides):
        others = [energy.scaled(weight**2) + force for k, (energy, force) in enumerate(normals) if k != fold]
        coefficients = sum(others[1:], others[0]).solve()
        for k in inside:
            energies[k] = len(data[k].atoms) * frames[k].energy @ coefficients
            forces[k] = (frames[k].forces @ coefficients).reshape(-1, 3)
    return Predictions(tuple(data), energies, tuple(forces), (None,) * len(data))


def _energy(found: dict[str, Any]) -> float:
    return float(found["overall"]["energy_rmse_mev_per_atom"])


def _forces(found: dict[str, Any]) -> float:
    return float(found["overall"]["forces_rmse_ev_per_ang"])


def main() -> None:
    """Fit both for all elements and print their errors beside the published ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("elements", nargs="*", default=list(PUBLISHED))
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--out", type=Path, help="folder to write the errors to: SNAP-Si.json, …")
    args = parser.parse_args()
    for element, (name, (highest, quadratic)) in itertools.product(args.elements, SNAPS.items()):
        config = read_settings(Path(__file__).parent / f"mlearn-{element}.yaml").data
        data = [x for path in config.train for x in read_labelled(path, config)]
        tried = []
        for cutoff in CUTOFFS_ANG[element]:
            frames = [bispectra(x.atoms, highest, quadratic, cutoff) for x in data]
            for weight in ENERGY_WEIGHTS:
                found = cross_validated(frames, data, args.folds, weight)
                tried.append({"cutoff_ang": cutoff, "energy_weight": weight, **errors_by_group(found)})
                tried[-1]["interval_95"] = intervals(found)
        best = min(tried, key=lambda x: _energy(x) * _forces(x))
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            result = {"element": element, "potential": name, "folds": args.folds, **best}
            (args.out / f"{name}-{element}.json").write_text(json.dumps(result, indent=1) + "\n")
        energy, force = PUBLISHED[element].errors[name]
        print(
            f"{element} {name}, cutoff {best['cutoff_ang']} Å, energies weigh {best['energy_weight']:g}: "
            f"{_energy(best):.2f} meV/atom, {_forces(best):.4f} eV/Å (published, on other frames: {energy}, {force})",
            flush=True,
        )


if __name__ == "__main__":
    main()
