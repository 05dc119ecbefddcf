"""Every workflow and the command line with a calculator of another environment."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.io import write

from mlcalc import cli
from mlcalc.calculators import RemoteCalculator
from mlcalc.workflows import CHECK_NAMES, check, elastic, eos, gruneisen, md, neb, phonons, relax

pytestmark = pytest.mark.xdist_group("remote")

EQUILIBRIUM = 3.5896  # Å, of EMT


def processes(python: str) -> list[str]:
    """Those of remote calculators in the other environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if words[0] == python and words[1].endswith("_remote_client.py"):
            found.append(folder.name)
    return found


def copper(a: float = EQUILIBRIUM, cubic: bool = False) -> Atoms:
    return bulk("Cu", a=a, cubic=cubic)


def relaxation(calc: Any) -> Any:
    atoms = copper(3.7, cubic=True)
    atoms.rattle(0.05, seed=1)
    result = relax(atoms, calc, cell="full", fmax=1e-3)
    return [result.energy_ev, *result.atoms.cell.lengths()]


def dynamics(calc: Any) -> Any:
    result = md(copper(cubic=True), calc, ensemble="npt-mtk", steps=20, log_interval=5)
    return [*result.potential_ev, *result.pressure_gpa, *result.atoms.positions.ravel()]


def phonon(calc: Any) -> Any:
    result = phonons(copper(), calc, supercell=(2, 2, 2), mesh=(4, 4, 4), temperatures=(0, 300, 100))
    return [result.max_frequency_thz, *result.thermal.free_energy_ev]


def equation_of_state(calc: Any) -> Any:
    fit = eos(copper(), calc, points=7).fit
    return [fit.volume_ang3_per_atom, fit.bulk_modulus_gpa]


def elasticity(calc: Any) -> Any:
    return elastic(copper(), calc, amplitudes=(0.004,)).stiffness_gpa.ravel()


def mode_gruneisen(calc: Any) -> Any:
    result = gruneisen(copper(), calc, supercell=(2, 2, 2), mesh=(4, 4, 4), temperatures=(100, 300, 100))
    return [result.mean, *result.thermodynamic]


def barrier(calc: Any) -> Any:
    slab = fcc111("Cu", (2, 2, 2), vacuum=5.0)
    slab.set_constraint(FixAtoms(range(4)))
    initial, final = slab.copy(), slab.copy()
    add_adsorbate(initial, "Ag", 2.2, "fcc")
    add_adsorbate(final, "Ag", 2.2, "hcp")
    result = neb(initial, final, calc, images=1, fmax=0.1)
    return [result.barrier_forward_ev, result.reaction_energy_ev]


# Without respawn where supercells and unit cells alternate, which would start more processes than there is to compute.
CASES = [
    (relaxation, True, 1e-7),
    (dynamics, True, 1e-6),
    (phonon, False, 1e-6),
    (equation_of_state, True, 1e-7),
    (elasticity, True, 1e-5),
    (mode_gruneisen, False, 1e-5),
    (barrier, True, 1e-5),
]


@pytest.mark.parametrize(("workflow", "respawn", "tolerance"), CASES, ids=[case[0].__name__ for case in CASES])
def test_workflows_find_the_same(python: str, workflow: Callable[[Any], Any], respawn: bool, tolerance: float) -> None:
    with RemoteCalculator(python, "ase.calculators.emt:EMT", respawn=respawn) as calc:
        found, expected = np.array(workflow(calc)), np.array(workflow(EMT()))
        assert calc.restarts == []
    assert np.isfinite(expected).all()
    assert found == pytest.approx(expected, rel=tolerance, abs=tolerance)
    assert np.abs(expected).max() > 100 * tolerance
    gc.collect()
    assert processes(python) == []


def test_check_copies_it_and_ends_all_of_them(python: str) -> None:
    """Without smoothness and dynamics, most of its evaluations, which ask for nothing else."""
    only = [name for name in CHECK_NAMES if name not in ("smoothness", "dynamics")]
    with RemoteCalculator(python, "ase.calculators.emt:EMT", respawn=False) as calc:
        found, expected = (check(one, elements=["Cu"], only=only) for one in (calc, EMT()))
        assert processes(python) != []
        assert calc.restarts == []
    assert {item.name: item.status for item in found.checks} == {item.name: item.status for item in expected.checks}
    gc.collect()
    assert processes(python) == []


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
