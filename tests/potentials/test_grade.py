"""The extrapolation grade: distances against SciPy's, symmetry, families, files."""

import numpy as np
import pytest
import torch
from ase.build import bulk
from scipy.spatial.distance import cdist

from mlcalc.deploy import export, load_weights, save_weights
from mlcalc.errors import TrainingError
from mlcalc.graphs import build_graph
from mlcalc.potentials import PerElement, PotentialInfo, build
from mlcalc.potentials.derivatives import energies_and_gradients
from mlcalc.potentials.precision import in_dtype
from mlcalc.training.extrapolation import fit_grade

F64 = torch.float64
NETWORKS = {"equivariant": {"channels": 4, "l_max": 3, "layers": 2}, "schnet": {"channels": 8, "layers": 2}}


def untrained(architecture: str = "equivariant", elements=("Si", "C")):
    torch.manual_seed(0)
    network = NETWORKS[architecture]
    info = PotentialInfo(elements=elements, cutoff=4.0, layers=2, name="small")
    return build({"architecture": architecture, "network": network, "zbl": False}, info, F64)


def crystals(n: int = 6, symbols: str = "SiC"):
    out = []
    for k in range(n):
        atoms = bulk("SiC", "zincblende", a=4.3 + 0.05 * k) * (2, 1, 1)
        atoms.rattle(0.1, seed=k)
        if symbols != "SiC":
            atoms.symbols[:] = symbols
        out.append(atoms)
    return out


def graphs_of(potential, structures):
    return [build_graph(a, potential.info.elements, potential.info.cutoff) for a in structures]


def grades_of(potential, graph):
    outputs = {"grade": torch.empty(0)}
    energies_and_gradients(potential, graph, outputs=outputs)
    return outputs["grade"].double().numpy()


@pytest.mark.parametrize("architecture", NETWORKS)
def test_distance_to_the_nearest_landmark_in_units_of_the_farthest_training_atom(architecture):
    """Against SciPy's Mahalanobis distances, with a covariance of our own within elements."""
    potential = untrained(architecture)
    structures = crystals(40)
    graphs = graphs_of(potential, structures)
    graded = fit_grade(potential, graphs, landmarks=9)
    points, species = [], []
    for graph in graphs:
        extra = {"descriptors": torch.empty(0)}
        with torch.no_grad():
            potential.network(graph.species, graph.edge_index, graph.edge_vectors, extra)
        points.append(extra["descriptors"].numpy())
        species.append(graph.species.numpy())
    points, species = np.concatenate(points), np.concatenate(species)
    centred = np.concatenate([points[species == k] - points[species == k].mean(axis=0) for k in (0, 1)])
    inverse = np.linalg.pinv(centred.T @ centred / len(centred), rcond=1e-9)
    found = np.concatenate([grades_of(graded, graph) for graph in graphs])
    for k in (0, 1):
        mine = points[species == k]
        landmarks = mine[found[species == k] < 1e-4]  # grade zero, but for the rounding of a difference of squares
        assert len(landmarks) == 9
        assert found[species == k].max() == pytest.approx(1.0, abs=1e-6)
        if architecture == "equivariant":  # whose descriptors vary in all directions
            distance = cdist(mine, landmarks, "mahalanobis", VI=inverse).min(axis=1)
            assert np.abs(found[species == k] - distance / distance.max()).max() < 0.02


def test_grade_sees_what_is_strange_and_no_symmetry():
    potential = fit_grade(untrained(), graphs_of(untrained(), crystals()))
    atoms = crystals(3)[2]
    usual = grades_of(potential, graphs_of(potential, [atoms])[0])
    turned = atoms.copy()
    turned.rotate(40, (1, 2, 3), rotate_cell=True)
    turned = turned[::-1]
    assert np.abs(grades_of(potential, graphs_of(potential, [turned])[0])[::-1] - usual).max() < 1e-6
    atoms.set_cell(atoms.cell * 0.8, scale_atoms=True)
    assert grades_of(potential, graphs_of(potential, [atoms])[0]).min() > 1.5


def test_energies_do_not_depend_on_being_graded():
    potential = untrained()
    graph = graphs_of(potential, crystals(1))[0]
    graded = fit_grade(potential, graphs_of(potential, crystals()))
    for outputs in ({}, {"grade": torch.empty(0)}):
        energies, gradients = energies_and_gradients(graded, graph, outputs=outputs)
        wanted, wanted_gradients = energies_and_gradients(potential, graph)
        assert torch.equal(energies, wanted)
        assert torch.equal(gradients, wanted_gradients)


def test_files_keep_grades(tmp_path):
    graded = fit_grade(untrained(), graphs_of(untrained(), crystals()))
    atoms = crystals(2)[1]
    atoms.rattle(0.2, seed=9)
    graph = graphs_of(graded, [atoms])[0]
    wanted = grades_of(graded, graph)
    save_weights(graded, tmp_path / "w.safetensors")
    assert np.array_equal(grades_of(load_weights(tmp_path / "w.safetensors"), graph), wanted)
    scripted = export(graded, tmp_path / "m.pt")
    assert scripted.info.outputs == ("grade",)
    assert np.abs(grades_of(scripted, graph) - wanted).max() < 1e-6
    assert len(scripted.document["reference"]["grade"]) == len(scripted.document["reference"]["species"])
    small = in_dtype(graded, torch.float32)
    assert np.abs(grades_of(small, graph.to(dtype=torch.float32)) - wanted).max() < 5e-3


def test_members_of_a_family_grade_their_own_atoms():
    members = []
    for symbol in ("Si", "C"):
        potential = untrained(elements=(symbol,))
        members.append(fit_grade(potential, graphs_of(potential, crystals(symbols=symbol))))
    family = PerElement(members)
    assert family.info.outputs == ("grade",)
    far = crystals(2, "C")[1]
    far.translate([50, 0, 0])
    apart = crystals(1, "Si")[0] + far
    apart.cell, apart.pbc = None, False
    expected = [grades_of(m, graphs_of(m, [apart[apart.symbols == m.info.elements[0]]])[0]) for m in members]
    assert np.abs(grades_of(family, graphs_of(family, [apart])[0]) - np.concatenate(expected)).max() < 1e-6


def test_an_element_without_atoms_is_named():
    with pytest.raises(TrainingError, match="no atoms of C to fit"):
        fit_grade(untrained(), graphs_of(untrained(), crystals(symbols="Si")))
