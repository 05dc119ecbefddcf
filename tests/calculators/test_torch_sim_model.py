"""Our potentials under torch-sim: its own check of models, the same numbers as in ASE, the same minima."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch_sim
from analytic_potentials import AngularPotential, LennardJonesPotential
from ase import Atoms
from ase.build import bulk
from ase.units import GPa
from torch_sim.autobatching import InFlightAutoBatcher
from torch_sim.models.interface import validate_model_outputs

from mlcalc.calculators import MLCalculator
from mlcalc.calculators.torch_sim import TorchSimModel
from mlcalc.errors import OverlapError, SettingsError, UnknownElementError
from mlcalc.workflows import relax


def crystals() -> list[Atoms]:
    """Triclinic cells of several elements and sizes, so that a transposed cell shows."""
    rng = np.random.default_rng(0)
    found = [bulk("Si", cubic=True), bulk("Ni").repeat((2, 1, 1)), bulk("Mo", cubic=True), bulk("Li").repeat((1, 1, 3))]
    for atoms in found:
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.uniform(-0.04, 0.04, (3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(scale=0.08, size=atoms.positions.shape)
    return found


def state_of(structures: list[Atoms]) -> torch_sim.SimState:
    return torch_sim.io.atoms_to_state(structures, torch.device("cpu"), torch.float64)


def test_torch_sim_accepts_the_model() -> None:
    model = TorchSimModel(LennardJonesPotential(("Si", "Fe"), sigma=2.0, rc=6.0))
    validate_model_outputs(model, torch.device("cpu"), torch.float64)


def test_numbers_are_those_of_the_ase_calculator() -> None:
    structures = crystals()
    found = TorchSimModel("mlearn")(state_of(structures))
    calculator = MLCalculator("mlearn", dtype="float64", grade_warn=None)
    first = 0
    for k, atoms in enumerate(structures):
        atoms.calc = calculator
        part = slice(first, first + len(atoms))
        assert found["energy"][k].item() == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
        np.testing.assert_allclose(found["forces"][part], atoms.get_forces(), atol=1e-10)
        np.testing.assert_allclose(found["stress"][k], atoms.get_stress(voigt=False), atol=1e-12)
        first += len(atoms)


def test_lists_follow_structures_that_come_and_go() -> None:
    model, structures = TorchSimModel("mlearn"), crystals()
    for chosen in ([0, 1, 2, 3], [0, 2, 3], [2, 0], [2, 0, 1, 3, 3], [1]):
        moved = [structures[k].copy() for k in chosen]
        for seed, atoms in enumerate(moved):
            atoms.rattle(0.02, seed=seed)
        state = state_of(moved)
        found, fresh = model(state), TorchSimModel("mlearn")(state)
        for name, values in fresh.items():
            np.testing.assert_allclose(found[name], values, atol=1e-10)
    assert model._batch.verlet.rebuilds < model._batch.verlet.calls


def test_cells_relax_to_the_minima_of_relax() -> None:
    structures, model = crystals(), TorchSimModel("mlearn")

    def done(state: torch_sim.SimState, last_energy: object = None) -> torch.Tensor:
        force = torch.zeros(state.n_systems, dtype=state.dtype)
        force.scatter_reduce_(0, state.system_idx, state.forces.norm(dim=1), "amax")
        return (force < 1e-3) & (state.stress.abs().amax(dim=(1, 2)) < 1e-3 * GPa)

    batcher = InFlightAutoBatcher(model, memory_scales_with="n_atoms", max_memory_scaler=12)
    final = torch_sim.optimize(
        structures,
        model,
        optimizer=torch_sim.frechet_cell_fire,
        convergence_fn=done,
        autobatcher=batcher,
        max_steps=1000,
    )
    ours = relax(structures, MLCalculator("mlearn", dtype="float64"), cell="full", fmax=1e-3, stress_tolerance_gpa=1e-3)
    for energy, result in zip(final.energy.tolist(), ours, strict=True):
        assert result.converged
        assert energy == pytest.approx(result.energy_ev, abs=1e-6 * len(result.atoms))


def test_open_axes_have_no_stress() -> None:
    cluster = Atoms("Si3", positions=[[0, 0, 0], [2.3, 0, 0], [0, 2.3, 0]], cell=np.eye(3) * 4)
    state = state_of([cluster, cluster])
    state.pbc = False
    found = TorchSimModel("mlearn")(state)
    alone = MLCalculator("mlearn", dtype="float64", grade_warn=None).get_potential_energy(cluster)
    np.testing.assert_allclose(found["energy"], [alone, alone], atol=1e-10)
    assert not found["stress"].any()


def test_what_is_wrong_is_named_with_its_number() -> None:
    overlap = bulk("Si")
    overlap.positions[1] = overlap.positions[0]
    model = TorchSimModel("mlearn")
    with pytest.raises(OverlapError, match="structure 1: atoms on top of each other"):
        model(state_of([bulk("Si"), overlap]))
    with pytest.raises(UnknownElementError, match="Cu"):
        model(state_of([bulk("Si"), bulk("Cu")]))
    with pytest.raises(SettingsError, match="total_charge"):
        TorchSimModel(AngularPotential())


def test_without_torch_sim_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['torch_sim'] = None\n"
        "from mlcalc.errors import MlcalcError\n"
        "try:\n    import mlcalc.calculators.torch_sim\n"
        "except MlcalcError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'mlcalc[torch-sim]'" in done.stdout
