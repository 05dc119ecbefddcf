"""Potentials with Grimme's D3 dispersion on top, from simple-dftd3."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculatorError, all_changes
from ase.geometry import complete_cell
from ase.units import Bohr

from mlcalc.calculators.ase import MLCalculator
from mlcalc.errors import MlcalcError, SettingsError, UnknownElementError
from mlcalc.graphs.neighbors import name_atoms

DAMPINGS = ("d3bj", "d3zero")
_ATM = "-atm"
# Functionals that the text of an energy scale may name, as simple-dftd3 calls them.
_FUNCTIONALS = ("pbe", "pbesol", "revpbe", "rpbe", "scan", "r2scan", "blyp", "b3lyp", "pbe0", "hse06")
# Scales that say nothing, so that nothing can be read from them.
_SILENT = ("", "unknown", "as labelled")
_HOLDS_DISPERSION = {"d2", "d3", "d3bj", "d4", "ts", "mbd", "vdw", "dispersion", "rvv10", "vv10"}
# B97M-V, ωB97X-V, …: VV10 within; B97-D, ωB97X-D, …: Grimme's.
_ENDS_IN_DISPERSION = re.compile(r"(?:b97[mx]-v|[a-z][a-z0-9]*-d)\b")
# simple-dftd3 crashes for elements that it has no parameters for.
_HEAVIEST = 103
_HEAVIEST_SYMBOL = "Lr"
# Per atom: D3 has no division among atoms that would go with the potential's.
_OF_ATOMS = ("energies", "stresses")


@dataclass(frozen=True)
class Dispersion:
    """What ``MLCalculator(…, dispersion=…)`` adds.

    S. Grimme, J. Antony, S. Ehrlich, H. Krieg, J. Chem. Phys. 132, 154104 (2010); rational damping ("BJ"): S. Grimme,
    S. Ehrlich, L. Goerigk, J. Comput. Chem. 32, 1456 (2011).

    Attributes:
        method: ``"d3bj"`` or ``"d3zero"``, with ``-atm`` behind for the three-body term (Axilrod–Teller–Muto).
        functional: whose parameters, as simple-dftd3 calls it: ``"pbe"``, ``"pbesol"``, ``"scan"``, …; None takes what
            the potential's energy scale names.
        cutoff_ang: of pairs, Å.
        coordination_cutoff_ang: of coordination numbers, and of triples, Å.
        smooth_ang: width over which pairs and triples go to zero before their cutoff, Å; 0 cuts them off, which leaves
            jumps of energy that spoil stresses by differences.
    """

    method: str = "d3bj"
    functional: str | None = None
    cutoff_ang: float = 60 * Bohr
    coordination_cutoff_ang: float = 40 * Bohr
    smooth_ang: float = 1.0

    def calculator(self) -> Any:
        """Return the ASE calculator of the dispersion alone.

        Raises:
            SettingsError: simple-dftd3 is missing, or does not know the method or functional.
        """
        damping = self.method.removesuffix(_ATM)
        if damping not in DAMPINGS:
            known = ", ".join(f"{name}, {name}{_ATM}" for name in DAMPINGS)
            raise SettingsError(f"dispersion {self.method!r} is not known: {known}")
        try:
            from dftd3.ase import DFTD3
            from dftd3.interface import RationalDampingParam, ZeroDampingParam
        except ImportError as error:
            raise SettingsError("dispersion needs simple-dftd3: pip install 'mlcalc[dispersion]'") from error
        parameters = {"method": self.functional or "pbe", "atm": self.method.endswith(_ATM)}
        try:
            (RationalDampingParam if damping == "d3bj" else ZeroDampingParam)(**parameters)
        except RuntimeError as error:
            raise SettingsError(f"no {damping} parameters for functional {self.functional!r}: {error}") from error
        cutoffs = {
            "disp2": self.cutoff_ang,
            "disp3": self.coordination_cutoff_ang,
            "cn": self.coordination_cutoff_ang,
            "width2": self.smooth_ang,
            "width3": self.smooth_ang,
        }
        return DFTD3(damping=damping, params_tweaks=parameters, realspace_cutoff=cutoffs)


class DispersionCalculator(MLCalculator):
    """What ``MLCalculator(potential, dispersion="d3bj")`` makes: energy, forces and stress with D3 dispersion added.

    ``get_property("dispersion_energy", atoms)`` (eV) is the part that D3 adds; the potential's own is the rest.
    ``energies`` and ``stresses`` are not given, since D3 has no share of atoms.

    Args:
        potential: as for ``MLCalculator``; so are ``options``.
        dispersion: ``"d3bj"``, ``"d3zero"``, either with ``-atm``, or a ``Dispersion`` for cutoffs.
        dispersion_functional: whose parameters; None takes that which the potential's energy scale names, and PBE,
            with a warning, where it says nothing.

    Raises:
        SettingsError: simple-dftd3 is missing, does not know the method or functional, the energy scale names none that
            is known or several, or the potential was trained on energies with dispersion.
    """

    def __init__(
        self,
        potential: Any,
        *arguments: Any,
        dispersion: str | Dispersion | None = None,
        dispersion_functional: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(potential, *arguments, **options)
        self.dispersion = _settings(dispersion, dispersion_functional, self.info.energy_scale)
        self._d3: Any = self.dispersion.calculator()
        self._bare: dict[str, Any] = {}
        names = [name for name in self.implemented_properties if name not in _OF_ATOMS]
        self.implemented_properties = [*names, "dispersion_energy"]
        # Plain, since ASE writes them into files.
        self.parameters |= {
            "dispersion": self.dispersion.method,
            "dispersion_functional": self.dispersion.functional,
            "dispersion_cutoff_ang": float(self.dispersion.cutoff_ang),
            "dispersion_coordination_cutoff_ang": float(self.dispersion.coordination_cutoff_ang),
            "dispersion_smooth_ang": float(self.dispersion.smooth_ang),
        }

    def __getstate__(self) -> dict[str, Any]:
        # simple-dftd3's handles cannot be copied.
        return {**super().__getstate__(), "_d3": None}

    def reset(self) -> None:
        """Forget the current structure and its results."""
        super().reset()
        self._bare = {}

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute ``properties`` as ``MLCalculator`` does, and add the dispersion.

        Raises:
            UnknownElementError: elements beyond lawrencium.
            MlcalcError: simple-dftd3 cannot compute the structure.
        """
        # The potential goes on from its own results, and what is shown are sums: never one added to twice.
        self.results = {} if system_changes else self._bare
        try:
            wanted = [name for name in properties if name != "dispersion_energy"] or ["energy"]
            super().calculate(atoms, wanted, system_changes)
            assert self.atoms is not None
            self._bare = self.results
            self.results = self._sum(self._bare, self.atoms)
        except BaseException:
            self.results, self._bare, self._evaluation = {}, {}, None
            raise
        if "dispersion_energy" in properties:  # only then, since ASE refuses to export what it has no name for
            self.results["dispersion_energy"] = float(self._d3.results["energy"])

    def _sum(self, bare: dict[str, Any], atoms: Atoms) -> dict[str, Any]:
        if self._d3 is None:
            self._d3 = self.dispersion.calculator()
        unknown = np.flatnonzero((atoms.numbers < 1) | (atoms.numbers > _HEAVIEST))
        if len(unknown):
            raise UnknownElementError(f"D3 has no parameters for {name_atoms(unknown)}: H to {_HEAVIEST_SYMBOL} only")
        structure = self._periodic(atoms)
        total = {name: value for name, value in bare.items() if name not in _OF_ATOMS}
        try:
            if not {"forces", "stress"}.isdisjoint(bare):
                gradient = self._d3.get_property("forces", structure)  # first: the rest comes with it
            energy = float(self._d3.get_property("energy", structure))
            if "forces" in bare:
                total["forces"] = bare["forces"] + gradient
            if "stress" in bare:
                total["stress"] = bare["stress"] + self._d3.get_property("stress", structure)
        except CalculatorError as error:
            cause = error.__cause__ or error.__context__ or error
            raise MlcalcError(f"no dispersion for {atoms.get_chemical_formula()}: {error} ({cause})") from error
        total["energy"] = total["free_energy"] = bare["energy"] + energy
        return total

    def _periodic(self, atoms: Atoms) -> Atoms:
        """Return a slab or wire as a crystal whose images along open axes are out of reach.

        simple-dftd3 (1.7) leaves out neighbours where only some axes are open, and takes no zero cell vectors.
        """
        structure = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        if atoms.pbc.all() or not atoms.pbc.any():
            return structure
        reach = max(self.dispersion.cutoff_ang, self.dispersion.coordination_cutoff_ang) + 1.0
        cell = complete_cell(np.where(atoms.pbc[:, None], atoms.cell.array, 0.0))
        for axis in np.flatnonzero(~atoms.pbc):
            cell[axis] *= np.ptp(atoms.positions @ cell[axis]) + reach
        structure.set_cell(cell)
        structure.pbc = True
        return structure


