"""``mlcalc serve``: i-PI and ASE ask, a potential answers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.socketio import SocketClosed, SocketIOCalculator
from ase.io import write
from ase.units import Bohr, Ha

from mlcalc import MLCalculator
from mlcalc.calculators.serve import serve
from mlcalc.errors import NonFiniteError, SettingsError, WorkflowError

ROOT = Path(__file__).parents[2]
SERVE = [sys.executable, "-c", "from mlcalc.cli import main; main()", "serve"]
BEADS, STEPS = 4, 6
# 4 beads of 8 atoms with a thermostat; positions in atomic units, in full.
INPUT = """
<simulation verbosity='low'>
  <output prefix='run'>
    <properties filename='out'> [ step, bead_potentials, virial_cv, conserved, temperature{{kelvin}} ] </properties>
    <checkpoint filename='chk' stride='{steps}' overwrite='True'/>
  </output>
  <total_steps>{steps}</total_steps>
  <prng><seed>1</seed></prng>
  <ffsocket name='mlcalc' mode='unix'><address>{socket}</address><latency>1e-3</latency></ffsocket>
  <system>
    <initialize nbeads='{beads}'>
      <file mode='xyz'>init.xyz</file>
      <velocities mode='thermal' units='kelvin'>300</velocities>
    </initialize>
    <forces><force forcefield='mlcalc'/></forces>
    <motion mode='dynamics'>
      <dynamics mode='nvt'>
        <timestep units='femtosecond'>0.5</timestep>
        <thermostat mode='pile_g'><tau units='femtosecond'>100</tau></thermostat>
      </dynamics>
    </motion>
    <ensemble><temperature units='kelvin'>300</temperature></ensemble>
  </system>
