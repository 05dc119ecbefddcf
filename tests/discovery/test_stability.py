"""The learned stability score: its network, its training, its weights."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from mlcalc.crystals import closest_pair
from mlcalc.discovery._stability_graph import Crystals, neighbourhoods
from mlcalc.discovery._stability_network import StabilityNetwork, StabilityNetworkSettings
from mlcalc.discovery.stability import SHIPPED, StabilityModel
from mlcalc.discovery.stability_training import (
    LabelledStructures,
    StabilityFit,
    StabilityTrainingSettings,
    disturbed,
)
from mlcalc.errors import CrystalError, ModelFileError, TrainingError

SMALL = StabilityNetworkSettings(width=8, layers=2, neighbours=12, basis=6, hidden=16, dropout=0.0)


def values(network: StabilityNetwork, *structures: Atoms) -> np.ndarray:
    items = [neighbourhoods(a, network.elements, network.settings.neighbours) for a in structures]
    with torch.no_grad():
        return network(Crystals.of(items)).numpy()


@pytest.fixture
def network() -> StabilityNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return StabilityNetwork(("Cl", "Cu", "Fe", "Na"), SMALL).eval()


def test_neighbours_are_those_of_a_crystal() -> None:
    found = neighbourhoods(bulk("Cu", a=3.6), ("Cu",), 18)
    assert found.distances[0] == pytest.approx([3.6 / np.sqrt(2)] * 12 + [3.6] * 6)
    salt = neighbourhoods(bulk("NaCl", "rocksalt", a=5.6), ("Cl", "Na"), 7)
    assert salt.species.tolist() == [1, 0]
    assert salt.neighbours[0].tolist() == [1] * 6 + [0]
    # In a needle images along its short axis come first, however far the others are.
    needle = Atoms("Cu", cell=[2.5, 40, 40], pbc=True)
    assert neighbourhoods(needle, ("Cu",), 6).distances[0] == pytest.approx([2.5, 2.5, 5.0, 5.0, 7.5, 7.5])
    for wrong, message in (
        (bulk("Au"), "knows nothing of Au"),
        (Atoms("Cu", cell=[3, 3, 3], pbc=[True, True, False]), "periodic in three directions"),
        (Atoms("Cu", positions=[[np.nan, 0, 0]], cell=[3, 3, 3], pbc=True), "not finite"),
    ):
        with pytest.raises(CrystalError, match=message):
            neighbourhoods(wrong, ("Cu",), 6)


def test_only_the_crystal_matters(network: StabilityNetwork) -> None:
    atoms = bulk("FeCl", "cesiumchloride", a=3.1).repeat((1, 1, 2))  # 14 neighbours in two shells: 12 cut through one
    atoms.symbols[1] = "Na"
    reference = values(network, atoms)
    turned = atoms.copy()
    turned.rotate(37, (1, 2, 3), rotate_cell=True)
    turned.positions += (0.4, -7.0, 1.1)
    turned.wrap()
    order = [2, 0, 3, 1]
    for same in (turned, atoms[order], atoms.repeat((2, 1, 3)), Atoms(atoms[order].repeat((1, 2, 1))[::-1])):
        assert values(network, same) == pytest.approx(reference, abs=2e-5)
    # And together with others.
    assert values(network, bulk("Cu"), atoms, bulk("Na"))[1:2] == pytest.approx(reference, abs=2e-5)
    # Elements, places and volume do matter.
    swapped, larger = atoms.copy(), atoms.copy()
    swapped.symbols[[0, 1]] = swapped.symbols[[1, 0]]
    larger.set_cell(larger.cell * 1.05, scale_atoms=True)
    for other in (swapped, larger):
        assert np.abs(values(network, other) - reference).max() > 1e-4


def test_a_neighbour_leaves_without_a_jump(network: StabilityNetwork) -> None:
    """Of a slope, the largest step is an eighth of itself on a line eight times as fine; a jump stays what it is."""
    atoms = bulk("NaCl", "rocksalt", a=5.6).repeat((2, 1, 1))
    atoms.symbols[:] = ["Na", "Cl", "Cu", "Fe"]
    atoms.positions += np.random.default_rng(0).normal(scale=0.3, size=(4, 3))
    largest = []
    for points in (201, 1601):
        moved = [atoms.copy() for _ in range(points)]
        for copy, x in zip(moved, np.linspace(-0.4, 0.4, points), strict=True):
            copy.positions[0, 0] += x
        largest.append(np.abs(np.diff(values(network, *moved))).max())
    # On the way neighbours take each other's places, of other elements than theirs.
    lists = [np.sort(neighbourhoods(a, network.elements, SMALL.neighbours).neighbours) for a in moved]
    assert sum((one != other).any() for one, other in pairwise(lists)) >= 3
    assert largest[0] > 1e-6
    assert largest[1] < largest[0] / 5


def crystals(count: int, seed: int) -> list[LabelledStructures]:
    """Crystals whose energy is known: by the share of copper, and a parabola of the volume."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
        atoms.symbols[:] = rng.choice(["Cu", "Na", "Cl"], size=4)
        strain = rng.uniform(-0.1, 0.1)
        atoms.set_cell(atoms.cell * (1 + strain), scale_atoms=True)
        share = np.mean(atoms.symbols == "Cu")
        found.append(LabelledStructures(atoms, (), float(share + 20 * strain**2)))
    return found


