"""Files that a killed run goes on from: damaged ones and those of other runs are refused in one clear line."""

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from mlcalc.errors import WorkflowError
from mlcalc.workflows import eos, md, phonons
from mlcalc.workflows._steps import FinishedSteps, load_arrays, save_arrays

IDENTITY = {"structure": "abc", "mesh": [2, 2, 2], "fmax": 0.1, "bound": np.float64(3.0)}


def damaged(path: Path) -> list[bytes]:
    """What may be left of a file: nothing, a part, its end cut off, something else."""
    whole = path.read_bytes()
    return [b"", whole[:10], whole[: len(whole) // 2], whole[:-5], b"not ours", b"[]", b"{}"]


def test_arrays_come_back_for_the_same_run_only(tmp_path: Path) -> None:
    path = tmp_path / "kept.npz"
    assert load_arrays(path, IDENTITY) is None
    save_arrays(path, IDENTITY, forces=np.arange(6.0).reshape(2, 3), steps=np.array(4))
    found = load_arrays(path, IDENTITY)
    np.testing.assert_array_equal(found["forces"], np.arange(6.0).reshape(2, 3))
    assert set(found) == {"forces", "steps"}
    with pytest.raises(WorkflowError, match=r"kept.npz belongs to another run \(different: mesh, extra\): choose"):
        load_arrays(path, {**IDENTITY, "mesh": [2, 2, 3], "extra": 2})
    for content in damaged(path):
        path.write_bytes(content)
        with pytest.raises(WorkflowError, match=r"kept.npz is damaged .*delete it"):
            load_arrays(path, IDENTITY)


def test_steps_come_back_for_the_same_run_only(tmp_path: Path) -> None:
    steps = FinishedSteps(tmp_path / "new", "steps.json", IDENTITY)
    steps.add({"energy_ev": np.float64(0.1) + 0.2})
    assert FinishedSteps(tmp_path / "new", "steps.json", IDENTITY).records == [{"energy_ev": 0.1 + 0.2}]
    with pytest.raises(WorkflowError, match=r"another run \(different: fmax\)"):
        FinishedSteps(tmp_path / "new", "steps.json", {**IDENTITY, "fmax": 0.2})
    path = tmp_path / "new" / "steps.json"
    for content in damaged(path):
        path.write_bytes(content)
        with pytest.raises(WorkflowError, match=r"steps.json is damaged .*delete it"):
            FinishedSteps(tmp_path / "new", "steps.json", IDENTITY)


def test_workflows_refuse_damaged_files(tmp_path: Path) -> None:
    atoms = bulk("Cu", a=3.58)

    def dynamics(out: Path) -> object:
        return md(bulk("Cu", cubic=True), EMT(), temperature_k=100, steps=4, checkpoint_interval=2, out=out)

    for run, name in (
        (lambda out: eos(atoms, EMT(), points=5, out=out), "eos_points.json"),
        (lambda out: phonons(atoms, EMT(), supercell=(2, 2, 2), mesh=[2, 2, 2], out=out), "displacement_forces.npz"),
        (dynamics, "checkpoint.npz"),
    ):
        folder = tmp_path / name
        run(folder)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(WorkflowError, match=f"{name} is damaged"):
            run(folder)
