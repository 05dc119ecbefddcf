"""Reading labels and splitting them."""

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from emt_data import emt_frames

from mlcalc.errors import TrainingError
from mlcalc.training.dataset import GraphDataset, Labelled, elements_of, read_labelled, split, take_fold
from mlcalc.training.settings import DataSettings

KEYS = DataSettings(train=("x",), energy_key="REF_energy", forces_key="REF_forces", stress_key="REF_stress")


def test_labels_are_read_as_written(emt_file):
    data = read_labelled(emt_file, KEYS)
    frames = emt_frames(24)
    assert len(data) == 24
    assert data[4].energy == pytest.approx(frames[4].info["REF_energy"], abs=1e-8)
    assert np.abs(data[4].forces - frames[4].arrays["REF_forces"]).max() < 1e-7
    assert data[3].stress is None
    assert np.abs(data[4].stress - frames[4].info["REF_stress"]).max() < 1e-9
    assert data[5].group == "hot"


def test_labels_of_a_calculator_and_six_stress_numbers(tmp_path):
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms = bulk("Cu")
    atoms.calc = SinglePointCalculator(atoms, energy=-3.0, forces=[[0, 0, 0.1]], stress=[1, 2, 3, 4, 5, 6])
    ase.io.write(tmp_path / "a.xyz", [atoms])
    (item,) = read_labelled(tmp_path / "a.xyz")
    assert item.stress is not None
    assert item.stress.tolist() == [[1, 6, 5], [6, 2, 4], [5, 4, 3]]


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda a: a.info.pop("REF_energy"), "frame 1 has no 'REF_energy'"),
        (lambda a: a.arrays.pop("REF_forces"), "frame 1 has no 'REF_forces'"),
        (lambda a: a.info.update(REF_energy=np.nan), "frame 1 holds a label or position that is not finite"),
        (lambda a: a.info.update(REF_stress=np.arange(9.0).reshape(3, 3)), "the stress is not symmetric"),
    ],
)
def test_bad_frames_are_named(tmp_path, break_it, message):
    frames = emt_frames(2)
    break_it(frames[1])
    ase.io.write(tmp_path / "bad.xyz", frames)
    with pytest.raises(TrainingError, match=message):
        read_labelled(tmp_path / "bad.xyz", KEYS)


def test_truncated_and_missing_files(tmp_path, emt_file):
    with pytest.raises(TrainingError, match="no file"):
        read_labelled(tmp_path / "none.xyz")
    text = emt_file.read_text()
    (tmp_path / "cut.xyz").write_text(text[: text.rindex("\n", 0, -20) - 30])
    with pytest.raises(TrainingError, match="not a readable extended XYZ file"):
        read_labelled(tmp_path / "cut.xyz", KEYS)


def _frame(group: str, cell: float, symbols: str = "Cu") -> Labelled:
    atoms = Atoms(symbols, cell=[cell] * 3, pbc=True)
    return Labelled(atoms, 0.0, np.zeros((len(atoms), 3)), None, group)


def test_split_holds_out_blocks_of_a_trajectory_and_every_group():
    data = [_frame("md", 4.0) for _ in range(80)] + [_frame("strain", 4.0 + 0.01 * k) for k in range(40)]
    training, held = split(data, 0.1, seed=1)
    assert sorted([*training, *held]) == list(range(120))
    md = [k for k in held if k < 80]
    assert len(md) == 8
    assert all(k // 4 * 4 + m in held for k in md for m in range(4))  # whole blocks of four
    assert 3 <= len([k for k in held if k >= 80]) <= 5
    assert split(data, 0.1, seed=1) == (training, held)
    assert split(data, 0.1, seed=2) != (training, held)


def test_folds_are_disjoint_alike_and_hold_every_frame():
    data = [_frame("run", 3.6) for _ in range(40)] + [_frame("strained", 3.6 + 0.01 * k) for k in range(8)]
    parts = [take_fold(data, 4, k) for k in range(4)]
    assert sorted(k for _, inside in parts for k in inside) == list(range(48))
    for outside, inside in parts:
        assert sorted(outside + inside) == list(range(48))
        assert 8 <= sum(k < 40 for k in inside) <= 12
        assert sum(k >= 40 for k in inside) == 2
        assert all((k // 4 * 4 + j) in inside for k in inside if k < 40 for j in range(4))  # blocks stay whole
    with pytest.raises(TrainingError, match="too few for fold 2 of 3"):
        take_fold(data[:4], 3, 2)


def test_split_refuses_what_cannot_be_split():
    with pytest.raises(TrainingError, match="too few"):
        split([_frame("a", 4.0)], 0.1, 0)


def test_batches_carry_labels(emt_file):
    data = read_labelled(emt_file, KEYS)
    dataset = GraphDataset(data, elements_of(data), 4.0)
    batch = dataset.batch([4, 3])
    assert batch.graph.n_structures == 2
    assert batch.has_stress.tolist() == [True, False]
    assert np.allclose(batch.strain[0].numpy(), data[4].stress * data[4].atoms.get_volume(), atol=1e-5)
    assert dataset.min_distance() == pytest.approx(
        min(d.atoms.get_all_distances(mic=True)[np.triu_indices(4, 1)].min() for d in data), abs=1e-5
    )
