"""mlcalc heat: files, configuration, what is told."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read, write
from typer.testing import CliRunner

from mlcalc.cli import app
from mlcalc.errors import WorkflowError
from mlcalc.workflows import heat_conduction


def test_files_equal_what_the_function_returns(tmp_path: Path) -> None:
    write(tmp_path / "Al.extxyz", bulk("Al", a=4.0))
    config = tmp_path / "heat.yaml"
    config.write_text("calculator: ase.calculators.emt:EMT\nsupercell: 3\nmesh: 6 6 6\ntemperatures-k: 300 600\n")
    out = tmp_path / "o"
    call = ["heat", str(tmp_path / "Al.extxyz"), "--config", str(config), "--out", str(out), "--relax"]
    done = CliRunner().invoke(app, [*call, "--mesh-tolerance", "2"])
    assert done.exit_code == 0, done.output
    assert "yes" in done.output
    document = json.loads((out / "heat.json").read_text())
    expected = heat_conduction(
        read(out / "structure.extxyz"), EMT(), supercell=(3, 3, 3), mesh=(6, 6, 6), temperatures_k=(300, 600)
    )
    np.testing.assert_allclose(document["kappa_w_per_m_k"], expected.kappa_w_per_m_k, rtol=1e-4, atol=1e-6)
    assert document["coarse_mesh"] == [4, 4, 4]
    for name in ("heat.png", "phono3py_params.yaml", "displacement_forces.npz"):
        assert (out / name).stat().st_size > 5000
    for extra, message in [(["--temperatures-k", "hot"], "give numbers"), (["--mesh", "-3.0"], "must be positive")]:
        with pytest.raises(WorkflowError, match=message):
            CliRunner().invoke(app, [*call, *extra], catch_exceptions=False)
