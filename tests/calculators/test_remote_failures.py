"""What goes wrong in another environment, and what is left of it."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.emt import EMT
from remote_environment import FACTORIES, LJ, copper, gone, later

from mlcalc.calculators import RemoteCalculator
from mlcalc.errors import (
    NonFiniteError,
    RemoteError,
    RemoteLostError,
    RemoteStartError,
    SettingsError,
)

pytestmark = pytest.mark.xdist_group("remote")


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
    for kwargs in ({"sigma": {1: 2.0}}, {"sigma": [{"a": {None: 1}}]}, {1: 2.0}):
        with pytest.raises(SettingsError, match=r"as JSON: a key of a dictionary is (1|None), not text"):
            RemoteCalculator(python, LJ, kwargs)


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


@pytest.mark.parametrize("charge", [object(), {1: 2}, 1j])
def test_info_that_is_not_json(python: str, charge: Any) -> None:
    with RemoteCalculator(python, "ase.calculators.emt:EMT", respawn=False) as calc:
        atoms = copper()
        atoms.calc = calc
        atoms.info["charge"] = charge
        process = calc.process_id
        for _ in range(2):
            with pytest.raises(SettingsError, match=r"atoms.info\['charge'\] goes to the other environment as JSON"):
                atoms.get_forces()
        atoms.info["charge"] = 1
        assert len(atoms.get_forces()) == 4
        assert (calc.process_id, calc.restarts) == (process, [])


def test_results_that_cannot_be_sent(python: str) -> None:
    for magmoms in ("objects", "ragged"):
        with RemoteCalculator(python, f"{FACTORIES}:Odd", {"magmoms": magmoms}) as calc:
            atoms = copper()
            atoms.calc = calc
            assert np.isfinite(atoms.get_forces()).all()
            assert atoms.get_dipole_moment().tolist() == [0.1, 0.2, 0.3]
            with pytest.raises(PropertyNotImplementedError):
                atoms.get_magnetic_moments()
            assert "magmoms left out" in calc.output
            assert calc.restarts == []
    for kwargs, error, words in (
        ({"free_energy": "nan"}, NonFiniteError, "gave NaN or infinity for Cu4: free energy"),
        ({"rows": 1}, RemoteError, r"forces of shape \(5, 3\) for 4 atoms"),
    ):
        with RemoteCalculator(python, f"{FACTORIES}:Odd", kwargs) as atoms.calc, pytest.raises(error, match=words):
            atoms.get_forces()


def test_a_calculator_without_a_base_class(python: str) -> None:
    atoms = copper()
    with RemoteCalculator(python, f"{FACTORIES}:Harmonic") as atoms.calc:
        assert np.abs(atoms.get_forces() + 2 * atoms.positions).max() < 1e-10
        assert atoms.get_potential_energy() == pytest.approx((atoms.positions**2).sum(), abs=1e-10)
        with pytest.raises(PropertyNotImplementedError, match="stress"):
            atoms.get_stress()
        assert atoms.calc.restarts == []