</simulation>
"""


@pytest.fixture
def socket() -> str:
    return f"mlcalc-{uuid.uuid4().hex[:12]}"


def silicon() -> Atoms:
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


def start(*arguments: object, cwd: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*SERVE, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_path_integrals_in_i_pi(tmp_path: Path, socket: str) -> None:
    """Energies of all beads, at the first and the last step, and the virial at the first, are ASE's."""
    atoms = silicon()
    write(tmp_path / "Si.extxyz", atoms)
    lines = [
        f"{symbol} {x:.14f} {y:.14f} {z:.14f}" for symbol, (x, y, z) in zip(atoms.symbols, atoms.positions, strict=True)
    ]
    cell = " ".join(f"{value:.12f}" for value in atoms.cell.cellpar())
    title = f"# CELL(abcABC): {cell} positions{{angstrom}} cell{{angstrom}}"
    (tmp_path / "init.xyz").write_text("\n".join(["8", title, *lines]) + "\n")
    (tmp_path / "input.xml").write_text(INPUT.format(steps=STEPS, beads=BEADS, socket=socket))
    client = start("mlearn", "--structure", "Si.extxyz", "--socket", socket, "--wait-s", 30, cwd=tmp_path)
    i_pi = [sys.executable, Path(sys.executable).with_name("i-pi"), "input.xml"]
    server = subprocess.run(i_pi, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    out, err = client.communicate(timeout=30)
    assert server.returncode == 0, server.stdout
    assert client.returncode == 0, err
    assert f"{BEADS * (STEPS + 1)} structures" in out
    assert "done" in out
    columns = np.loadtxt(tmp_path / "run.out")
    assert columns.shape == (STEPS + 1, 1 + BEADS + 6 + 2)

    atoms.calc = MLCalculator("mlearn", dtype="float64")
    assert columns[0, 1 : 1 + BEADS] == pytest.approx(atoms.get_potential_energy() / Ha, abs=1e-8)
    virial = columns[0, 1 + BEADS : 7 + BEADS]  # xx yy zz xy xz yz, over the volume
    assert virial == pytest.approx(-atoms.get_stress()[[0, 1, 2, 5, 4, 3]] * Bohr**3 / Ha, abs=5e-10)
    assert np.abs(virial).max() > 5e-5
    text = (tmp_path / "run.chk").read_text()
    beads = np.fromstring(text.split("<q shape='(4, 24)'>")[1].split("]")[0].replace("[", ""), sep=",")
    for bead, energy in zip(beads.reshape(BEADS, 8, 3), columns[-1, 1 : 1 + BEADS], strict=True):
        atoms.positions = bead * Bohr
        assert energy == pytest.approx(atoms.get_potential_energy() / Ha, abs=2e-8)
    assert np.ptp(columns[-1, 1 : 1 + BEADS]) > 1e-4
    assert np.ptp(columns[:, -2]) < 1e-5  # conserved, Hartree
    assert not Path(f"/tmp/ipi_{socket}").exists()


def test_an_ase_server(tmp_path: Path, socket: str) -> None:
    atoms = silicon()
    write(tmp_path / "Si.extxyz", atoms)
    client = start("mlearn", "--structure", "Si.extxyz", "--socket", socket, "--wait-s", 30, cwd=tmp_path)
    direct = MLCalculator("mlearn", dtype="float64")
    with SocketIOCalculator(unixsocket=socket) as calc:
        for strain in (0.0, 0.02):
            atoms.set_cell(atoms.cell @ (np.eye(3) + strain * np.tri(3)), scale_atoms=True)
            other = atoms.copy()
            atoms.calc, other.calc = calc, direct
            assert atoms.get_potential_energy() == pytest.approx(other.get_potential_energy(), abs=1e-10)
            assert np.abs(atoms.get_forces() - other.get_forces()).max() < 1e-10
            assert np.abs(atoms.get_stress() - other.get_stress()).max() < 1e-12
    out, err = client.communicate(timeout=30)
    assert (client.returncode, err) == (0, "")
    assert "2 structures" in out
    assert "the server closed the connection" in out


def test_no_server_and_no_sense() -> None:
    with pytest.raises(SettingsError, match="socket or a port"):
        serve(bulk("Cu"), EMT())
    with pytest.raises(WorkflowError, match="no server at localhost:1 "):
        serve(bulk("Cu"), EMT(), port=1, wait_s=0.0)


class Served:
    """``serve`` in a thread; what it returned or raised."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.answer: Any = None
        self._thread = threading.Thread(target=self._run, args=(arguments, options))
        self._thread.start()

    def _run(self, arguments: Any, options: Any) -> None:
        try:
            self.answer = serve(*arguments, **options)
        except Exception as error:
            self.answer = error

    def end(self) -> Any:
        self._thread.join(timeout=20)
        assert not self._thread.is_alive()
        return self.answer


def no_virial(caught: pytest.WarningsRecorder) -> list[str]:
    return [text for warning in caught if (text := str(warning.message)).startswith("no virial")]


def test_a_molecule_has_no_virial(socket: str, recwarn: pytest.WarningsRecorder) -> None:
    atoms = molecule("CO", cell=np.diag([9.0, 10.0, 11.0]))
    served = Served(atoms, EMT(), socket, wait_s=10)
    with SocketIOCalculator(unixsocket=socket) as calc:
        remote = atoms.copy()
        remote.calc, atoms.calc = calc, EMT()
        assert np.abs(remote.get_forces() - atoms.get_forces()).max() < 1e-10
    result = served.end()
    (warning,) = no_virial(recwarn)
    assert "without three periodic axes" in warning
    assert (result.structures, result.virial, result.dismissed) == (1, False, False)
    assert result.energy_ev == pytest.approx(atoms.get_potential_energy(), abs=1e-10)


class NoStress(EMT):
    implemented_properties = ["energy", "free_energy", "forces"]  # noqa: RUF012


class Harmonic:
    """As calculators were before ASE had a base class for them."""

    def get_potential_energy(self, atoms: Atoms, force_consistent: bool = False) -> float:
        return float((atoms.positions**2).sum())

    def get_forces(self, atoms: Atoms) -> Any:
        return -2 * atoms.positions


@pytest.mark.parametrize("calculator", [NoStress(), Harmonic()], ids=["new", "old"])
def test_a_calculator_without_stress_sends_zeros_and_warns_once(
    socket: str, calculator: Any, recwarn: pytest.WarningsRecorder
) -> None:
    warnings.simplefilter("always")
    atoms = bulk("Cu", cubic=True)
    served = Served(atoms.copy(), calculator, socket, wait_s=10)
    with SocketIOCalculator(unixsocket=socket) as calc:
        for seed in range(3):
            atoms.rattle(0.05, seed=seed)
            expected = atoms.copy()
            atoms.calc, expected.calc = calc, calculator
            assert np.abs(atoms.get_forces() - expected.get_forces()).max() < 1e-10
            assert not atoms.get_stress().any()
    result = served.end()
    (warning,) = no_virial(recwarn)
    assert "gives no stress; zeros are sent" in warning
    assert (result.structures, result.virial) == (3, False)
    assert result.energy_ev == pytest.approx(expected.get_potential_energy(), abs=1e-10)


class Broken(Calculator):
    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012

    def calculate(self, *arguments: Any) -> None:
        super().calculate(*arguments)
        forces = np.zeros((4, 3))
        forces[2] = np.nan
        self.results = {"energy": 0.0, "forces": forces, "stress": np.zeros(6)}


class Cut(Calculator):
    """Its own connection breaks, not the server's."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012

    def calculate(self, *arguments: Any) -> None:
        raise ConnectionResetError("by the calculator's peer")


def test_what_goes_wrong_is_said_here_and_ends_the_connection(socket: str) -> None:
    copper = bulk("Cu", cubic=True)
    for template, calculator, kind, words in (
        (copper, Broken(), NonFiniteError, "infinite forces for atom 2"),
        (copper, Cut(), WorkflowError, "the calculator failed: ConnectionResetError: by the calculator's peer"),
        (copper * (2, 1, 1), EMT(), WorkflowError, "the server sent 4 atoms, the structure here has 8"),
        (bulk("Cu"), EMT(), WorkflowError, "the server sent 4 atoms, the structure here has 1"),
    ):
        served = Served(template, calculator, socket, wait_s=10)
        with SocketIOCalculator(unixsocket=socket) as calc:
            atoms = copper.copy()
            atoms.calc = calc
            with pytest.raises((SocketClosed, ConnectionError)):
                atoms.get_forces()
        answer = served.end()
        assert isinstance(answer, kind)
        assert words in str(answer)


def test_what_progress_raises_is_no_end_of_the_server(socket: str) -> None:
    def progress(*_: object) -> None:
        raise BrokenPipeError("stdout")

    copper = bulk("Cu", cubic=True)
    served = Served(copper.copy(), EMT(), socket, wait_s=10, progress=progress)
    with SocketIOCalculator(unixsocket=socket) as copper.calc, pytest.raises((SocketClosed, ConnectionError)):
        copper.get_forces()
    assert isinstance(served.end(), BrokenPipeError)
