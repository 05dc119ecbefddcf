"""A process in another environment with a calculator in it, and the socket to it."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
from ase import units
from ase.calculators.socketio import IPIProtocol, SocketClosed, bind_unixsocket
from numpy.typing import NDArray

from mlcalc.errors import RemoteLostError, RemoteStartError

_SCRIPT = Path(__file__).with_name("_remote_client.py")
# How often a silent process is looked at; answers are noticed at once.
_LOOK_S = 0.2
_TAIL = 40
_PATIENCE_S = 5.0
# Of this environment, and wrong in another.
_OURS = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONEXECUTABLE", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")


class _WatchedSocket:
    """The part of a socket that ``IPIProtocol`` uses, with a look at the other process while it waits."""

    def __init__(self, connection: socket.socket, wait: Callable[[int, float | None], None], timeout: float | None):
        connection.setblocking(False)
        self._connection = connection
        self._wait = wait
        self._timeout = timeout

    def recv(self, size: int) -> bytes:
        while True:
            self._wait(select.POLLIN, self._timeout)
            with suppress(BlockingIOError):
                return self._connection.recv(size)

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            self._wait(select.POLLOUT, self._timeout)
            with suppress(BlockingIOError):
                rest = rest[self._connection.send(rest) :]


class _Protocol(IPIProtocol):
    """i-PI with a structure in INIT, where ASE's sends one byte."""

    structure = "{}"

    def sendinit(self) -> None:
        text = np.frombuffer(self.structure.encode(), dtype=np.byte)
        self.sendmsg("INIT")
        self.send(0, np.int32)
        self.send(len(text), np.int32)
        self.send(text, np.byte)


class Peer:
    """Starts the process and waits until its calculator is there.

    Args:
        python: interpreter of the other environment.
        factory: ``"module:callable"`` or ``"file.py:callable"`` there.
        kwargs: JSON, of the callable.
        environment: variables on top of this process's.
        start_timeout: s, to import and make the calculator.
        timeout: s, for one structure; None waits as long as the process lives.

    Attributes:
        hello: what the other side said of itself: ``implemented``, ``ase``, ``python``.

    Raises:
        RemoteStartError: it ended, or did not come up in time; with what it printed.
    """

    def __init__(
        self,
        python: str,
        factory: str,
        kwargs: dict[str, Any],
        environment: dict[str, str],
        start_timeout: float,
        timeout: float | None,
    ) -> None:
        self.owner = os.getpid()
        self.factory = factory
        self._stack = ExitStack()
        # ASE's sockets lie at /tmp/ipi_…; a folder that only this user may enter, and short enough for a socket.
        self.folder = Path(tempfile.mkdtemp(prefix="ipi_mlcalc-", dir="/tmp"))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.process: subprocess.Popen[bytes] | None = None
        self._protocol: _Protocol | None = None
        try:
            path = str(self.folder / "socket")
            listener = self._stack.enter_context(bind_unixsocket(path))
            listener.listen(1)
            request = {
                "socket": path,
                "hello": str(self.folder / "hello.json"),
                "factory": factory,
                "kwargs": kwargs,
                "units": {"Bohr": units.Bohr, "Ha": units.Ha},
            }
            self._start(python, environment, json.dumps(request))
            try:
                self._wait(listener, select.POLLIN, start_timeout)
            except RemoteLostError as error:
                raise RemoteStartError(f"{factory} did not start in {python}: {error}") from None
            connection = self._stack.enter_context(listener.accept()[0])
            self.hello = json.loads((self.folder / "hello.json").read_text(encoding="utf-8"))

            def wait(event: int, limit: float | None) -> None:
                self._wait(connection, event, limit)

            self._protocol = _Protocol(_WatchedSocket(connection, wait, timeout))
        except BaseException:
            self.close(at_once=True)
            raise

    def _start(self, python: str, environment: dict[str, str], request: str) -> None:
        inherited = {name: value for name, value in os.environ.items() if name not in _OURS}
        # As after activating that environment; output at once, and a traceback of a segmentation fault.
        inherited["PATH"] = os.pathsep.join([str(Path(python).parent), inherited.get("PATH", os.defpath)])
        inherited |= {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", **environment}
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [python, str(_SCRIPT)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=inherited,
                start_new_session=True,
            )
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended; the reason is in its output
            self.process.stdin.write(request.encode() + b"\n")
            self.process.stdin.flush()

    def _wait(self, connection: socket.socket, event: int, limit: float | None) -> None:
        """Wait until ``connection`` is ready.

        Raises:
            RemoteLostError: the process ended, or ``limit`` seconds are over.
        """
        assert self.process is not None
        end = None if limit is None else time.monotonic() + limit
        poll = select.poll()
        poll.register(connection, event)
        while not poll.poll(1000 * _LOOK_S):
            status = self.process.poll()
            # Once more: it may have answered and ended between the two looks.
            if status is not None and not poll.poll(0):
                raise RemoteLostError(f"its process ended ({_status(status)}); {self.said()}")
            if end is not None and time.monotonic() > end:
                raise RemoteLostError(f"no answer in {limit:g} s; {self.said()}")

    def calculate(self, structure: str, positions: NDArray[np.float64], cell: NDArray[np.float64]) -> dict[str, Any]:
        """Return energy (eV), forces (eV/Å), virial (eV) and the other side's ``extra`` for one structure.

        Args:
            structure: JSON for INIT; sent where it differs from the last one.
            positions: (N, 3) Å.
            cell: (3, 3) Å.

        Raises:
            RemoteLostError: the process ended, closed the connection, or took longer than ``timeout``.
        """
        protocol = self._protocol
        if protocol is None:
            raise RemoteLostError(f"{self.factory}: closed")
        try:
            if structure != protocol.structure:
                protocol.structure = structure
                protocol.status()
                protocol.sendinit()
            answer = protocol.calculate(positions, cell)
        except RemoteLostError as error:
            raise RemoteLostError(f"{self.factory}: {error}") from None
        except (SocketClosed, OSError):
            raise RemoteLostError(f"{self.factory}: {self._ended()}") from None
        answer["extra"] = json.loads(answer.pop("morebytes").tobytes())
        return dict(answer)

    def _ended(self) -> str:
        assert self.process is not None
        try:
            return f"its process ended ({_status(self.process.wait(_PATIENCE_S))}); {self.said()}"
        except subprocess.TimeoutExpired:
            return f"its process closed the connection; {self.said()}"

    def output(self) -> str:
        """Return what the process has printed so far."""
        try:
            return (self.folder / "log").read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    def said(self) -> str:
        """Return the end of the output, as part of a message."""
        lines = self.output().rstrip().splitlines()
        return "it printed:\n  " + "\n  ".join(lines[-_TAIL:]) if lines else "it printed nothing"

    def close(self, at_once: bool = False) -> None:
        """End the process, killing it if it is busy or if ``at_once``, and remove its folder; may be called again."""
        if os.getpid() != self.owner:
            return  # a fork of the process it belongs to
        protocol, process = self._protocol, self.process
        self._protocol = None
        polite = protocol is not None and not at_once
        if protocol is not None and polite:
            with suppress(OSError, RemoteLostError):
                protocol.end()
        if process is not None:
            _end(process, patience=_PATIENCE_S if polite else 0.0)
        with suppress(FileNotFoundError):  # the other side clears up when it finds itself alone
            self._stack.close()


def _end(process: subprocess.Popen[bytes], patience: float) -> None:
    """Let ``process`` end, kill it and what it started if it does not, and collect its status."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(patience)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.close()


def _status(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    return f"killed by {signal.Signals(-status).name}"
