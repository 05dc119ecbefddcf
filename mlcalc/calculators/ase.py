"""The ASE calculator."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import (
    Calculator,
    Parameters,
    PropertyNotImplementedError,
    all_changes,
    compare_atoms,
    equal,
    external_calculators,
    register_calculator_class,
)
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray
from torch import Tensor

from mlcalc.calculators._checks import (
    check_distances,
    check_finite,
    check_grades,
    check_mixture,
    read_inputs,
    read_threshold,
)
from mlcalc.errors import SettingsError
from mlcalc.graphs import Graph, VerletList, species_indices
from mlcalc.graphs.build import assemble
from mlcalc.potentials.base import Potential, PotentialInfo
from mlcalc.potentials.derivatives import atomic_virials, energies_and_gradients, forces, strain_derivative
from mlcalc.potentials.grade import FAR
from mlcalc.potentials.precision import dtype_name

if TYPE_CHECKING:
    from mlcalc.calculators.dispersion import Dispersion
    from mlcalc.calculators.remote import RemoteCalculator


@dataclass
class _Evaluation:
    """What is known about the current structure: its graph in float64, g_e = ∂E/∂r_e once it was wanted, grades."""

    graph: Graph
    volume: float | None
    gradients: Tensor | None = None
    grades: NDArray[np.float64] | None = None


class MLCalculator(Calculator):
    """A potential as an ASE calculator.

    ``atoms.calc = MLCalculator("mlearn")`` gives energy, free_energy and energies (eV), forces (eV/Å), and with three
    periodic axes stress and stresses (eV/Å³, tension positive, xx, yy, zz, yz, xz, xy). ``stresses`` (N, 6) are
    symmetrised shares of the atoms that sum to ``stress``: −W_i/V with W_i = −½ Σ r_e ⊗ g_e over the edges of an atom.
    ``calc.get_property("extrapolation_grades", atoms)`` (N,) tells how far each atom's environment lies from the
    training set, where 1 is the farthest in training; a property of mlcalc's own, and computed for every structure.

    Only what is asked is computed: an energy costs no gradient, and forces, stress and stresses of one structure share
    one. Results are kept until positions, numbers, cell, pbc or an input that the potential reads from ``atoms.info``
    change.

    Args:
        potential: name of a potential that ships with mlcalc, path of a weights or model file, or a ``Potential``,
            of which a private copy is made.
        dtype: ``"float32"`` or ``"float64"``; None keeps that of the potential. Edge vectors are computed in float64
            in any case, energies and forces are summed in float64.
        device: where the potential runs, ``"cpu"``, ``"cuda"``, ….
        skin: of the Verlet list, Å; it only affects speed. 0 searches neighbours anew for every structure.
        grade_warn: warn of atoms with a larger extrapolation grade; None does not.
        grade_stop: raise ``ExtrapolationError`` for atoms with a larger grade; None does not.
        dispersion: ``"d3bj"``, ``"d3zero"``, either with ``-atm``, or a ``Dispersion``: D3 is added, and the calculator
            is a ``DispersionCalculator``.
        dispersion_functional: whose D3 parameters; None takes that of the potential's energy scale, else PBE.

    Attributes:
        potential: the private copy.
        verlet: the neighbour list; ``verlet.calls`` and ``verlet.rebuilds`` count its work.

    Raises:
        ModelFileError: the potential cannot be found or loaded.
        SettingsError: unknown dtype, a threshold that is no positive number, or a ``grade_stop`` for a potential
            without grades.
        ValueError: negative skin.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress", "stresses"]  # noqa: RUF012
    ignored_changes = {"initial_charges", "initial_magmoms"}  # noqa: RUF012

    def __new__(
        cls, *_: Any, dispersion: str | Dispersion | None = None, dispersion_functional: str | None = None, **__: Any
    ) -> MLCalculator:
        """Make the subclass that adds dispersion, if that is asked for."""
        if dispersion is None and dispersion_functional is not None:
            raise SettingsError(f"dispersion_functional {dispersion_functional!r} is without dispersion")
        if dispersion is None:
            return super().__new__(cls)
        from mlcalc.calculators.dispersion import DispersionCalculator

        return super().__new__(cls if issubclass(cls, DispersionCalculator) else DispersionCalculator)

    def __init__(
        self,
        potential: str | os.PathLike[str] | Potential,
        dtype: str | torch.dtype | None = None,
        device: str | torch.device = "cpu",
        skin: float = 1.0,
        grade_warn: float | None = FAR,
        grade_stop: float | None = None,
        *,
        dispersion: str | Dispersion | None = None,
        dispersion_functional: str | None = None,
    ) -> None:
        super().__init__()
        from mlcalc.zoo import load

        # ``load`` rebuilds a network for another dtype, so that its coupling coefficients are exact in it; where
        # nothing had to change it returns the caller's own object.
        loaded = load(potential, dtype=dtype)
        self.device = torch.device(device)
        self.potential: Potential = copy.deepcopy(loaded).to(device=self.device)
        self.potential.requires_grad_(False)
        self.potential.eval()
        self.verlet = VerletList(self.info.cutoff, skin)
        self.parameters = Parameters(
            potential=self.info.name or type(loaded).__name__
            if isinstance(potential, Potential)
            else os.fspath(potential),
            dtype=dtype_name(self.potential.dtype),
            device=str(self.device),
            skin=float(skin),
        )
        self.grade_warn = read_threshold("grade_warn", grade_warn)
        self.grade_stop = read_threshold("grade_stop", grade_stop)
        self._graded = "grade" in self.info.outputs
        if self._graded:
            self.implemented_properties = [*type(self).implemented_properties, "extrapolation_grades"]
        elif grade_stop is not None:
            raise SettingsError(
                f"{self.info.name or 'the potential'} has no extrapolation grades for grade_stop to look at; make a "
                "file that has: mlcalc grade"
            )
        self._evaluation: _Evaluation | None = None
        self._warned = False
        self._warned_of_grade = False

    @staticmethod
    def remote(
        python: str | os.PathLike[str], factory: str, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> RemoteCalculator:
        """Return any ASE calculator from another Python environment; see ``RemoteCalculator``."""
        from mlcalc.calculators.remote import RemoteCalculator

        return RemoteCalculator(python, factory, kwargs, **options)

    @property
    def info(self) -> PotentialInfo:
        """What the potential declares about itself."""
        return self.potential.info

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
        changes = list(compare_atoms(self.atoms, atoms, tol=tol, excluded_properties=self.ignored_changes))
        if self.atoms is not None and any(
            not equal(self.atoms.info.get(name), atoms.info.get(name)) for name in self.info.inputs
        ):
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
            ExtrapolationError: an atom's extrapolation grade is above ``grade_stop`` (atoms named).
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
        if now.volume is None and not {"stress", "stresses"}.isdisjoint(properties):
            raise PropertyNotImplementedError(
                f"stress needs a cell with three periodic axes; pbc is {self.atoms.pbc.tolist()}"
            )
        if not {"forces", "stress", "stresses"}.isdisjoint(properties):
            if now.gradients is None:
                now.gradients = self._evaluate(now)
            if now.volume is not None and "stress" in properties:
                self.results["stress"] = _voigt(strain_derivative(now.gradients, now.graph)[0] / now.volume)
            if now.volume is not None and "stresses" in properties:
                self.results["stresses"] = _voigt(-atomic_virials(now.gradients, now.graph) / now.volume)
        elif "energy" not in self.results:
            self._evaluate_energy(now)
        if "extrapolation_grades" in properties and now.grades is not None:
            self.results["extrapolation_grades"] = now.grades

    def _look_at(self, atoms: Atoms) -> _Evaluation:
        """Check a structure and build its graph."""
        info = self.info
        species = species_indices(atoms.numbers, info.elements)
        check_mixture(atoms.numbers, info)
        inputs = read_inputs(info, atoms.info)
        edge_index, vectors, shifts = self.verlet.update(atoms.positions, atoms.cell.array, atoms.pbc)
        # Once for each time a structure comes too close: a trajectory shall not warn at every step.
        self._warned = check_distances(edge_index, self.verlet.squared_lengths, info, warn=not self._warned)
        graph = assemble(species, edge_index, vectors, shifts, info.needs, torch.float64, self.device, inputs)
        return _Evaluation(graph, volume=atoms.get_volume() if atoms.pbc.all() else None)

    def _evaluate(self, now: _Evaluation) -> Tensor:
        """Keep energies, forces and grades, return the edge gradients in float64."""
        graph, outputs = now.graph, self._wanted_outputs()
        energies, gradients = energies_and_gradients(
            self.potential, graph.to(dtype=self.potential.dtype), outputs=outputs
        )
        gradients = gradients.to(torch.float64)
        self._keep_energies(energies)
        self._keep_grades(now, outputs)
        values = _array(forces(gradients, graph.edge_index, graph.n_atoms))
        check_finite("forces", values)
        self.results["forces"] = values
        return gradients

    def _evaluate_energy(self, now: _Evaluation) -> None:
        """Keep energies and grades only."""
        graph = now.graph.to(dtype=self.potential.dtype)
        with torch.no_grad():
            extra = {"batch": graph.batch, **graph.tables, **self._wanted_outputs()}
            self._keep_energies(self.potential(graph.species, graph.edge_index, graph.edge_vectors, extra))
        self._keep_grades(now, extra)

    def _wanted_outputs(self) -> dict[str, Tensor]:
        return {"grade": torch.empty(0, device=self.device)} if self._graded else {}

    def _keep_grades(self, now: _Evaluation, outputs: dict[str, Tensor]) -> None:
        if not self._graded:
            return
        now.grades = _array(outputs["grade"])
        # As with distances: once for each time a structure goes too far.
        self._warned_of_grade = check_grades(
            now.grades, self.grade_warn, self.grade_stop, self.info, warn=not self._warned_of_grade
        )

    def _keep_energies(self, energies: Tensor) -> None:
        values = _array(energies)
        check_finite("energies", values)
        self.results["energies"] = values
        self.results["energy"] = self.results["free_energy"] = float(values.sum())


def _array(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.detach().to(device="cpu", dtype=torch.float64).numpy()


def _voigt(tensor: Tensor) -> NDArray[np.float64]:
    """Return symmetrised (…, 3, 3) as (…, 6) in ASE's order."""
    return full_3x3_to_voigt_6_stress(_array(0.5 * (tensor + tensor.mT)))


# For ase.calculators.calculator.get_calculator_class("mlcalc").
if "mlcalc" not in external_calculators:
    register_calculator_class("mlcalc", MLCalculator)
