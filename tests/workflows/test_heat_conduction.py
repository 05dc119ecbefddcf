"""Lattice thermal conductivity: third derivatives against a pair potential's, symmetry, scaling laws, resuming."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones
from pymatgen.io.ase import AseAtomsAdaptor
from scripted_lennard_jones import ScriptedLennardJones

from mlcalc import MLCalculator
from mlcalc.errors import WorkflowError
from mlcalc.workflows import ConvergenceWarning, HeatResult, WorkflowWarning, heat_conduction, plot_heat, relax

LATTICE = 5.2616018623  # Å: minimum of the potential below; checked by the relaxation it was printed by
CUTOFF = 8.5


def argon(mass: float = 39.948) -> Atoms:
    atoms = bulk("Ar", a=LATTICE)
    atoms.set_masses([mass])
    return atoms


def run(atoms: Atoms | None = None, **options) -> HeatResult:
    calculator = MLCalculator(ScriptedLennardJones(cutoff=CUTOFF), dtype="float64")
    chosen = {"supercell": (3, 3, 3), "mesh": (6, 6, 6), "check_mesh": False, "temperatures_k": (300, 600)}
    return heat_conduction(atoms or argon(), calculator, **{**chosen, **options})


def test_third_order_constants_are_those_of_the_pair_potential() -> None:
    # ∂³E/∂u_i∂u_j∂u_j for E = Σ φ(|u_j − u_i|): minus the third derivative of φ, summed over the images of j.
    solver = run(displacement=0.01).phono3py
    supercell = solver.supercell
    potential = ScriptedLennardJones(cutoff=CUTOFF)

    def pair(vector: torch.Tensor) -> torch.Tensor:
        index, species = torch.tensor([[0, 1], [1, 0]]), torch.zeros(2, dtype=torch.long)
        return potential(species, index, torch.stack([vector, -vector])).sum()

    def slope(vector: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(pair(vector), vector, create_graph=True)[0]

    def curvature(vector: torch.Tensor) -> torch.Tensor:
        return torch.autograd.functional.jacobian(slope, vector, create_graph=True)

    shifts = np.array(list(np.ndindex(3, 3, 3))) - 1
    home = int(solver.primitive.p2s_map[0])
    found = solver.fc3[0] if solver.fc3.shape[0] == 1 else solver.fc3[home]
    scale = np.abs(found).max()
    checked = 0
    for j in range(len(supercell)):
        if j == home:
            continue
        between = supercell.positions[j] - supercell.positions[home] + shifts @ supercell.cell
        expected = np.zeros((3, 3, 3))
        for vector in between[np.linalg.norm(between, axis=1) < CUTOFF]:
            third = torch.autograd.functional.jacobian(curvature, torch.tensor(vector, requires_grad=True))
            expected -= third.detach().numpy()
        np.testing.assert_allclose(found[j, j], expected, atol=4e-3 * scale)
        checked += np.abs(expected).max() > 0.1 * scale
    assert checked == 12


def test_cubic_symmetry_and_one_over_temperature() -> None:
    result = run()
    for kappa in result.kappa_w_per_m_k:
        np.testing.assert_allclose(kappa, kappa[0, 0] * np.eye(3), atol=1e-6 * kappa[0, 0])
    first, second = result.kappa_w_per_m_k[:, 0, 0]
    # All modes are classical at 300 K (2 THz is 96 K): scattering rates grow like T.
    assert first / second == pytest.approx(2.0, rel=0.01)
    assert result.dynamically_stable
    assert result.spacegroup == "Fm-3m (225)"
    assert not result.converged  # nothing was said about the mesh


def test_scaling_with_mass() -> None:
    # By dimensions κ ~ m^(-1/2) at fixed forces and temperature, as long as ħ plays no part.
    light, heavy = run(temperatures_k=1000), run(argon(4 * 39.948), temperatures_k=1000)
    assert light.kappa_w_per_m_k[0, 0, 0] / heavy.kappa_w_per_m_k[0, 0, 0] == pytest.approx(2.0, rel=0.01)


def test_the_tensor_turns_with_the_crystal() -> None:
    crystal = bulk("Ar", a=LATTICE, cubic=True)
    crystal.set_cell(crystal.cell.array * [1.0, 1.0, 1.03], scale_atoms=True)
    turned = crystal.copy()
    turned.rotate(50, (1, 2, -1), rotate_cell=True)
    rotation = np.linalg.solve(crystal.cell.array, turned.cell.array).T
    options = {"supercell": (2, 2, 2), "mesh": (5, 5, 5), "temperatures_k": 300, "primitive_matrix": "P"}
    upright = run(crystal, **options).kappa_w_per_m_k[0]
    assert upright[0, 0] == pytest.approx(upright[1, 1], rel=1e-6)
    assert upright[2, 2] < 0.9 * upright[0, 0]
    expected = rotation @ upright @ rotation.T
    off_diagonal = np.abs(expected[np.triu_indices(3, 1)])
    assert np.ptp(off_diagonal) > 0.03 * upright[0, 0]
    found = run(AseAtomsAdaptor.get_structure(turned), **options).kappa_w_per_m_k[0]
    np.testing.assert_allclose(found, expected, atol=0.01 * upright[0, 0])


def test_isotopes_scatter_and_the_full_equation_is_near(tmp_path: Path) -> None:
    calculator = LennardJones(sigma=3.4, epsilon=0.0104, rc=7.5, smooth=True)
    start = bulk("Ge", "fcc", a=5.2)  # for its isotopes
    crystal = relax(start, calculator, cell="isotropic", fmax=1e-4, stress_tolerance_gpa=1e-5).atoms
    options = {"supercell": (3, 3, 3), "mesh": (5, 5, 5), "check_mesh": False, "temperatures_k": 20, "out": tmp_path}
    pure = heat_conduction(crystal, calculator, **options)
    assert pure.dynamically_stable
    natural = heat_conduction(crystal, calculator, isotope=True, **options)
    assert natural.kappa_w_per_m_k[0, 0, 0] < 0.995 * pure.kappa_w_per_m_k[0, 0, 0]
    full = heat_conduction(crystal, calculator, method="lbte", **options).kappa_w_per_m_k[0]
    np.testing.assert_allclose(full, full[0, 0] * np.eye(3), atol=1e-3 * full[0, 0])
    assert 0.9 < full[0, 0] / pure.kappa_w_per_m_k[0, 0, 0] < 1.6


def test_killed_runs_go_on_and_others_are_refused(tmp_path: Path) -> None:
    whole = run()

    def kill(done: int, total: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(out=tmp_path, progress=kill)
    seen: list[int] = []
    result = run(out=tmp_path, progress=lambda done, total: seen.append(done))
    assert seen[0] == 21
    assert seen[-1] == result.displacements
    np.testing.assert_allclose(result.kappa_w_per_m_k, whole.kappa_w_per_m_k, rtol=1e-8)
    assert result.files["phono3py_params.yaml"].stat().st_size > 10000
    with pytest.raises(WorkflowError, match=r"another run \(different: displacement\)"):
        run(out=tmp_path, displacement=0.02)
    assert plot_heat(result, tmp_path / "heat.png").stat().st_size > 5000


def test_pairs_beyond_a_cutoff_are_left_out() -> None:
    whole, short = run(), run(pair_cutoff=4.5)
    assert short.displacements < whole.displacements
    # Only nearest neighbours (3.72 Å) are anharmonic to speak of.
    np.testing.assert_allclose(short.kappa_w_per_m_k, whole.kappa_w_per_m_k, rtol=0.2)


def test_what_should_not_be_trusted_is_told() -> None:
    with pytest.warns(ConvergenceWarning, match="NOT converged with the mesh"):
        result = run(mesh=(4, 4, 4), check_mesh=True, mesh_tolerance=0.01)
    assert result.coarse_mesh == (3, 3, 3)
    assert result.mesh_change > 0.01
    fine = run(mesh=(10, 10, 10), check_mesh=True, mesh_tolerance=0.2)
    assert fine.converged
    assert fine.coarse_mesh == (7, 7, 7)
    stretched = argon()
    stretched.set_cell(stretched.cell.array * 1.15, scale_atoms=True)
    with pytest.warns(WorkflowWarning, match="imaginary modes"):
        assert not run(stretched).converged
    pair = bulk("Ar", a=LATTICE, cubic=True)
    pair.positions[0] += 0.05
    with pytest.warns(WorkflowWarning, match="NOT relaxed"):
        run(pair, supercell=(1, 1, 1), mesh=(2, 2, 2), pair_cutoff=1.0)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "phono3py", None)  # as where it is not installed
    with pytest.raises(WorkflowError, match=r"pip install 'mlcalc\[heat\]'"):
        run()


def test_bad_input_is_refused() -> None:
    with pytest.raises(WorkflowError, match="third-order force constants vanish"):
        run(supercell=(2, 2, 2))
    with pytest.raises(WorkflowError, match="periodic in three directions"):
        run(Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 3.8]]))
    for options, message in [
        ({"method": "gk"}, "unknown method"),
        ({"temperatures_k": (0.0, 300.0)}, "temperatures_k must be positive"),
        ({"displacement": 0.0}, "displacement"),
        ({"pair_cutoff": -1.0}, "pair_cutoff"),
        ({"mesh": (3, 3)}, "mesh is a length"),
        ({"mesh": (1, 1, 1), "check_mesh": True}, r"no mesh coarser than \[1, 1, 1\]"),
        ({"supercell": (0, 1, 1)}, "supercell"),
    ]:
        with pytest.raises(WorkflowError, match=message):
            run(**options)
