"""What drives phono3py: force constants from any ASE calculator, conductivities on a mesh."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.errors import NonFiniteError, WorkflowError
from mlcalc.records import describe_calculator, structure_hash
from mlcalc.workflows._displacements import displacement_forces

COARSER = 2.0 / 3.0  # of the mesh, to see how much its density matters
ABSURD = 1e6  # W/(m K): no scattering at all
PARAMETERS = "phono3py_params.yaml"


def load_phono3py() -> Any:
    """Return the class Phono3py, or raise WorkflowError where it is not installed."""
    try:
        from phono3py import Phono3py
    except ImportError as error:
        raise WorkflowError(
            "lattice thermal conductivity needs phono3py, which is not installed: pip install 'mlcalc[heat]'"
        ) from error
    return Phono3py


def fit(
    solver: Any,
    cell: Atoms,
    calculator: Any,
    repeats: list[int],
    displacement: float,
    pair_cutoff: float | None,
    symprec: float,
    out: str | Path | None,
    progress: Callable[[int, int], None] | None,
) -> tuple[float, int]:
    """Give ``solver`` its force constants; return the drift of forces (eV/Å) and the number of displaced supercells."""
    solver.generate_displacements(distance=displacement, cutoff_pair_distance=pair_cutoff)
    every = solver.supercells_with_displacements
    cells = [item for item in every if item is not None]  # beyond the cutoff there is none
    identity = {
        "structure": structure_hash(cell),
        "calculator": describe_calculator(calculator),
        "supercell": repeats,
        "displacement": displacement,
        "pair_cutoff": pair_cutoff,
        "symprec": symprec,
        "order": 3,
    }
    folder = None if out is None else Path(out)
    found = displacement_forces(cells, calculator, folder, identity, progress)
    drift = found.mean(axis=1, keepdims=True)
    forces = np.zeros((len(every), *found.shape[1:]))
    forces[[k for k, item in enumerate(every) if item is not None]] = found - drift
    solver.forces = forces
    solver.produce_fc3(symmetrize_fc3r=True)
    solver.produce_fc2(symmetrize_fc2=True)
    if folder is not None:
        solver.save(folder / PARAMETERS)
    return float(np.linalg.norm(drift, axis=2).max()), len(cells)


def thinned(solver: Any, mesh: float | Sequence[int]) -> list[int]:
    """Return the numbers of a mesh of two thirds.

    Raises:
        WorkflowError: it is the same mesh.
    """
    solver.mesh_numbers = mesh
    fine = [int(n) for n in solver.mesh_numbers]
    coarse = [max(1, round(COARSER * n)) for n in fine]
    if coarse == fine:
        raise WorkflowError(f"there is no mesh coarser than {fine} to compare with: use a denser one, or no check_mesh")
    return coarse


def solve(
    solver: Any, mesh: float | Sequence[int], temperatures: NDArray[np.float64], method: str, isotope: bool
) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """Return (T, 3, 3) conductivities, W/(m K), and the mesh."""
    solver.mesh_numbers = mesh
    solver.init_phph_interaction()
    solver.run_thermal_conductivity(temperatures=temperatures, is_LBTE=method == "lbte", is_isotope=isotope)
    voigt = np.asarray(solver.thermal_conductivity.kappa)[0]
    if not np.isfinite(voigt).all():
        raise NonFiniteError("phono3py returned NaN or infinite conductivities")
    if voigt.max() > ABSURD:
        raise WorkflowError(
            f"the conductivity comes out as {voigt.max():.1e} W/(m K): third-order force constants vanish in this "
            "supercell, as they do where neighbours lie half a supercell away. Use a larger one"
        )
    xx, yy, zz, yz, xz, xy = voigt.T
    kappa = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]).transpose(2, 0, 1)
    a, b, c = (int(n) for n in solver.mesh_numbers)
    return kappa, (a, b, c)
