"""A calculator for programs that ask over the i-PI protocol: i-PI, ASE, and what else has a server for it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.socketio import IPIProtocol, SocketClient, SocketClosed, SocketServer, actualunixsocketname
from numpy.typing import NDArray

from mlcalc.errors import NonFiniteError, SettingsError, WorkflowError
from mlcalc.graphs.neighbors import name_atoms
from mlcalc.records import Record

_RETRY_S = 0.2
_ZEROS = "zeros are sent, and constant pressure is wrong"


@dataclass(frozen=True)
class ServeResult(Record):
    """What a connection came to.

    Attributes:
        address: of the server.
        structures: how many were computed.
        energy_ev: of the last one; None if there was none.
        wall_time_s: from the first to the last message.
        dismissed: the server said EXIT; False if it was gone instead.
        virial: virials were sent; without three periodic axes, or a calculator's stress, they are zeros, and constant
            pressure is meaningless.
    """

    address: str
    structures: int
    energy_ev: float | None
    wall_time_s: float
    dismissed: bool
    virial: bool


class _Protocol(IPIProtocol):
    """ASE's, which also tells whether the server said EXIT, and whether it has the atoms of the template."""

    def __init__(self, socket: Any, n_atoms: int) -> None:
        super().__init__(socket)
        self.dismissed = False
        self.n_atoms = n_atoms

    def recvmsg(self) -> str:
        message = str(super().recvmsg())
        self.dismissed = self.dismissed or message == "EXIT"
        return message

    def recvposdata(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        cell, inverse, positions = super().recvposdata()
        if len(positions) != self.n_atoms:
            raise WorkflowError(
                f"the server sent {len(positions)} atoms, the structure here has {self.n_atoms}: give both the same one"
            )
        return cell, inverse, positions


class _Client(SocketClient):
    """ASE's, with a check of what is sent, and zeros for the virial of a calculator without stress."""

    virial = True
    energy: float | None = None

    def calculate(self, atoms: Atoms, use_stress: bool) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        try:
            energy, forces, virial = self._ask(atoms, use_stress and self.virial)
        except (SocketClosed, ConnectionError) as error:  # a calculator's, which must not look like the server's end
            raise WorkflowError(f"the calculator failed: {type(error).__name__}: {error}") from error
        bad = np.flatnonzero(~np.isfinite(forces).all(axis=1))
        if len(bad):
            raise NonFiniteError(f"the calculator gave NaN or infinite forces for {name_atoms(bad)}")
        if not (np.isfinite(energy) and np.isfinite(virial).all()):
            raise NonFiniteError("the calculator gave a NaN or infinite energy or stress")
        self.energy = float(energy)
        return energy, forces, virial

    def _ask(self, atoms: Atoms, use_stress: bool) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        if use_stress and hasattr(atoms.calc, "get_stress"):
            with suppress(NotImplementedError):  # ASE's PropertyNotImplementedError is one
                return super().calculate(atoms, True)
        answer = super().calculate(atoms, False)
        if use_stress:
            self.virial = False
            warnings.warn(f"no virial: the calculator gives no stress; {_ZEROS}", stacklevel=2)
        return answer


def _until_closed(steps: Iterator[None]) -> Iterator[None]:
    """Go on until the server is gone, also in the middle of a message; other things that fail are not the server's."""
    with suppress(SocketClosed, ConnectionError):
        yield from steps


def serve(
    atoms: Atoms,
    calculator: Any,
    socket: str | None = None,
    host: str = "localhost",
    port: int | None = None,
    wait_s: float = 10.0,
    progress: Callable[[int, float], None] | None = None,
) -> ServeResult:
    """Connect to a server of the i-PI protocol and compute what it asks for, until it is done.

    The server sends positions and cells (Bohr) and gets energy, forces and virial (Hartree, Bohr), converted with ASE's
    constants. Constraints of ``atoms`` are left out.

    Args:
        atoms: elements in the server's order, and pbc; its positions and cell are not used.
        calculator: ASE calculator.
        socket: name of a UNIX socket, ``/tmp/ipi_NAME`` as i-PI and ASE make them.
        host: of a TCP server.
        port: of a TCP server.
        wait_s: s, how long to wait for a server that is not there yet.
        progress: called with the number of structures and the last energy (eV).

    Raises:
        SettingsError: not exactly one of ``socket`` and ``port``.
        WorkflowError: no server there, or one with another number of atoms, or the calculator's own connection broke.
        NonFiniteError: NaN or infinity from the calculator.
    """
    if (socket is None) == (port is None):
        raise SettingsError("give either the name of a socket or a port")
    work = atoms.copy()
    work.set_constraint()
    work.calc = calculator
    name = None if socket is None else socket.removeprefix(actualunixsocketname(""))
    address = actualunixsocketname(name) if name is not None else f"{host}:{port or SocketServer.default_port}"
    client = _connect(name, host, port, wait_s, address)
    protocol = client.protocol = _Protocol(client.protocol.socket, len(work))
    use_stress = bool(work.pbc.all())
    if not use_stress:
        warnings.warn(f"no virial without three periodic axes (pbc is {work.pbc.tolist()}): {_ZEROS}", stacklevel=2)
    structures, start = 0, time.monotonic()
    for _ in _until_closed(client.irun(work, use_stress=use_stress)):
        structures += 1
        if progress is not None and client.energy is not None:
            progress(structures, client.energy)
    virial = use_stress and client.virial
    return ServeResult(address, structures, client.energy, time.monotonic() - start, protocol.dismissed, virial)


def _connect(name: str | None, host: str, port: int | None, wait_s: float, address: str) -> _Client:
    end = time.monotonic() + wait_s
    while True:
        try:
            return _Client(host=host, port=port, unixsocket=name)
        except OSError as error:
            reason = error.strerror or str(error)
        if time.monotonic() > end:
            raise WorkflowError(
                f"no server at {address} ({reason}) within {wait_s:g} s: start it first, or wait longer (--wait-s)"
            )
        time.sleep(_RETRY_S)
