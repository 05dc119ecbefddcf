"""A calculator for programs that ask over the i-PI protocol: i-PI, ASE, and what else has a server for it."""

from __future__ import annotations

import time
from collections.abc import Callable
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


@dataclass(frozen=True)
class ServeResult(Record):
    """What a connection came to.

    Attributes:
        address: of the server.
        structures: how many were computed.
        energy_ev: of the last one; None if there was none.
        wall_time_s: from the first to the last message.
        dismissed: the server said EXIT; False if it was gone instead.
        virial: virials were sent; without three periodic axes they are zeros, and constant pressure is meaningless.
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
    """ASE's, with a check of what is sent."""

    def calculate(self, atoms: Atoms, use_stress: bool) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        energy, forces, virial = super().calculate(atoms, use_stress)
        bad = np.flatnonzero(~np.isfinite(forces).all(axis=1))
        if len(bad):
            raise NonFiniteError(f"the calculator gave NaN or infinite forces for {name_atoms(bad)}")
        if not (np.isfinite(energy) and np.isfinite(virial).all()):
            raise NonFiniteError("the calculator gave a NaN or infinite energy or stress")
        return energy, forces, virial


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
        WorkflowError: no server there, or one with another number of atoms.
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
    structures, energy, start = 0, None, time.monotonic()
    with suppress(SocketClosed, ConnectionError):  # the server is gone in the middle of a message
        for _ in client.irun(work, use_stress=use_stress):
            structures += 1
            energy = float(work.get_potential_energy())
            if progress is not None:
                progress(structures, energy)
    return ServeResult(address, structures, energy, time.monotonic() - start, protocol.dismissed, use_stress)


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
