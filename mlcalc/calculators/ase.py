"""The ASE calculator."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import (
    Calculator,
    Parameters,
    PropertyNotImplementedError,
    all_changes,
    equal,
    external_calculators,
    register_calculator_class,
)
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray
from torch import Tensor

from mlcalc.calculators._checks import (
    check_deviations,
    check_distances,
    check_finite,
    check_grades,
    check_mixture,
    read_threshold,
)
from mlcalc.calculators._members import Evaluation, Members, Source, as_array
from mlcalc.errors import SettingsError
from mlcalc.graphs import VerletList, species_indices
from mlcalc.potentials.base import Potential, PotentialInfo
from mlcalc.potentials.derivatives import atomic_virials, strain_derivative
from mlcalc.potentials.grade import FAR
from mlcalc.potentials.precision import dtype_name

if TYPE_CHECKING:
    from mlcalc.calculators.dispersion import Dispersion
    from mlcalc.calculators.remote import RemoteCalculator

_OF_CELL = {"stress", "stresses", "stress_std"}
_OF_GRADIENTS = _OF_CELL | {"forces", "force_deviation"}
_OF_COMMITTEES = ["energy_std", "energies_std", "force_deviation", "stress_std"]


class MLCalculator(Calculator):
    """A potential as an ASE calculator.

    ``atoms.calc = MLCalculator("mlearn")`` gives energy, free_energy and energies (eV), forces (eV/Å), and with three
    periodic axes stress and stresses (eV/Å³, tension positive, xx, yy, zz, yz, xz, xy). ``stresses`` (N, 6) are
    symmetrised shares of the atoms that sum to ``stress``: −W_i/V with W_i = −½ Σ r_e ⊗ g_e over the edges of an atom.
    ``calc.get_property("extrapolation_grades", atoms)`` (N,) tells how far each atom's environment lies from the
    training set, where 1 is the farthest in training; a property of mlcalc's own, and computed for every structure.

    ``MLCalculator(["a.pt", "b.pt", "c.pt"])`` is a committee: energies, forces and stresses are means over its members,
    grades the largest. ``get_property`` then also gives, with ⟨⟩ the mean over the members, energy_std (eV) and
    energies_std (N,), stress_std (6,), all of the form √⟨(x − ⟨x⟩)²⟩, and force_deviation (N,), √⟨|F_i − ⟨F_i⟩|²⟩ in
    eV/Å. They cost nothing beside the energies or forces they belong to.

    Only what is asked is computed: an energy costs no gradient, and forces, stress and stresses of one structure share
    one. Results are kept until positions, numbers, cell, pbc or an input that the potential reads from ``atoms.info``
    change.

    Args:
        potential: name of a potential that ships with mlcalc, path of a weights or model file, or a ``Potential``,
            of which a private copy is made; or a list of these, for a committee.
        dtype: ``"float32"`` or ``"float64"``; None keeps that of each potential. Edge vectors are computed in float64
            in any case, energies and forces are summed in float64.
        device: where the potential runs, ``"cpu"``, ``"cuda"``, ….
        skin: of the Verlet list, Å; it only affects speed. 0 searches neighbours anew for every structure.
        grade_warn: warn of atoms with a larger extrapolation grade; None does not.
        grade_stop: raise ``ExtrapolationError`` for atoms with a larger grade; None does not.
        deviation_warn: warn of atoms with a larger force deviation, eV/Å, wherever forces are computed; None does not.
        deviation_stop: raise ``ExtrapolationError`` for atoms with a larger force deviation; None does not.
        tables: polynomials in the place of radial networks, where compiled operators read them: much faster, and forces
            change by less than 1e-4 eV/Å on a reference set (`mlcalc.deploy.tables`). None makes them in float32 on the
            CPU and leaves float64 exact.
        dispersion: ``"d3bj"``, ``"d3zero"``, either with ``-atm``, or a ``Dispersion``: D3 is added, and the calculator
            is a ``DispersionCalculator``.
        dispersion_functional: whose D3 parameters; None takes what the potential's energy scale names.

    Attributes:
        potentials: the private copies.
        verlet: the neighbour list; ``verlet.calls`` and ``verlet.rebuilds`` count its work.

    Raises:
        ModelFileError: the potential cannot be found or loaded.
        SettingsError: unknown dtype, a threshold that is no positive number, a ``grade_stop`` for a potential without
            grades, a threshold of deviations for one potential, or potentials that cannot be a committee.
        ValueError: negative skin.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress", "stresses"]  # noqa: RUF012
    ignored_changes = {"initial_charges", "initial_magmoms"}  # noqa: RUF012

    def __new__(
        cls, *_: Any, dispersion: str | Dispersion | None = None, dispersion_functional: str | None = None, **__: Any
    ) -> MLCalculator:
        """Make the subclass that adds dispersion, if that is asked for."""
        if dispersion is None and dispersion_functional is None:
            return super().__new__(cls)
        from mlcalc.calculators.dispersion import DispersionCalculator

        if issubclass(cls, DispersionCalculator):
            return super().__new__(cls)
        if dispersion is None:
            raise SettingsError(f"dispersion_functional {dispersion_functional!r} is without dispersion")
        if cls is not MLCalculator:
            # Python would leave out __init__, since a DispersionCalculator is none of cls.
            raise SettingsError(f"{cls.__name__} takes no dispersion: derive it from DispersionCalculator")
        return super().__new__(DispersionCalculator)

    def __init__(
        self,
        potential: Source | Sequence[Source],
        dtype: str | torch.dtype | None = None,
        device: str | torch.device = "cpu",
        skin: float = 1.0,
        grade_warn: float | None = FAR,
        grade_stop: float | None = None,
        deviation_warn: float | None = None,
        deviation_stop: float | None = None,
        *,
        tables: bool | None = None,
        dispersion: str | Dispersion | None = None,
        dispersion_functional: str | None = None,
    ) -> None:
        super().__init__()
        self.device = torch.device(device)
        self._members = Members(potential, dtype, self.device, tables)
        self.verlet = VerletList(self.info.cutoff, skin)
        names = self._members.names
        self.parameters = Parameters(
            potential=names[0] if len(names) == 1 else names,
            dtype=", ".join(dict.fromkeys(dtype_name(member.dtype) for member in self.potentials)),
            device=str(self.device),
            skin=float(skin),
            **self._members.parameters,
        )
        self.grade_warn = read_threshold("grade_warn", grade_warn)
        self.grade_stop = read_threshold("grade_stop", grade_stop)
        self.deviation_warn = read_threshold("deviation_warn", deviation_warn)
        self.deviation_stop = read_threshold("deviation_stop", deviation_stop)
        self.implemented_properties = [*type(self).implemented_properties]
        if "grade" in self.info.outputs:
            self.implemented_properties.append("extrapolation_grades")
        elif grade_stop is not None:
            raise SettingsError(
                f"{self.info.name or 'the potential'} has no extrapolation grades for grade_stop to look at; make a "
                "file that has: mlcalc grade"
            )
        self._is_committee = len(self.potentials) > 1
        if self._is_committee:
            self.implemented_properties += _OF_COMMITTEES
        elif deviation_warn is not None or deviation_stop is not None:
            raise SettingsError(
                "deviation_warn and deviation_stop compare several potentials; give a list: MLCalculator([A, B, …])"
            )
        self._evaluation: Evaluation | None = None
        self._warned = False
        self._warned_of_grade = False
        self._warned_of_deviation = False

    @property
    def potentials(self) -> tuple[Potential, ...]:
        """The members of a committee, or the one potential."""
        return self._members.potentials

    @property
    def potential(self) -> Potential:
        """The potential; a committee has ``potentials`` instead.

        Raises:
            AttributeError: for a committee.
        """
        if len(self.potentials) > 1:
            raise AttributeError("a committee has no single potential; its members are in .potentials")
        return self.potentials[0]

    @staticmethod
    def remote(
        python: str | os.PathLike[str], factory: str, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> RemoteCalculator:
        """Return any ASE calculator from another Python environment; see ``RemoteCalculator``."""
        from mlcalc.calculators.remote import RemoteCalculator

        return RemoteCalculator(python, factory, kwargs, **options)

    @property
    def info(self) -> PotentialInfo:
        """What the potential declares about itself; of a committee, what holds for its members together."""
        return self._members.info

    def _get_name(self) -> str:
        return "mlcalc"

    def set(self, **kwargs: Any) -> dict[str, Any]:
        """Refuse: a calculator does not change; make a new one."""
        if kwargs:
            raise ValueError(f"cannot set {', '.join(kwargs)} of an MLCalculator; make a new one")
        return {}

    def reset(self) -> None:
        """Forget the current structure and its results."""
        super().reset()
        self._evaluation = None

    def __getstate__(self) -> dict[str, Any]:
        # The evaluation may hold tensors of a graph; it is made again where needed.
        return {**self.__dict__, "_evaluation": None}

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return what has changed since the last calculation, among what the energy depends on."""
        before = self.atoms
        if before is None:
            return list(all_changes)
        # Not ase's compare_atoms: it takes a tenth of a millisecond, and is called for every property.
        changes = [
            name
            for name, old, new in (
                ("positions", before.positions, atoms.positions),
                ("numbers", before.numbers, atoms.numbers),
                ("cell", before.cell.array, atoms.cell.array),
                ("pbc", before.pbc, atoms.pbc),
            )
            if _differ(old, new, tol)
        ]
        if any(not equal(before.info.get(name), atoms.info.get(name)) for name in self.info.inputs):
            changes.append("info")
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute ``properties`` and put them into ``results``; see ``ase.calculators.calculator.Calculator``.

        Raises:
            PropertyNotImplementedError: a property that potentials do not give, or stress without a 3-D cell.
            NonFiniteError: positions, cell, energies or forces are NaN or infinite (atoms named).
            UnknownElementError: an element or a mixture the potential does not know (atoms named).
            OverlapError: atoms on top of each other (pairs named).
            ExtrapolationError: an atom's extrapolation grade is above ``grade_stop``, or its force deviation above
                ``deviation_stop`` (atoms named).
            MlcalcError: an input that the potential reads from ``atoms.info`` is missing.
        """
        unknown = [name for name in properties if name not in self.implemented_properties]
        if unknown:
            raise PropertyNotImplementedError(f"MLCalculator does not compute {', '.join(unknown)}")
        if system_changes:
            self.results = {}
            self._evaluation = None
        if atoms is not None:
            self.atoms = atoms.copy()
        if self.atoms is None:
            raise ValueError("no atoms to calculate")
        if self._evaluation is None:
            self._evaluation = self._look_at(self.atoms)
        now = self._evaluation
        if now.volume is None and not _OF_CELL.isdisjoint(properties):
            raise PropertyNotImplementedError(
                f"stress needs a cell with three periodic axes; pbc is {self.atoms.pbc.tolist()}"
            )
        if not _OF_GRADIENTS.isdisjoint(properties):
            if not now.gradients:
                self._evaluate(now, with_forces=True)
            self._keep_stress(now, properties)
        elif not len(now.energies):
            self._evaluate(now, with_forces=False)
        for name, values in self._own_properties(now).items():
            if name in properties:
                self.results[name] = values

    def _look_at(self, atoms: Atoms) -> Evaluation:
        """Check a structure and build its graphs."""
        info = self.info
        species_indices(atoms.numbers, info.elements)
        check_mixture(atoms.numbers, info)
        edges = self.verlet.update(atoms.positions, atoms.cell.array, atoms.pbc)
        # Once for each time a structure comes too close: a trajectory shall not warn at every step.
        self._warned = check_distances(edges[0], self.verlet.squared_lengths, info, warn=not self._warned)
        volume = atoms.get_volume() if atoms.pbc.all() else None
        return self._members.look_at(atoms.numbers, edges, self.verlet, atoms.info, volume)

    def _evaluate(self, now: Evaluation, with_forces: bool) -> None:
        """Keep energies, and forces if wanted, of a structure that passes all checks."""
        self._evaluation = None
        self._members.evaluate(now, with_forces)
        energies, forces = now.energies.mean(axis=0), now.forces.mean(axis=0) if with_forces else None
        check_finite("energies", energies)
        # As with distances: once for each time a structure goes too far.
        if now.grades is not None:
            self._warned_of_grade = check_grades(
                now.grades, self.grade_warn, self.grade_stop, self.info, warn=not self._warned_of_grade
            )
        if forces is not None:
            check_finite("forces", forces)
            if self._is_committee:
                warn = not self._warned_of_deviation
                self._warned_of_deviation = check_deviations(
                    _force_deviation(now.forces), self.deviation_warn, self.deviation_stop, warn
                )
            self.results["forces"] = forces
        self.results["energies"] = energies
        self.results["energy"] = self.results["free_energy"] = float(energies.sum())
        self._evaluation = now

    def _keep_stress(self, now: Evaluation, properties: Sequence[str]) -> None:
        if now.volume is None:
            return
        pairs = list(zip(now.gradients, now.graphs, strict=True))
        if "stress" in properties or "stress_std" in properties:
            of_members = np.stack([_voigt(strain_derivative(*pair)[0] / now.volume) for pair in pairs])
            self.results["stress"] = of_members.mean(axis=0)
            if "stress_std" in properties:
                self.results["stress_std"] = of_members.std(axis=0)
        if "stresses" in properties:
            shares = [_voigt(-atomic_virials(*pair) / now.volume) for pair in pairs]
            self.results["stresses"] = np.mean(shares, axis=0)

    def _own_properties(self, now: Evaluation) -> dict[str, Any]:
        """What ASE has no names for; only put into results when asked for, since ASE refuses to export them."""
        own: dict[str, Any] = {} if now.grades is None else {"extrapolation_grades": now.grades}
        if self._is_committee:
            own["energy_std"] = float(now.energies.sum(axis=1).std())
            own["energies_std"] = now.energies.std(axis=0)
            if now.gradients:
                own["force_deviation"] = _force_deviation(now.forces)
        return own


def _differ(old: NDArray[Any], new: NDArray[Any], tol: float) -> bool:
    if old.shape != new.shape:
        return True
    if old.dtype == bool or tol == 0.0:
        return not np.array_equal(old, new)
    return not bool((np.abs(new - old) <= tol).all())  # NaN differs from everything


def _force_deviation(forces: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return √⟨|F − ⟨F⟩|²⟩ of each atom, (N,), from forces (K, N, 3) of K members."""
    differences = forces - forces.mean(axis=0)
    return np.sqrt((differences**2).sum(axis=2).mean(axis=0))


def _voigt(tensor: Tensor) -> NDArray[np.float64]:
    """Return symmetrised (…, 3, 3) as (…, 6) in ASE's order."""
    return full_3x3_to_voigt_6_stress(as_array(0.5 * (tensor + tensor.mT)))


# For ase.calculators.calculator.get_calculator_class("mlcalc").
if "mlcalc" not in external_calculators:
    register_calculator_class("mlcalc", MLCalculator)
