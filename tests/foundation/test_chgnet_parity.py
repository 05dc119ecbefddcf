"""CHGNet against the authors' calculator, side by side; the table appears in the summary of the test run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk
from chgnet_upstream import upstream
from sevennet_upstream import crystals, shaken
from test_sevennet_parity import HEADER, difference, line, noise, numbers

from mlcalc import MLCalculator
from mlcalc.calculators import BatchedCalculator
from mlcalc.errors import ModelFileError
from mlcalc.foundation import load_published, published
from mlcalc.foundation.chgnet import from_checkpoint

# eV/atom, eV/Å, eV/Å³. The authors' shares of elements are float32, which shows in energies.
BOUNDS = np.array([5e-7, 1e-7, 1e-8])


def test_one_cell_with_short_and_long_bonds() -> None:
    """What every checkout can compare, without reference data."""
    atoms = shaken(bulk("NaCl", "rocksalt", a=5.6), 0)
    found = numbers(atoms, MLCalculator("chgnet-0.3.0", dtype="float64"))
    with upstream(torch.float64) as theirs:
        wanted = numbers(atoms, theirs)
    assert (difference(found, wanted) < BOUNDS).all()
    assert np.abs(wanted[1]).max() > 0.1


def test_crystals(data_folder: Path, record_property: Callable[[str, object], None]) -> None:
    """In float64 against the authors' in float64, in float32 against their float32, within ten times its noise."""
    members = crystals(data_folder, 30)
    table, worst = ["chgnet-0.3.0, mlcalc against CHGNet's own calculator", HEADER], {}
    noises, rng = [], np.random.default_rng(0)
    for dtype in (torch.float64, torch.float32):
        ours = MLCalculator("chgnet-0.3.0", dtype=dtype)
        differences = []
        with upstream(dtype) as theirs:
            for atoms in members:
                wanted = numbers(atoms, theirs)
                differences.append(difference(numbers(atoms, ours), wanted))
                noises += noise(atoms, theirs, wanted, rng) if dtype == torch.float32 else []
        worst[dtype] = np.max(differences, axis=0)
        table.append(line(str(dtype).removeprefix("torch."), len(members), worst[dtype]))
    most = np.max(noises, axis=0)
    table.append(line("  noise, moved and reordered", len(noises), most))
    record_property("table", "\n".join(table))
    assert (worst[torch.float64] < BOUNDS).all(), "\n".join(table)
    assert (worst[torch.float32] < 10 * most).all(), "\n".join(table)
    assert len({symbol for atoms in members for symbol in atoms.symbols}) == 88


def test_many_at_once() -> None:
    """Bonds and angles of one structure are not those of another."""
    structures = [shaken(bulk("NaCl", "rocksalt", a=5.6), 1), bulk("Cu"), shaken(bulk("Si"), 2)]
    single = MLCalculator("chgnet-0.3.0", dtype="float64")
    for atoms, found in zip(
        structures, BatchedCalculator("chgnet-0.3.0", dtype="float64").compute(structures), strict=True
    ):
        energy, forces, stress = numbers(atoms, single)
        assert found.energy_ev / len(atoms) == pytest.approx(energy, abs=1e-10)
        assert np.abs(found.forces_ev_per_ang - forces).max() < 1e-10
        assert np.abs(found.stress_ev_per_ang3 - stress).max() < 1e-10


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"gMLP_norm": "batch"}, "gMLP_norm"), ({"n_conv": 3}, "other layers"), ({"bond_fea_dim": 32}, "bond_fea_dim")],
)
def test_other_networks_are_refused(setting: dict, message: str) -> None:
    """Settings that are not rebuilt here would give wrong numbers."""
    with upstream(torch.float32) as theirs:
        settings = dict(theirs.model.model_args)
        document = {"model": {"model_args": {**settings, **setting}, "state_dict": theirs.model.state_dict()}}
    with pytest.raises(ModelFileError, match=message):
        from_checkpoint(document, published()["chgnet-0.3.0"].info)


def test_energies_are_said_to_be_corrected() -> None:
    """So that nobody puts them on a hull with those of SevenNet."""
    info = load_published("chgnet-0.3.0").info
    assert "MP2020" in info.energy_scale
    assert info.energy_scale != published()["sevennet-0"].info.energy_scale
