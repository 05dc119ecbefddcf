"""Lattice constant, elastic constants and vacancy energy of a cubic elemental crystal, with any ASE calculator.

Elastic constants are central differences of the Cauchy stress under ±0.5 % strain at the calculator's own lattice
constant; atoms relax in the strained cell, which matters where they are no centres of inversion (C44 of diamond). The
vacancy relaxes in a cell of fixed size: E(N − 1) − (N − 1)/N · E(N).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.units import GPa
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar

from mlcalc.errors import WorkflowError
from mlcalc.workflows import relax

# Repeats of the conventional cell: more than a hundred atoms, so that a vacancy does not see its images.
VACANCY_REPEATS = {"fcc": 3, "bcc": 4, "diamond": 3}


@dataclass(frozen=True)
class CubicProperties:
    """Properties of a cubic elemental crystal at rest.

    Attributes:
        element: chemical symbol.
        crystal: fcc, bcc or diamond.
        lattice_constant_ang: of the conventional cell, Å.
        energy_ev_per_atom: at that lattice constant.
        c11_gpa: elastic constants with relaxed ions, GPa.
        c12_gpa: the same.
        c44_gpa: the same.
        c44_clamped_gpa: C44 with atoms that only follow the strain, GPa.
        vacancy_ev: formation energy of a vacancy, fixed cell, relaxed positions, eV.
        vacancy_unrelaxed_ev: the same before relaxing.
        vacancy_atoms: atoms of the supercell before one is taken out.
    """

    element: str
    crystal: str
    lattice_constant_ang: float
    energy_ev_per_atom: float
    c11_gpa: float
    c12_gpa: float
    c44_gpa: float
    c44_clamped_gpa: float
    vacancy_ev: float
    vacancy_unrelaxed_ev: float
    vacancy_atoms: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def cubic_properties(
    element: str,
    crystal: str,
    calculator: Any,
    guess_ang: float,
    repeats: int | None = None,
    report: Callable[[str], None] | None = None,
) -> CubicProperties:
    """Compute all of ``CubicProperties``.

    Args:
        element: chemical symbol.
        crystal: fcc, bcc or diamond.
        calculator: with energies, forces and stresses; float64, or finite differences drown in rounding.
        guess_ang: lattice constant to start from, right within 8 %, Å.
        repeats: of the conventional cell for the vacancy, along each axis.
        report: called with a line of text as results come in.

    Raises:
        WorkflowError: a crystal that is not cubic, no energy minimum near the guess, or a relaxation that does not
            converge.
    """
    say = report or (lambda line: None)
    if crystal not in VACANCY_REPEATS:
        raise WorkflowError(f"crystal must be one of {', '.join(VACANCY_REPEATS)}, not {crystal!r}")
    a = lattice_constant(element, crystal, calculator, guess_ang)
    unit = bulk(element, crystal, a=a)
    unit.calc = calculator
    energy = unit.get_potential_energy() / len(unit)
    say(f"{element} {crystal}: a = {a:.4f} Å, E = {energy:.4f} eV/atom")
    c11, c12, c44 = elastic_constants(unit, calculator)
    clamped = elastic_constants(unit, calculator, relax_ions=False)[2]
    say(f"{element} {crystal}: C11 {c11:.1f}, C12 {c12:.1f}, C44 {c44:.1f} (clamped {clamped:.1f}) GPa")
    cube = bulk(element, crystal, a=a, cubic=True).repeat(repeats or VACANCY_REPEATS[crystal])
    relaxed, unrelaxed = vacancy_energy(cube, calculator)
    say(f"{element} {crystal}: vacancy {relaxed:.3f} eV (unrelaxed {unrelaxed:.3f}), {len(cube) - 1} atoms")
    return CubicProperties(
        element=element,
        crystal=crystal,
        lattice_constant_ang=a,
        energy_ev_per_atom=energy,
        c11_gpa=c11,
        c12_gpa=c12,
        c44_gpa=c44,
        c44_clamped_gpa=clamped,
        vacancy_ev=relaxed,
        vacancy_unrelaxed_ev=unrelaxed,
        vacancy_atoms=len(cube),
    )


def lattice_constant(element: str, crystal: str, calculator: Any, guess_ang: float) -> float:
    """Return the lattice constant (Å) of lowest energy within 8 % of a guess, where the pressure vanishes.

    Raises:
        WorkflowError: if there is no minimum there.
    """

    def crystal_at(a: float) -> Atoms:
        atoms = bulk(element, crystal, a=a)
        atoms.calc = calculator
        return atoms

    low, high = 0.92 * guess_ang, 1.08 * guess_ang
    found = minimize_scalar(
        lambda a: crystal_at(a).get_potential_energy(), bounds=(low, high), method="bounded", options={"xatol": 1e-3}
    ).x

    def pressure(a: float) -> float:
        return -float(crystal_at(a).get_stress()[:3].mean())

    bracket = max(low, found - 0.01 * guess_ang), min(high, found + 0.01 * guess_ang)
    if not pressure(bracket[0]) > 0.0 > pressure(bracket[1]):
        raise WorkflowError(f"{element} {crystal} has no energy minimum between {low:.3f} and {high:.3f} Å")
    return float(brentq(pressure, *bracket, xtol=1e-7))


def elastic_constants(
    atoms: Atoms, calculator: Any, strain: float = 5e-3, relax_ions: bool = True
) -> tuple[float, float, float]:
    """Return C11, C12 and C44 (GPa) of a cubic crystal whose cubic axes are x, y and z.

    Args:
        atoms: free of stress, atoms at rest, any cell.
        calculator: with stresses.
        strain: engineering strain of the central differences.
        relax_ions: let atoms relax in the strained cell.

    Raises:
        WorkflowError: a relaxation did not converge.
    """

    def stress(deformation: NDArray[np.float64]) -> NDArray[np.float64]:
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array @ (np.eye(3) + deformation).T, scale_atoms=True)
        if relax_ions and len(strained) > 1:
            strained = _relaxed(strained, calculator, fmax=1e-4)
        strained.calc = calculator
        return strained.get_stress() / GPa

    axial, shear = np.zeros((3, 3)), np.zeros((3, 3))
    axial[0, 0] = strain
    shear[1, 2] = shear[2, 1] = 0.5 * strain
    along = (stress(axial) - stress(-axial)) / (2.0 * strain)
    across = (stress(shear) - stress(-shear)) / (2.0 * strain)
    return float(along[0]), float(0.5 * (along[1] + along[2])), float(across[3])


def vacancy_energy(crystal: Atoms, calculator: Any, seed: int = 0) -> tuple[float, float]:
    """Return the formation energy of a vacancy (eV) with relaxed and with unrelaxed positions, in a fixed cell.

    Small random displacements before the relaxation let the surroundings lose their symmetry if that is lower.

    Args:
        crystal: supercell in which all atoms are equivalent and at rest.
        calculator: any.
        seed: of the displacements.

    Raises:
        WorkflowError: the relaxation did not converge.
    """
    perfect = crystal.copy()
    perfect.calc = calculator
    rest = perfect.get_potential_energy() * (len(crystal) - 1) / len(crystal)
    vacancy = crystal.copy()
    del vacancy[0]
    vacancy.calc = calculator
    unrelaxed = vacancy.get_potential_energy() - rest
    start = vacancy.copy()
    start.rattle(0.02, seed=seed)
    relaxed = _relaxed(start, calculator, fmax=2e-3).get_potential_energy() - rest
    return float(relaxed), float(unrelaxed)


def _relaxed(atoms: Atoms, calculator: Any, fmax: float) -> Atoms:
    result = relax(atoms, calculator, fmax=fmax, optimizer="BFGSLineSearch" if len(atoms) > 8 else "BFGS")
    if not result.converged:
        raise WorkflowError(
            f"{atoms.get_chemical_formula()} does not relax: largest force {result.max_force_ev_per_ang:.2g} eV/Å"
        )
    return result.atoms
