"""An ASE calculator that lives in another Python environment."""

from __future__ import annotations

import json
import os
import shutil
import warnings
import weakref
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import (
    Calculator,
    Parameters,
    PropertyNotImplementedError,
    all_changes,
    compare_atoms,
)
from ase.stress import full_3x3_to_voigt_6_stress

from mlcalc.calculators._remote_peer import Peer
from mlcalc.errors import NonFiniteError, RemoteError, RemoteRestartWarning, RemoteStartError, SettingsError
from mlcalc.graphs.neighbors import name_atoms

_BASE = ("energy", "free_energy", "forces", "stress")
_EXTRAS = ("energies", "stresses", "dipole", "charges", "magmom", "magmoms")
_ARRAYS = ("initial_magmoms", "initial_charges", "tags")


class RemoteCalculator(Calculator):
    """Any ASE calculator of another Python environment, whose packages need not go with those of this one.

    ``RemoteCalculator("/path/to/env/bin/python", "mace.calculators:mace_mp", {"model": "small"})`` starts that Python,
    makes the calculator there and sends it structures over a UNIX socket, in the i-PI protocol as ASE speaks it. The
    other environment needs ASE and numpy, not mlcalc. Energy, free energy, forces and stress are the calculator's own,
    and ``energies``, ``stresses``, ``dipole``, ``charges``, ``magmom`` and ``magmoms`` where it gives them along with
    these. What it does not give raises ``PropertyNotImplementedError`` here too.

    The process starts with the calculator and ends with it: ``close()``, ``with``, or when the object or this Python is
    gone. A copy has a process of its own, from its first structure on.

    Args:
        python: the other environment's interpreter.
        factory: ``"module:callable"`` there, or ``"file.py:callable"``; called with ``kwargs``, returns the calculator.
        kwargs: keyword arguments; what JSON can hold.
        info: entries of ``atoms.info`` that go along with a structure, where it has them.
        environment: environment variables for the process, on top of this one's (without ``PYTHONPATH``).
        start_timeout: s, until the calculator is there.
        timeout: s, for one structure; None waits as long as the process lives.
        respawn: start the process anew for other elements, pbc, initial magnetic moments, charges, tags or ``info``,
            so that a calculator which keeps anything of its first structure is right too. With False these are sent to
            the running process, which saves the start.

    Attributes:
        restarts: why the process was started anew, each time; also a ``RemoteRestartWarning``.
        versions: Python and ASE on the other side.

    Raises:
        RemoteStartError: no such interpreter, or the calculator cannot be made there (traceback included).
        SettingsError: ``factory`` is not of that form, or ``kwargs`` are not JSON, whose keys are text.
    """

    def __init__(
        self,
        python: str | os.PathLike[str],
        factory: str,
        kwargs: Mapping[str, Any] | None = None,
        *,
        info: Sequence[str] = ("charge", "spin"),
        environment: Mapping[str, str] | None = None,
        start_timeout: float = 300.0,
        timeout: float | None = None,
        respawn: bool = True,
    ) -> None:
        super().__init__()
        self._peer: Peer | None = None
        self._finalizer: weakref.finalize[[bool], RemoteCalculator] | None = None
        self._lost = ""
        self._last = ""
        self.restarts: list[str] = []
        self.respawn = respawn
        self._info = tuple(info)
        self._limits = start_timeout, timeout
        self._environment = dict(environment or {})
        what = "kwargs go to the other environment as JSON"
        given = _json(dict(kwargs or {}), what, "make such objects there, in a file.py:callable")
        self.parameters = Parameters(
            python=_interpreter(python), factory=_checked(factory), kwargs=given, info=self._info
        )
        peer = self._start()
        self.versions = {"python": peer.hello["python"], "ase": peer.hello["ase"]}
        self.implemented_properties = [
            name for name in (*_BASE, *_EXTRAS) if name in ("energy", "forces", *peer.hello["implemented"])
        ]

    def _get_name(self) -> str:
        return f"remote {self.parameters['factory']}"

    def __enter__(self) -> RemoteCalculator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_peer": None, "_finalizer": None, "_lost": "", "_last": "", "restarts": []}

    def set(self, **kwargs: Any) -> dict[str, Any]:
        """Refuse: a calculator does not change; make a new one."""
        if kwargs:
            raise ValueError(f"cannot set {', '.join(kwargs)} of a RemoteCalculator; make a new one")
        return {}

    @property
    def process_id(self) -> int | None:
        """Of the other Python; None while there is none."""
        return None if self._peer is None or self._peer.process is None else self._peer.process.pid

    @property
    def output(self) -> str:
        """What the other Python has printed since it was started; empty after ``close()``."""
        return "" if self._peer is None else self._peer.output()

    def close(self) -> None:
        """End the other process; the next structure starts a new one."""
        self._close(at_once=False)

    def _close(self, at_once: bool) -> None:
        peer, self._peer = self._peer, None
        if self._finalizer is not None:
            self._finalizer.detach()
        if peer is not None:
            peer.close(at_once)

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True) -> Any:
        """Return a property; also one that the other calculator gives without declaring it."""
        if name in (*_BASE, *_EXTRAS) and name not in self.implemented_properties and allow_calculation:
            super().get_property("energy", atoms)
            if name in self.results:
                self.implemented_properties.append(name)
        return super().get_property(name, atoms, allow_calculation)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return what has changed since the last calculation, ``tags`` and the sent entries of ``info`` included."""
        changes = list(compare_atoms(self.atoms, atoms, tol=tol))
        if not changes and self.atoms is not None and self._describe(atoms) != self._describe(self.atoms):
            changes.append("info")
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute everything the other calculator gives and put it into ``results``.

        Raises:
            PropertyNotImplementedError: a property it does not give, for this structure at least.
            SettingsError: an entry of ``atoms.info`` that shall go along is not JSON.
            NonFiniteError: positions or cell, or energy, free energy, forces or stress, are NaN or infinite.
            RemoteError: it raised on this structure (traceback included); the next one gets a new process.
            RemoteLostError: its process ended, or took longer than ``timeout``; the next structure gets a new one.
            RemoteStartError: the new one did not start.
        """
        given = self.atoms if atoms is None else atoms
        if given is None:
            raise ValueError("no atoms to calculate")
        structure = self._describe(given)  # first: what is refused must not be what later structures are compared with
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        self.results = {}
        for name, values in (("positions", self.atoms.positions), ("cell", self.atoms.cell.array)):
            bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
            if len(bad):
                where = f" of {name_atoms(bad)}" if name == "positions" else ""
                raise NonFiniteError(f"NaN or infinity in the {name}{where}")
        if self.respawn and self._peer is not None and self._last not in ("", structure):
            self._lost = "another structure: elements, pbc, or what else i-PI does not carry"
            self.close()
        peer = self._peer if self._peer is not None and self._peer.owner == os.getpid() else self._start()
        self._last = structure
        try:
            answer = peer.calculate(structure, self.atoms.positions, self.atoms.cell.array)
            self._keep(answer, answer["extra"])
        except BaseException as error:
            # Whatever state it is in (interrupted in the middle of a message, perhaps), a new process has a sound one.
            self._lost = (str(error) or type(error).__name__).splitlines()[0]
            self._close(at_once=True)
            raise
        missing = [name for name in properties if name not in self.results]
        if missing:
            raise PropertyNotImplementedError(
                f"{self.parameters['factory']} does not give {', '.join(missing)} for this structure"
            )

    def _keep(self, answer: dict[str, Any], extra: dict[str, Any]) -> None:
        """Turn the other side's answer into results, or raise what it says."""
        factory, atoms = self.parameters["factory"], self.atoms
        assert atoms is not None
        if "error" in extra:
            raise RemoteError(f"{factory} failed on {atoms.get_chemical_formula()}; over there:\n{extra['error']}")
        if "not_finite" in extra:
            what = " and ".join(
                f"forces of {name_atoms(np.array(rows))}" if name == "forces" else name
                for name, rows in extra["not_finite"].items()
            )
            raise NonFiniteError(f"{factory} gave NaN or infinity for {atoms.get_chemical_formula()}: {what}")
        self.results = {name: _array(values) for name, values in extra["results"].items()}
        self.results |= {"energy": float(answer["energy"]), "forces": answer["forces"]}
        if extra["free_energy"] is not None:
            self.results["free_energy"] = extra["free_energy"]
        if extra["stress"]:
            self.results["stress"] = full_3x3_to_voigt_6_stress(-answer["virial"] / atoms.get_volume())

    def _start(self) -> Peer:
        given = self.parameters
        peer = Peer(given["python"], given["factory"], given["kwargs"], self._environment, *self._limits)
        if self._lost:
            self.restarts.append(self._lost)
            warnings.warn(
                f"{given['factory']}: a new process, because of: {self._lost}", RemoteRestartWarning, stacklevel=2
            )
            self._lost = ""
        self._peer = peer
        self._finalizer = weakref.finalize(self, peer.close, False)
        return peer

    def _describe(self, atoms: Atoms) -> str:
        """Return as JSON what positions and cell leave open."""
        what = "atoms.info['%s'] goes to the other environment as JSON"
        info = {name: atoms.info[name] for name in self._info if name in atoms.info}
        return json.dumps(
            {
                "numbers": atoms.numbers.tolist(),
                "pbc": atoms.pbc.tolist(),
                "arrays": {name: atoms.arrays[name].tolist() for name in _ARRAYS if name in atoms.arrays},
                "info": {name: _json(value, what % name, "leave it out of info=(…)") for name, value in info.items()},
            }
        )


def _array(values: Any) -> Any:
    return np.array(values) if isinstance(values, list) else values


def _interpreter(python: str | os.PathLike[str]) -> str:
    """Return its absolute path; links stay, since a virtual environment is known by where its link lies."""
    found = shutil.which(os.path.expanduser(os.fspath(python)))
    if found is None:
        raise RemoteStartError(f"{os.fspath(python)} is no Python that can be run; give an environment's bin/python")
    return os.path.abspath(found)


def _checked(factory: str) -> str:
    module, _, name = factory.rpartition(":")
    if not module or not name:
        raise SettingsError(f"factory {factory!r}: give module:callable or file.py:callable")
    return os.path.abspath(module) + ":" + name if module.endswith(".py") else factory


def _json(value: Any, what: str, way_out: str) -> Any:
    """Return what of ``value`` arrives on the other side."""
    try:
        _check_keys(value)
        return json.loads(json.dumps(value, default=_plain))
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{what}: {error}; {way_out}") from error


def _check_keys(value: Any) -> None:
    """JSON would turn a number into text, and drop one of 1 and "1" without a word."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"a key of a dictionary is {key!r}, not text")
    if isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            _check_keys(item)


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")
