"""Vibrations of the cell as it is (phonons at Γ): exact from displacements in that cell alone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from phonopy import Phonopy

from mlcalc.records import Record, describe_calculator
from mlcalc.workflows._displacements import displacement_forces, phonopy_cell, residual_force
from mlcalc.workflows._structures import as_atoms, require_periodic, without_constraints


@dataclass(frozen=True)
class GammaResult(Record):
    """Modes at Γ of the cell given; instabilities with other periods need ``phonons``.

    Attributes:
        frequencies_thz: (3N − 3,) ascending, without the three translations; imaginary ones are negative.
        acoustic_thz: largest |frequency| of the translations; zero by invariance.
        imaginary: modes below minus the tolerance.
        worst_displacements: (N, 3) of the lowest mode, the largest of them of length 1; None in a cell of one atom.
        residual_force_ev_per_ang: largest force in the structure as given.
        displacements: that were evaluated.
        wall_time_s: seconds.
        settings: every option that made this result.
    """

    frequencies_thz: NDArray[np.float64]
    acoustic_thz: float
    imaginary: int
    worst_displacements: NDArray[np.float64] | None
    residual_force_ev_per_ang: float
    displacements: int
    wall_time_s: float
    settings: dict[str, Any]

    @property
    def min_frequency_thz(self) -> float:
        """The lowest frequency, 0 in a cell of one atom."""
        return float(self.frequencies_thz[0]) if len(self.frequencies_thz) else 0.0


def gamma_phonons(
    atoms: Any,
    calculator: Any,
    *,
    displacement: float = 0.01,
    imaginary_tolerance_thz: float = 0.1,
    force_tolerance: float = 1e-2,
    symprec: float = 1e-4,
) -> GammaResult:
    """Displace atoms, all their images with them, and diagonalise.

    At Γ images move together, so the cell itself is supercell enough, whatever its size.

    Args:
        atoms: relaxed structure; not modified.
        calculator: an ASE calculator, in double precision.
        displacement: Å.
        imaginary_tolerance_thz: modes below minus this are called imaginary.
        force_tolerance: largest force the given structure may have without a warning, eV/Å.
        symprec: tolerance of the symmetry that saves displacements, Å.

    Raises:
        WorkflowError: not periodic.
        NonFiniteError: the calculator returned NaN or infinity.
    """
    start = time.perf_counter()
    cell = as_atoms(atoms)
    require_periodic(cell, "a phonon calculation")
    cell = without_constraints(cell, "a phonon calculation")
    residual = residual_force(cell, calculator, force_tolerance, "phonons")
    phonon = Phonopy(
        phonopy_cell(cell), supercell_matrix=np.eye(3, dtype=int), primitive_matrix=cast(Any, "P"), symprec=symprec
    )
    phonon.generate_displacements(distance=displacement)
    forces = displacement_forces(phonon.supercells_with_displacements or [], calculator, None, {}, None)
    phonon.forces = forces - forces.mean(axis=1, keepdims=True)
    phonon.produce_force_constants(calculate_full_force_constants=False, show_drift=False)
    phonon.symmetrize_force_constants(show_drift=False)
    qpoints = cast(Any, phonon.run_qpoints([[0.0, 0.0, 0.0]], with_eigenvectors=True))
    frequencies = np.asarray(qpoints.frequencies[0], dtype=np.float64)
    modes = np.asarray(qpoints.eigenvectors[0]).T.reshape(-1, len(cell), 3)
    translation = _translations(modes, cell)
    optical = np.flatnonzero(~translation)
    left = frequencies[optical]
    return GammaResult(
        frequencies_thz=left,
        acoustic_thz=float(np.abs(frequencies[translation]).max()),
        imaginary=int((left < -imaginary_tolerance_thz).sum()),
        worst_displacements=None if len(left) == 0 else _pattern(modes[optical[0]], cell),
        residual_force_ev_per_ang=residual,
        displacements=len(forces),
        wall_time_s=time.perf_counter() - start,
        settings={
            "calculator": describe_calculator(calculator),
            "displacement": displacement,
            "imaginary_tolerance_thz": imaginary_tolerance_thz,
            "force_tolerance": force_tolerance,
            "symprec": symprec,
        },
    )


def _translations(modes: NDArray[Any], cell: Atoms) -> NDArray[np.bool_]:
    """Return which three modes have the largest share in motions of the cell as a whole."""
    weights = np.sqrt(cell.get_masses() / cell.get_masses().sum())
    share = (np.abs(np.einsum("mnk,n->mk", modes, weights)) ** 2).sum(axis=1)
    found = np.zeros(len(modes), dtype=bool)
    found[np.argsort(share)[-3:]] = True
    return found


def _pattern(mode: NDArray[Any], cell: Atoms) -> NDArray[np.float64]:
    """Return displacements of a mode, real (at Γ they are, up to a common phase), the largest of length 1."""
    phase = mode.flat[int(np.abs(mode).argmax())]
    moves = np.real(mode / (phase / abs(phase))) / np.sqrt(cell.get_masses())[:, None]
    return np.asarray(moves / np.linalg.norm(moves, axis=1).max(), dtype=np.float64)