def quick(folder: Path) -> StabilityTrainingSettings:
    return StabilityTrainingSettings(
        data=("made here",),
        out=str(folder),
        network=SMALL,
        epochs=12,
        batch_size=16,
        learning_rate=2e-2,
        copies=0,
        ema=0.9,
    )


def test_training_learns_and_resumes_to_the_bit(tmp_path: Path) -> None:
    training, validation = crystals(160, 0), crystals(40, 1)
    whole = StabilityFit(training, validation, quick(tmp_path / "whole"))
    before = torch.get_rng_state()
    whole.run()
    assert torch.equal(before, torch.get_rng_state())
    spread = np.abs(whole.aims - whole.aims.mean()).mean()
    assert min(row["validation_mae_ev_per_atom"] for row in whole.history) < 0.35 * spread
    for _ in range(3):  # killed after 4 epochs, and again
        StabilityFit(training, validation, quick(tmp_path / "killed")).run(stop_after=4)
    again = StabilityFit(training, validation, quick(tmp_path / "killed"))
    again.run()
    one, other = (StabilityModel.load(t.weights_file) for t in (whole, again))
    assert one.model_hash == other.model_hash
    assert one.facts["crystals"] == {"training": 160, "validation": 40, "left_out": 0}
    assert (tmp_path / "killed" / "log.csv").read_text(encoding="utf-8").count("\n") == 1 + len(whole.history)
    with pytest.raises(TrainingError, match="belongs to a run with other settings or data"):
        StabilityFit(training[1:], validation, quick(tmp_path / "killed")).run()


def test_nothing_to_learn_from_is_said(tmp_path: Path) -> None:
    for training, validation in (([], crystals(8, 1)), (crystals(8, 1), [])):
        with pytest.raises(TrainingError, match="needs crystals to learn from, and others of them to stop by"):
            StabilityFit(training, validation, quick(tmp_path))


def test_energies_lie_above_the_hull_of_what_is_predicted_of_references(network: StabilityNetwork) -> None:
    model = StabilityModel(network, {}, "0" * 16)
    salt, copper = bulk("NaCl", "rocksalt", a=5.64), bulk("Cu", a=3.6)
    more = bulk("NaCl", "cesiumchloride", a=3.4)
    energies = dict(zip("scm", model.predict([salt, copper, more]), strict=True))
    hulls = model.hulls([salt, copper])
    # Two elements at zero, and one compound: by hand.
    lowest = min(0.0, energies["s"])
    assert model.above([salt, more], hulls) == pytest.approx([energies["s"] - lowest, energies["m"] - lowest], abs=1e-6)
    assert model.above([copper], hulls) == pytest.approx([max(energies["c"], 0.0)], abs=1e-6)
    # Iron is known to the network, but not among the references.
    strange = Atoms("Cl2", positions=[[0, 0, 0], [0, 0, 2]])
    assert model.above([bulk("Au"), bulk("Fe"), strange], hulls) == [None] * 3
    assert "stability score" in str(hulls.scale)


def test_disturbed_copies_stay_crystals() -> None:
    settings = StabilityTrainingSettings(data=("none",), largest_rattle_ang=0.2, largest_strain=0.1)
    rng = np.random.default_rng(0)
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    changes, moves = [], []
    for _ in range(40):
        copy = disturbed(atoms, rng, settings)
        assert closest_pair(copy, 0.6) is None
        changes.append(copy.get_volume() / atoms.get_volume() - 1)
        moves.append(np.std(copy.positions - atoms.positions @ np.linalg.inv(atoms.cell) @ copy.cell))
    assert -0.1 <= min(changes) < -0.05
    assert 0.05 < max(changes) <= 0.1
    assert 0.1 < max(moves) < 0.29  # 0.2 Å, with the scatter of 24 numbers


def test_shipped_weights_tell_salts_from_nonsense() -> None:
    model = StabilityModel.load()
    assert SHIPPED.stat().st_size < 5e6
    assert (SHIPPED.parent / "stability.md").is_file()
    structures = [
        bulk("NaCl", "rocksalt", a=5.64),
        bulk("MgO", "rocksalt", a=4.21),
        bulk("ZnS", "zincblende", a=5.41),
        bulk("NaMg", "rocksalt", a=5.64),
    ]
    # Heats of formation are 4.26, 6.24 and 2.13 eV for a formula unit (CRC handbook); the last is nonsense.
    assert model.predict(structures)[:3] == pytest.approx([-2.13, -3.12, -1.07], abs=0.3)
    assert model.predict(structures)[3] > 0.0
    unknown = Atoms("OgLi", positions=[[0, 0, 0], [1.5, 1.5, 1.5]], cell=[3, 3, 3], pbc=True)
    assert np.isnan(model.predict([unknown])).all()


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no weights file"):
        StabilityModel.load(tmp_path / "nothing.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelFileError, match="is damaged"):
        StabilityModel.load(tmp_path / "broken.safetensors")
    from mlcalc.generators._weights import find_weights

    with pytest.raises(ModelFileError, match="holds no weights of the generator `stability`"):
        StabilityModel.load(find_weights("wyckoff"))
