"""The list of checks, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlcalc.workflows import _check_derivatives as derivatives
from mlcalc.workflows import _check_dynamics, _check_extent, _check_lammps, _check_smoothness, _check_state
from mlcalc.workflows import _check_sums as sums
from mlcalc.workflows import _check_symmetry as symmetry
from mlcalc.workflows._check_context import Context, Deviation


@dataclass(frozen=True)
class Check:
    """One check: its name, what it says, and the function that returns its figures.

    Attributes:
        name: short, unique.
        measures: what it measures.
        where_to_look: what is likely wrong if it fails.
        function: returns figures; raises ``NotApplicableError`` where it has no meaning.
        judged: whether figures beyond their tolerance are a failure.
    """

    name: str
    measures: str
    where_to_look: str
    function: Callable[[Context], list[Deviation]]
    judged: bool = True


CHECKS = (
    Check(
        "noise",
        "scatter of energy and forces along a line of 0.001 Å",
        "random numbers, threads that race, or sums in half precision",
        derivatives.noise,
    ),
    Check(
        "forces",
        "forces against central differences of the energy",
        "the derivative of the energy with positions; parts of the energy that forces leave out",
        derivatives.forces,
    ),
    Check(
        "stress",
        "six components of stress against strained cells",
        "sign, order (xx yy zz yz xz xy), units (eV/Å³), factor 2 of shears, volume",
        derivatives.stress,
    ),
    Check(
        "atomic energies",
        "sum of energies against energy",
        "per-atom energies leave out a part, such as reference energies",
        sums.atomic_energies,
    ),
    Check(
        "atomic stresses",
        "sum of stresses against stress",
        "sign or volume of per-atom stresses",
        sums.atomic_stresses,
    ),
    Check("net force", "sum of forces", "forces that are no derivative, or a field in space", sums.net_force),
    Check("net torque", "sum of torques on a cluster", "an energy that depends on orientation", sums.net_torque),
    Check("translation", "all atoms moved", "use of positions where differences belong", symmetry.translation),
    Check(
        "rotation",
        "atoms and cell turned",
        "a network that is not invariant; frames of the cell that are not turned back",
        symmetry.rotation,
    ),
    Check(
        "mirror",
        "atoms inverted; some networks are not mirror-symmetric by design",
        "chiral features",
        symmetry.mirror,
        judged=False,
    ),
    Check("permutation", "atoms renumbered", "order of atoms, of elements, of types", symmetry.permutation),
    Check("wrapping", "atoms moved by lattice vectors", "neighbours of atoms outside the cell", symmetry.wrapping),
    Check(
        "equivalent cells",
        "other lattice vectors of the same lattice",
        "neighbour search in skewed or left-handed cells",
        symmetry.equivalent_cells,
    ),
    Check("supercell", "crystal doubled", "an energy that is not extensive; neighbours", _check_extent.supercell),
    Check(
        "images",
        "primitive cell against its 3×3×3 supercell",
        "neighbour search: images beyond the next cell, or the minimum image alone",
        _check_extent.images,
    ),
    Check("copies", "two clusters far apart", "an energy that is not extensive; normalisation", _check_extent.copies),
    Check(
        "isolated atoms",
        "one atom alone: finite energy, no force",
        "empty lists of neighbours",
        _check_extent.isolated_atoms,
    ),
    Check(
        "far atoms",
        "two atoms far apart against each alone",
        "empty lists of neighbours; interactions without a cutoff",
        _check_extent.far_atoms,
    ),
    Check(
        "smoothness",
        "jumps of energy and forces along scans",
        "cutoff functions: do value and slope go to zero?",
        _check_smoothness.smoothness,
    ),
    Check(
        "dynamics",
        "NVE at 300 K: drift, and order of the energy's fluctuation in the time step",
        "forces that are no derivative, jumps, stale neighbour lists",
        _check_dynamics.dynamics,
    ),
    Check(
        "state",
        "results after changes in place against a fresh calculator",
        "what check_state and caches compare; neighbour lists kept too long",
        _check_state.state,
    ),
    Check(
        "requests",
        "order and repetition of requests",
        "results that one property leaves for another",
        _check_state.order_of_requests,
    ),
    Check("atoms untouched", "atoms before and after", "wrapping or sorting in place", _check_state.untouched),
    Check(
        "LAMMPS",
        "LAMMPS on one and two ranks against ASE",
        "mlcalc doctor; mlcalc lammps build --force",
        _check_lammps.lammps,
    ),
)
NAMES = tuple(item.name for item in CHECKS)
