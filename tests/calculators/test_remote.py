"""Calculators of another environment: a real one, with packages that do not go with those of this one."""

from __future__ import annotations

import ast
import copy
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.emt import EMT
from ase.io import read, write

from mlcalc import MLCalculator, cli
from mlcalc.calculators import RemoteCalculator, remote
from mlcalc.errors import NonFiniteError, RemoteError, RemoteLostError, RemoteStartError, SettingsError
from mlcalc.workflows import eos, relax

pytestmark = pytest.mark.xdist_group("remote")

NEW = sys.version_info >= (3, 12)  # for which there is no such old numpy
OLD_ASE = "3.23.0" if NEW else "3.22.1"
PACKAGES = [f"ase=={OLD_ASE}", *(["numpy<2.2", "scipy<1.15"] if NEW else ["numpy<2", "scipy<1.14"])]
LJ = "ase.calculators.lj:LennardJones"
ARGON = {"sigma": 3.4, "epsilon": 0.0104, "rc": 8.0}
FACTORIES = str(Path(__file__).parent / "remote_factories.py")
# What the calculator gives without a socket in between.
DIRECT = """
import importlib, json, sys
from ase.io import read
module, name = sys.argv[1].split(":")
calc = getattr(importlib.import_module(module), name)(**json.loads(sys.argv[2]))
answers = []
for atoms in read(sys.argv[3], ":"):
    atoms.calc = calc
    try:
        stress = atoms.get_stress().tolist()
    except NotImplementedError:
        stress = None
    free = atoms.get_potential_energy(force_consistent=True)
    answers.append([atoms.get_potential_energy(), free, atoms.get_forces().tolist(), stress])
print(json.dumps(answers))
"""


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of an environment with an old ASE and numpy."""
    folder = tmp_path_factory.mktemp("other") / "environment"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    other = str(folder / "bin" / "python")
    install = [other, "-m", "pip", "install", "-q", "--no-deps", "--only-binary", ":all:", *PACKAGES]
    subprocess.run(install, check=True, env=clean())
    return other


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def copper(first: float | None = None) -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    if first is not None:
        atoms.cell[0, 0] = first
    return atoms


def gone(pid: int | None, within: float = 5.0) -> bool:
    """Whether no process ``pid`` is left, not even a zombie."""
    assert pid is not None
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def later(action: Callable[[], Any], delay: float = 0.7) -> threading.Timer:
    timer = threading.Timer(delay, action)
    timer.start()
    return timer


def structures() -> list[Atoms]:
    triclinic = Atoms("Ar3", [[0, 0, 0], [2.9, 1.2, 0.3], [0.4, 3.1, 2.2]], pbc=True)
    triclinic.set_cell([[5.1, 0.3, -0.2], [1.4, 5.6, 0.5], [-0.8, 1.9, 6.3]])
    left_handed = triclinic.copy()
    left_handed.set_cell(triclinic.cell[[1, 0, 2]])
    slab = fcc111("Ar", (2, 2, 2), a=5.3, vacuum=6.0)
    slab.rattle(0.1, seed=3)
    return [triclinic, left_handed, slab, bulk("Ar", a=5.2), Atoms("Ar"), Atoms("Ar4", 3.7 * np.tri(4, 3, -1))]


def test_everything_is_as_in_that_environment(python: str, tmp_path: Path) -> None:
    file = tmp_path / "structures.traj"
    write(file, structures())
    direct = subprocess.run(
        [python, "-c", DIRECT, LJ, json.dumps(ARGON), str(file)], check=True, capture_output=True, env=clean()
    )
    expected = json.loads(direct.stdout)
    with MLCalculator.remote(python=python, factory=LJ, kwargs=ARGON) as calc:
        assert calc.versions["ase"] == OLD_ASE != ase.__version__
        assert Path(f"/proc/{calc.process_id}/cmdline").read_bytes().split(b"\0")[0].decode() == python
        stresses = 0
        for atoms, (energy, free_energy, forces, stress) in zip(read(file, ":"), expected, strict=True):
            atoms.calc = calc
            assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-10)
            assert atoms.get_potential_energy(force_consistent=True) == pytest.approx(free_energy, abs=1e-10)
            assert np.abs(atoms.get_forces() - np.array(forces)).max() < 1e-10
            if stress is None:
                with pytest.raises(PropertyNotImplementedError, match="does not give stress for this structure"):
                    atoms.get_stress()
            else:
                stresses += 1
                assert np.abs(atoms.get_stress() - stress).max() < 1e-10
                assert np.abs(np.array(stress)).max() > 1e-4
        assert 0 < stresses < len(expected)
        assert calc.restarts == []


def test_a_molecule_has_no_stress_but_all_else(python: str) -> None:
    atoms = molecule("CO")
    with RemoteCalculator(python, "ase.calculators.emt:EMT") as calc:
        atoms.calc = calc
        with pytest.raises(PropertyNotImplementedError, match="stress"):
            atoms.get_stress()
        process = calc.process_id
        forces, energies = atoms.get_forces(), atoms.get_potential_energies()
        assert energies.sum() == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
        atoms.calc = EMT()
        assert np.abs(forces - atoms.get_forces()).max() < 1e-10
        assert calc.process_id == process


@pytest.mark.parametrize("respawn", [False, True])
def test_other_elements_and_pbc_reach_the_other_side(python: str, respawn: bool) -> None:
    with RemoteCalculator(python, "ase.calculators.emt:EMT", respawn=respawn) as calc:
        seen = []
        for symbol, pbc in (("Cu", True), ("Ni", True), ("Ni", (True, True, False)), ("Ni", False)):
            atoms = copper()
            atoms.symbols[:2] = symbol
            atoms.pbc = pbc
            reference = atoms.copy()
            reference.calc, atoms.calc = EMT(), calc
            assert np.abs(atoms.get_forces() - reference.get_forces()).max() < 1e-10
            atoms.rattle(0.05, seed=4)
            reference.positions = atoms.positions
            assert np.abs(atoms.get_forces() - reference.get_forces()).max() < 1e-10
            seen.append(calc.process_id)
        assert len(set(seen)) == (4 if respawn else 1)
        assert len(calc.restarts) == (3 if respawn else 0)
        assert all("pbc" in reason for reason in calc.restarts)
        assert all(gone(process) for process in seen if process != calc.process_id)


def test_charges_moments_tags_and_info_are_sent(python: str) -> None:
    atoms = Atoms("Ar2", [[0, 0, 0], [0, 0, 4]])
    with RemoteCalculator(python, f"{FACTORIES}:Echo") as calc:
        atoms.calc = calc
        assert atoms.get_potential_energy() == 0
        atoms.info["charge"] = np.int64(-1)
        assert atoms.get_potential_energy() == pytest.approx(-1000)
        atoms.set_initial_magnetic_moments([0.25, 0.5])
        assert atoms.get_potential_energy() == pytest.approx(-925)
        atoms.set_tags([1, 2])
        assert atoms.get_potential_energy() == pytest.approx(-895)
        atoms.pbc = (True, True, False)
        assert atoms.get_potential_energy() == pytest.approx(-893)
        atoms.set_initial_charges([0.5, -0.25])
        assert calc.get_property("charges", atoms).tolist() == [1.0, -0.5]
        assert atoms.get_dipole_moment().tolist() == [0.1, 0.2, 0.3]
        with pytest.raises(PropertyNotImplementedError):
            atoms.get_magnetic_moments()
        atoms.info["unrelated"] = object()
        assert calc.check_state(atoms) == []


def test_what_fails_at_the_start_says_why(python: str) -> None:
    def message(factory: str, kwargs: dict[str, Any] | None = None, **options: Any) -> str:
        with pytest.raises(RemoteStartError) as caught:
            RemoteCalculator(options.pop("python", python), factory, kwargs, **options)
        return str(caught.value)

    assert "is no Python that can be run" in message(LJ, python="/nowhere/bin/python")
    assert "No module named 'no_such_module'" in message("no_such_module:Calculator")
    assert "has no attribute 'Nothing'" in message("ase.calculators.emt:Nothing")
    assert "not an ASE calculator" in message(f"{FACTORIES}:nothing")
    failed = message(f"{FACTORIES}:fail", {"reason": "the weights are gone"})
    assert "Traceback" in failed
    assert "RuntimeError: the weights are gone" in failed
    assert "exit status 1" in failed
    start = time.monotonic()
    assert "loading for ever" in message(f"{FACTORIES}:hang", start_timeout=2.0)
    assert time.monotonic() - start < 6
    with pytest.raises(SettingsError, match="module:callable"):
        RemoteCalculator(python, "ase.calculators.emt")
    with pytest.raises(SettingsError, match="as JSON"):
        RemoteCalculator(python, LJ, {"sigma": object()})


def test_a_structure_it_fails_on_and_the_next(python: str) -> None:
    with RemoteCalculator(python, f"{FACTORIES}:Moody") as calc:
        good, bad, nan = copper(), copper(101), copper(104)
        good.calc = bad.calc = nan.calc = calc
        with pytest.raises(RemoteError, match=r"(?s)over there.*Traceback.*ArithmeticError: no mood for this one"):
            bad.get_forces()
        expected = copper()
        expected.calc = EMT()
        assert np.abs(good.get_forces() - expected.get_forces()).max() < 1e-10
        assert "asked for 4" in calc.output
        with pytest.raises(NonFiniteError, match=r"forces of atom 1\b"):
            nan.get_forces()
        assert len(good.get_forces()) == 4
        assert len(calc.restarts) == 2
        good.positions[2, 0] = np.nan
        with pytest.raises(NonFiniteError, match=r"positions of atom 2\b"):
            good.get_forces()


@pytest.mark.parametrize("asked", [102, 103])
def test_a_killed_process_is_an_error_at_once(python: str, asked: int) -> None:
    """In the second case a child of it still holds the connection open."""
    with RemoteCalculator(python, f"{FACTORIES}:Moody") as calc:
        atoms, process = copper(), calc.process_id
        atoms.calc = calc
        atoms.get_forces()
        assert process is not None
        slow = copper(asked)
        slow.calc = calc
        timer = later(lambda: os.kill(process, signal.SIGKILL))
        start = time.monotonic()
        with pytest.raises(RemoteLostError, match="killed by SIGKILL"):
            slow.get_forces()
        assert 0.5 < time.monotonic() - start < 4
        timer.join()
        atoms.rattle(0.01, seed=2)
        assert len(atoms.get_forces()) == 4
        assert calc.process_id != process
        assert "SIGKILL" in calc.restarts[0]
        os.kill(calc.process_id or 0, signal.SIGKILL)  # between two structures
        atoms.rattle(0.01, seed=3)
        with pytest.raises(RemoteLostError, match="killed by SIGKILL"):
            atoms.get_forces()
        assert len(atoms.get_forces()) == 4


def test_a_structure_that_takes_too_long(python: str) -> None:
    with RemoteCalculator(python, f"{FACTORIES}:Moody", timeout=1.0) as calc:
        atoms, process = copper(102), calc.process_id
        atoms.calc = calc
        with pytest.raises(RemoteLostError, match="no answer in 1 s"):
            atoms.get_forces()
        assert gone(process)


def test_an_interrupt_leaves_it_usable(python: str) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with RemoteCalculator(python, f"{FACTORIES}:Moody") as calc:
        slow, process = copper(102), calc.process_id
        slow.calc = calc
        before = signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        try:
            with pytest.raises(KeyboardInterrupt):
                slow.get_forces()
        finally:
            signal.signal(signal.SIGALRM, before)
        assert gone(process)
        good = copper()
        good.calc = calc
        assert np.isfinite(good.get_forces()).all()
        assert calc.restarts == ["KeyboardInterrupt"]


def test_the_other_side_needs_little() -> None:
    """Python 3.9, its standard library, numpy and ASE."""
    source = (Path(remote.__file__).parent / "_remote_client.py").read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 9))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - set(sys.stdlib_module_names) == {"ase", "numpy"}


def test_two_at_once_and_copies(python: str) -> None:
    """Energies of Lennard-Jones are proportional to epsilon, whoever computes them, in whatever order."""
    scales = [0.01, 0.02, 0.01]
    calculators = [RemoteCalculator(python, LJ, {**ARGON, "epsilon": epsilon}) for epsilon in scales[:2]]
    calculators.append(copy.deepcopy(calculators[0]))
    for seed in range(3):
        reduced = []
        for calc, epsilon in zip(calculators, scales, strict=True):
            atoms = bulk("Ar", a=5.2) * (2, 1, 1)
            atoms.rattle(0.1, seed=seed)
            atoms.calc = calc
            reduced.append(atoms.get_potential_energy() / epsilon)
        assert reduced == pytest.approx([reduced[0]] * 3, rel=1e-12)
    processes = [calc.process_id for calc in calculators]
    assert len(set(processes)) == 3
    calculators[0].close()
    assert gone(processes[0])
    atoms.rattle(0.1, seed=9)
    atoms.calc = calculators[2]  # has a process of its own
    assert np.isfinite(atoms.get_forces()).all()
    for calc in calculators:
        calc.close()
        calc.close()
    assert all(gone(process) for process in processes)


def test_nothing_is_left_behind(python: str, tmp_path: Path) -> None:
    calc = RemoteCalculator(python, LJ)
    peer = calc._peer
    assert peer is not None
    assert (peer.folder / "socket").is_socket()
    assert oct(peer.folder.stat().st_mode)[-3:] == "700"
    process = calc.process_id
    del calc
    gc.collect()
    assert gone(process)
    assert not peer.folder.exists()
    script = (
        "import os, sys\nfrom mlcalc.calculators import RemoteCalculator\n"
        f"calc = RemoteCalculator({python!r}, {LJ!r})\nprint(calc.process_id, calc._peer.folder, flush=True)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    assert gone(int(ended[0]))
    assert not Path(ended[1]).exists()
    killed = subprocess.run(
        [sys.executable, "-c", script + "os.kill(os.getpid(), 9)\n"], check=False, capture_output=True, text=True
    )
    assert killed.returncode == -signal.SIGKILL
    assert gone(int(killed.stdout.split()[0]))
    assert not Path(killed.stdout.split()[1]).exists()


def test_workflows_take_it(python: str) -> None:
    atoms = bulk("Cu", cubic=True, a=3.7)
    atoms.rattle(0.05, seed=1)
    results = []
    with RemoteCalculator(python, "ase.calculators.emt:EMT") as remote:
        for calc in (remote, EMT()):
            relaxed = relax(atoms, calc, cell="full", fmax=1e-3)
            fit = eos(relaxed.atoms, calc, points=7).fit
            results.append((relaxed.energy_ev, fit.volume_ang3_per_atom, fit.bulk_modulus_gpa))
        assert remote.restarts == []
    assert results[0] == pytest.approx(results[1], rel=1e-7)


def test_on_the_command_line(
    python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "Cu.cif", bulk("Cu", cubic=True))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.warnings, "showwarning", cli.warnings.showwarning)

    def run(calculator: str) -> str:
        command = ["mlcalc", "relax", "Cu.cif", "--cell", "full", "--calculator", calculator]
        monkeypatch.setattr(sys, "argv", [*command, "--calculator-python", python])
        with pytest.raises(SystemExit):
            cli.main()
        return capsys.readouterr().err

    assert run("ase.calculators.emt:EMT") == ""
    record = json.loads((tmp_path / "relax" / "parts" / "Cu.json").read_text())
    assert record["result"]["converged"]
    assert python in record["identity"]["calculator"]
    assert "No module named 'mace'" in run("mace.calculators:mace_mp")
