"""Started as ``python _remote_client.py`` in another environment: serves an ASE calculator from there over i-PI.

It needs Python 3.9, numpy and ASE (3.22 or newer) of that environment, and nothing of mlcalc. The first line of stdin
is JSON: which socket, which calculator. Then stdin stays open, and when it closes this process ends, so that it never
outlives the one that started it.

Structures come with ``INIT`` (as JSON: elements, pbc and what else the protocol's ``POSDATA`` lacks), and whatever is
not energy, forces or virial goes back as JSON in the bytes that ``FORCEREADY`` ends with.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import socket
import sys
import threading
import traceback
from typing import Any

EXTRAS = ("energies", "stresses", "dipole", "charges", "magmom", "magmoms")


def main() -> None:
    """Make the calculator, connect, and answer until the other side is done."""
    here = os.path.dirname(os.path.realpath(__file__))
    # Python puts the folder of a script first, where ase.py would hide ASE; the working folder as with python -c.
    sys.path[:] = [os.getcwd(), *(folder for folder in sys.path if os.path.realpath(folder) != here)]
    lifeline = os.dup(0)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    request = json.loads(_read_line(lifeline))
    folder = os.path.dirname(request["socket"])
    threading.Thread(target=_end_with, args=(lifeline, folder), daemon=True).start()

    import ase
    from ase.calculators.socketio import IPIProtocol, SocketClosed

    calculator = make_calculator(request["factory"], request["kwargs"])
    hello = {
        "implemented": [str(name) for name in getattr(calculator, "implemented_properties", ())],
        "ase": ase.__version__,
        "python": sys.version.split()[0],
    }
    with open(request["hello"], "w", encoding="utf-8") as file:
        json.dump(hello, file)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(request["socket"])
        try:
            Server(IPIProtocol(connection), calculator, request["units"]).serve()
        except (SocketClosed, ConnectionError):  # the other side was killed: nobody else clears up
            shutil.rmtree(folder, ignore_errors=True)


def _read_line(descriptor: int) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(descriptor, 65536)
        if not chunk:
            sys.exit("no request on stdin: this script is started by mlcalc")
        line += chunk
    return line


def _end_with(descriptor: int, folder: str) -> None:
    while os.read(descriptor, 1024):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def make_calculator(factory: str, kwargs: dict[str, Any]) -> Any:
    """Return ``callable(**kwargs)`` for ``"module:callable"`` or ``"file.py:callable"``."""
    module_name, _, name = factory.rpartition(":")
    if module_name.endswith(".py"):
        spec = importlib.util.spec_from_file_location("mlcalc_remote_factory", module_name)
        if spec is None or spec.loader is None:
            raise ImportError(module_name)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(module_name)
    made: Any = module
    for part in name.split("."):
        made = getattr(made, part)
    calculator = made(**kwargs)
    if not hasattr(calculator, "get_potential_energy"):
        raise TypeError(f"{factory} gave {calculator!r}, which is not an ASE calculator")
    return calculator


class Server:
    """Answers the messages of one connection.

    Args:
        protocol: ``ase.calculators.socketio.IPIProtocol`` of this environment.
        calculator: any ASE calculator.
        units: ``Bohr`` and ``Ha`` of the other side's ASE, which need not have this one's constants.
    """

    def __init__(self, protocol: Any, calculator: Any, units: dict[str, float]) -> None:
        from ase.units import Bohr, Ha

        self.protocol = protocol
        self.calculator = calculator
        self.length = units["Bohr"] / Bohr
        self.energy = Ha / units["Ha"]
        self.atoms: Any = None
        self.answer: Any = None
        self.can_stress = hasattr(calculator, "get_stress")
        self.has_stress = self.can_stress

    def serve(self) -> None:
        """Answer until EXIT."""
        while True:
            message = self.protocol.recvmsg()
            if message == "EXIT":
                return
            if message == "STATUS":
                ready = "READY" if self.answer is None else "HAVEDATA"
                self.protocol.sendmsg("NEEDINIT" if self.atoms is None else ready)
            elif message == "INIT":
                self.begin(json.loads(self.protocol.recvinit()[1].tobytes()))
            elif message == "POSDATA":
                cell, _, positions = self.protocol.recvposdata()
                self.answer = self.evaluate(cell * self.length, positions * self.length)
            elif message == "GETFORCE":
                energy, forces, virial, extra = self.answer
                self.answer = None
                scaled = energy * self.energy, forces * (self.energy * self.length), virial * self.energy
                self.protocol.sendforce(*scaled, morebytes=extra)
            else:
                raise RuntimeError(f"unknown message {message!r}")

    def begin(self, structure: dict[str, Any]) -> None:
        """Take over what POSDATA does not carry."""
        from ase import Atoms

        self.atoms = Atoms(structure["numbers"], pbc=structure["pbc"], info=structure["info"])
        for name, values in structure["arrays"].items():
            self.atoms.set_array(name, _array(values))
        self.has_stress = self.can_stress
        # Calculators do not see other tags or info, and would give their last results again.
        if hasattr(self.calculator, "reset"):
            self.calculator.reset()

    def evaluate(self, cell: Any, positions: Any) -> tuple[Any, Any, Any, Any]:
        """Return energy, forces, virial and bytes of the rest; what goes wrong is in the rest, beside zeros."""
        import numpy as np

        try:
            energy, forces, virial, extra = self._properties(cell, positions)
            free_energy = energy if extra["free_energy"] is None else extra["free_energy"]
            checked = (
                ("energy", np.array([energy])),
                ("free energy", np.array([free_energy])),
                ("forces", forces),
                ("virial", virial),
            )
            wrong = {
                name: np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1)).tolist()
                for name, values in checked
                if not np.isfinite(values).all()
            }
            if not wrong:
                return energy, forces, virial, _bytes(extra)
            extra = {"not_finite": wrong}
        except Exception:
            extra = {"error": traceback.format_exc()}
        return 0.0, np.zeros((len(self.atoms), 3)), np.zeros((3, 3)), _bytes(extra)

    def _properties(self, cell: Any, positions: Any) -> tuple[Any, Any, Any, dict[str, Any]]:
        import numpy as np

        atoms = self.atoms
        atoms.set_cell(cell)
        atoms.set_positions(positions)
        atoms.calc = self.calculator
        virial, with_stress = np.zeros((3, 3)), False
        if self.has_stress and atoms.cell.rank == 3:
            # First, since calculators that compute what is asked then compute the rest along with it.
            try:
                virial = -atoms.get_volume() * atoms.get_stress(voigt=False, apply_constraint=False)
                with_stress = True
            except NotImplementedError:  # ASE's PropertyNotImplementedError is one
                self.has_stress = False
        forces = np.array(atoms.get_forces(apply_constraint=False), dtype=float)
        if forces.shape != (len(atoms), 3):
            raise ValueError(f"forces of shape {forces.shape} for {len(atoms)} atoms")
        energy = float(atoms.get_potential_energy())
        try:
            free_energy = float(atoms.get_potential_energy(force_consistent=True))
        except (NotImplementedError, TypeError):  # TypeError: older than this argument
            free_energy = None
        results = getattr(self.calculator, "results", None) or {}
        extras = {}
        for name in EXTRAS:
            if results.get(name) is not None:
                try:
                    extras[name] = np.asarray(results[name], dtype=float).tolist()
                except (TypeError, ValueError) as error:
                    print(f"{name} left out, since these are no numbers: {error}")
        return energy, forces, virial, {"stress": with_stress, "free_energy": free_energy, "results": extras}


def _array(values: Any) -> Any:
    import numpy as np

    return np.asarray(values)


def _bytes(extra: dict[str, Any]) -> Any:
    import numpy as np

    return np.frombuffer(json.dumps(extra).encode(), dtype=np.byte)


if __name__ == "__main__":
    main()
