"""Workflows take compiled model files (.pt2) as they take TorchScript ones, in both engines."""

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from mlcalc import MLCalculator
from mlcalc.cli._calculator import dynamics_calculator
from mlcalc.errors import WorkflowError
from mlcalc.lammps.run import run_static
from mlcalc.workflows import check, md


@pytest.mark.filterwarnings("ignore:.*extrapolat")
def test_both_engines_run_a_compiled_file(compiled_pair: tuple[Path, Path], tmp_path: Path) -> None:
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.02, seed=1)
    options = {"ensemble": "nve", "temperature_k": 100.0, "steps": 4, "log_interval": 1}
    script, compiled = compiled_pair
    expected = md(atoms, script, out=tmp_path / "script", **options)
    for engine in ("ase", "lammps"):
        found = md(atoms, compiled, engine=engine, out=tmp_path / engine, **options)
        np.testing.assert_allclose(found.total_ev, expected.total_ev, atol=1e-5)
        np.testing.assert_allclose(found.potential_ev, expected.potential_ev, atol=1e-5)
    with pytest.raises(WorkflowError, match="runs in the dtype it was exported in"):
        md(atoms, compiled, engine="lammps", dtype="float32", out=tmp_path / "no", **options)
    assert dynamics_calculator(str(compiled), None, "lammps", None, None) == (str(compiled), None)
    with pytest.raises(WorkflowError, match="runs in the dtype it was exported in"):
        dynamics_calculator(str(compiled), None, "lammps", "float64", None)


@pytest.mark.filterwarnings("ignore:.*extrapolat")
def test_check_compares_the_compiled_file_itself_with_lammps(compiled_pair: tuple[Path, Path]) -> None:
    report = check(MLCalculator(compiled_pair[1]), elements=["Si"], only=["LAMMPS"])
    assert report["LAMMPS"].status == "pass", report["LAMMPS"].explanation


@pytest.mark.filterwarnings("ignore:.*extrapolat")
def test_a_halo_of_a_compiled_file(compiled_pair: tuple[Path, Path]) -> None:
    """Its exchanges are the identity there, and only energies of owned atoms count in the derivative it holds."""
    atoms = bulk("Si", cubic=True).repeat((1, 1, 5))
    atoms.rattle(0.15, seed=1)
    atoms.symbols[::3] = "Mo"
    script, compiled = compiled_pair
    wanted = run_static(atoms, script)
    assert np.abs(wanted.forces).max() > 0.1
    for file in (script, compiled):
        for options in ("exchange", "halo"):
            found = run_static(atoms, file, ranks=2, processors="1 1 2", options=options)
            for name in ("energies", "forces", "virials"):
                assert np.abs(getattr(found, name) - getattr(wanted, name)).max() < 1e-10, (file, options, name)