def _settings(dispersion: str | Dispersion | None, functional: str | None, energy_scale: str) -> Dispersion:
    """Return what is asked for, with a functional."""
    given = dispersion if isinstance(dispersion, Dispersion) else Dispersion(dispersion or DAMPINGS[0])
    words = re.findall(r"[a-z0-9]+", energy_scale.lower())
    if held := [*_HOLDS_DISPERSION.intersection(words), *_ENDS_IN_DISPERSION.findall(energy_scale.lower())]:
        raise SettingsError(
            f"the potential was trained on energies with dispersion ({energy_scale!r}: {', '.join(sorted(held))}); "
            "added again it would count twice"
        )
    chosen = functional or given.functional or _named(words, energy_scale)
    return replace(given, method=given.method.lower(), functional=chosen.lower())


def _named(words: Sequence[str], energy_scale: str) -> str:
    """Return the functional among the words of an energy scale."""
    found = {word for word in words if word in _FUNCTIONALS}
    if len(found) == 1:
        return found.pop()
    if energy_scale.strip().lower() in _SILENT:
        warnings.warn(
            "the potential does not say which functional it was trained on: D3 with parameters for PBE; "
            "dispersion_functional names another",
            stacklevel=4,
        )
        return "pbe"
    raise SettingsError(
        f"which functional's D3 parameters? The potential's energy scale {energy_scale!r} names "
        f"{', '.join(sorted(found)) or 'none that is known'}: give dispersion_functional (--dispersion d3bj:FUNCTIONAL)"
    )
