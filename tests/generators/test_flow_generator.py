"""The generator `flow`: constraints, seeds, errors; networks trained in a moment on a few salts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from mlcalc.crystals import closest_pair, find_space_group
from mlcalc.crystals.matching import match_error
from mlcalc.errors import GeneratorError, ModelFileError, TrainingError
from mlcalc.generators import Candidate, Constraints, make_generator
from mlcalc.generators._flow_training import FlowTrainer
from mlcalc.generators._flow_weights import load_flow
from mlcalc.generators._weights import find_weights
from mlcalc.generators.flow import FlowGenerator
from mlcalc.generators.training import generator_settings, make_trainer

CATIONS, ANIONS = ("Li", "Na", "K", "Rb", "Mg", "Ca", "Sr", "Ba"), ("F", "Cl", "Br", "I", "O", "S")
SMALL: dict[str, Any] = {
    "generator": "flow",
    "epochs": 6,
    "batch_size": 16,
    "validation_fraction": 0.2,
    "learning_rate": 0.005,
    "ema": 0.99,
    "properties": ["band_gap"],
    "match_every": 3,
    "match_crystals": 4,
    "network": {"width": 32, "messages": 24, "layers": 2, "feedforward": 32, "frequencies": 4, "composition": 32},
}


def salts() -> list[Atoms]:
    """Rock salt, in cells of two atoms; fluorides have a large gap."""
    found = [bulk(c + a, "rocksalt", a=5.2 + 0.1 * ANIONS.index(a)) for c in CATIONS for a in ANIONS]
    for atoms in found:
        atoms.info["band_gap"] = 6.0 if "F" in atoms.symbols else 1.0
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import ase.io

    path = tmp_path_factory.mktemp("data") / "salts.extxyz"
    ase.io.write(path, salts())
    return path


def trainer(data: Path, out: Path, **changes: Any) -> FlowTrainer:
    made = make_trainer(*generator_settings({**SMALL, "data": [str(data)], "out": str(out), **changes}))
    assert isinstance(made, FlowTrainer)
    return made


@pytest.fixture(scope="module")
def learnt(data: Path, tmp_path_factory: pytest.TempPathFactory) -> FlowTrainer:
    made = trainer(data, tmp_path_factory.mktemp("run"), epochs=100, match_every=100, drop_property=0.2)
    made.run()
    return made


def sample(learnt: FlowTrainer, n: int, seed: int = 0, options: Any = None, **constraints: Any) -> list[Candidate]:
    generator = make_generator(
        "flow", weights=learnt.weights_file, **{"min_distance": 0.4, "symprec": 0.0, **(options or {})}
    )
    return list(generator.sample(n, Constraints(**constraints), seed))


def test_it_learns_salts(learnt: FlowTrainer) -> None:
    drawn = sample(learnt, 64, n_atoms=(1, 20))
    assert all(len(c.atoms) == 2 for c in drawn)  # what the data has
    salty = [
        c for c in drawn if len(set(c.atoms.symbols) & set(CATIONS)) == 1 == len(set(c.atoms.symbols) & set(ANIONS))
    ]
    assert len(salty) > 55
    found = [match_error(c.atoms, bulk("NaCl", "rocksalt", a=5.5)) for c in sample(learnt, 64, formula="NaCl")]
    assert sum(f is not None for f in found) > 55
    assert learnt.history[-1]["match"] > 0.7  # formulas that it has not seen
    wide = sample(learnt, 64, properties={}, band_gap_ev=(6.0, 6.0))
    narrow = sample(learnt, 64, band_gap_ev=(1.0, 1.0))
    fluorides = [sum("F" in c.atoms.symbols for c in some) for some in (wide, narrow)]
    assert fluorides[0] > 45
    assert fluorides[1] < 10
    assert wide[0].provenance.details["band_gap_ev"] == 6.0
    told = sum("F" in c.atoms.symbols for c in sample(learnt, 64, options={"guidance": 0.0}, band_gap_ev=(6.0, 6.0)))
    assert told < 30  # guidance 0 follows the network that is not told


def test_cold_elements_are_the_likeliest(learnt: FlowTrainer) -> None:
    """The colder, the fewer compositions; at no temperature to speak of, one for a size."""

    def compositions(temperature: float) -> set[str]:
        return {str(c.atoms.symbols) for c in sample(learnt, 64, options={"temperature": temperature}, n_atoms=(2, 2))}

    assert len(compositions(1e-6)) == 1
    assert len(compositions(1e-6)) < len(compositions(1.0)) <= len(compositions(5.0))


def test_every_constraint_holds(learnt: FlowTrainer) -> None:
    for c in sample(learnt, 32, formula="MgF2", n_atoms=(3, 7), volume_per_atom=(12.0, 12.5)):
        count = c.atoms.symbols.formula.count()
        assert count == {"Mg": len(c.atoms) // 3, "F": 2 * (len(c.atoms) // 3)}
        assert len(c.atoms) in (3, 6)
        assert 12.0 - 1e-6 <= c.atoms.get_volume() / len(c.atoms) <= 12.5 + 1e-6
    for c in sample(learnt, 32, elements=("Li", "O", "F"), n_atoms=(4, 5)):
        assert set(c.atoms.symbols) == {"Li", "O", "F"}
        assert len(c.atoms) in (4, 5)
    systems = [set(c.atoms.symbols) for c in sample(learnt, 64, elements=("O",), chemical_system=("Li", "Mg", "O"))]
    assert all("O" in s and s <= {"Li", "Mg", "O"} for s in systems)
    assert len({frozenset(s) for s in systems}) > 1
    for c in sample(learnt, 16, formula="NaCl", n_atoms=(2, 2), options={"min_distance": 0.7, "symprec": 0.3}):
        assert closest_pair(c.atoms, 0.7) is None
        assert c.atoms.cell.handedness == 1
        assert c.provenance.found_space_group not in (None, 1)  # moved onto what is there within 0.3 Å
        group = find_space_group(c.atoms)
        assert (group.number if group else None) == c.provenance.found_space_group


def test_symmetric_crystals_get_into_a_range_of_volumes(learnt: FlowTrainer) -> None:
    free = list(sample(learnt, 24, formula="NaCl", n_atoms=(2, 2), options={"symprec": 0.3}))
    volume = float(np.median([c.atoms.get_volume() / 2 for c in free])) * 1.1
    held = list(
        sample(learnt, 24, formula="NaCl", n_atoms=(2, 2), volume_per_atom=(volume, volume), options={"symprec": 0.3})
    )
    for c in held:
        assert c.atoms.get_volume() / 2 == pytest.approx(volume, rel=1e-9)
    high = [sum((c.provenance.found_space_group or 1) > 2 for c in some) for some in (free, held)]
    assert high[1] >= 0.7 * high[0] > 0


def test_a_repeated_cell_is_no_primitive_one(learnt: FlowTrainer) -> None:
    generator = make_generator("flow", weights=learnt.weights_file)
    assert isinstance(generator, FlowGenerator)
    salt = bulk("CsCl", "cesiumchloride", a=4.1)
    assert not generator._repeats(salt)
    assert generator._repeats(salt.repeat((2, 1, 1)))
    moved = salt.repeat((2, 1, 1))
    moved.positions[0] += [0.3, 0.2, 0.1]
    assert not generator._repeats(moved)


def test_space_groups_are_met_or_given_up(learnt: FlowTrainer) -> None:
    groups = {c.provenance.found_space_group for c in sample(learnt, 32, formula="NaCl", n_atoms=(2, 2))}
    some = next(iter(groups - {None}))
    drawn = sample(learnt, 4, formula="NaCl", n_atoms=(2, 2), space_groups=(some,))
    assert {c.provenance.found_space_group for c in drawn} == {some}
    with pytest.raises(GeneratorError, match=r"no crystal in 2 attempts .*space group that is not allowed"):
        sample(learnt, 1, formula="NaCl", space_groups=(19,), options={"attempts": 2})


def test_the_first_of_many_are_the_few(learnt: FlowTrainer) -> None:
    state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # type: ignore[union-attr,call-overload] # noqa: NPY002
    long, short = sample(learnt, 66, seed=7), sample(learnt, 5, seed=7)
    assert all(a.atoms == b.atoms and a.provenance == b.provenance for a, b in zip(long, short, strict=False))
    assert [c.provenance.index for c in long] == list(range(66))
    other = sample(learnt, 5, seed=8)
    assert not any(a.atoms == b.atoms for a, b in zip(short, other, strict=True))
    assert (state == np.random.get_state()[1]).all()  # type: ignore[index] # noqa: NPY002 - global state untouched
    assert torch.equal(torch_state, torch.get_rng_state())


def test_stopped_anywhere_it_ends_with_the_same_weights(data: Path, tmp_path: Path) -> None:
    whole = trainer(data, tmp_path / "whole")
    whole.run()
    for stop in (1, 2, 3):
        parts = trainer(data, tmp_path / "parts")
        parts.run(stop_after=stop)
    assert parts.finished
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, parts.network.state_dict()[name]), name
    assert load_flow(whole.weights_file).model_hash == load_flow(parts.weights_file).model_hash
    counted = [row["match"] == row["match"] for row in whole.history]
    assert counted == [False, False, True, False, False, True]


def test_it_goes_on_from_other_weights_and_may_be_told_more(learnt: FlowTrainer, data: Path, tmp_path: Path) -> None:
    start = {"start": str(learnt.weights_file), "learning_rate": 1e-6, "epochs": 1, "match_every": 0}
    same = trainer(data, tmp_path / "same", **start)
    assert same.run().elements == learnt.network.elements
    more = trainer(data, tmp_path / "more", properties=[], **start)
    more.run()
    # Hardly trained any further, both do what the weights did, with or without the label.
    reached = learnt.history[learnt.best_epoch]["validation_loss"]
    assert same.history[0]["validation_loss"] == pytest.approx(reached, rel=0.02)
    assert more.history[0]["validation_loss"] == pytest.approx(reached, rel=0.02)
    assert load_flow(more.weights_file).networks.properties == ()
    with pytest.raises(GeneratorError, match="know nothing of band_gap; they have learnt no property at all"):
        sample(more, 1, band_gap_ev=(1.0, 2.0))


def test_weights_come_back_from_half_the_bytes(learnt: FlowTrainer) -> None:
    loaded = load_flow(learnt.weights_file)
    assert {t.dtype for t in loaded.networks.state_dict().values()} == {torch.float32}
    assert loaded.networks.scales == learnt.network.scales
    for name, tensor in learnt.network.state_dict().items():
        torch.testing.assert_close(loaded.networks.state_dict()[name], tensor, rtol=1e-3, atol=1e-6)
    assert learnt.weights_file.stat().st_size < 2.6 * sum(p.numel() for p in learnt.network.parameters()) + 10_000


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ({"formula": "XeF2"}, "Xe is none of the elements the model knows"),
        ({"elements": ("Li", "O", "F"), "n_atoms": (1, 2)}, "holds one atom of each of 3 elements"),
        ({"formula": "MgF2", "n_atoms": (4, 5)}, "whole formula units of MgF2"),
        ({"formation_energy_ev_per_atom": (-1, 0)}, "know nothing of formation_energy_per_atom; .* band_gap"),
        ({"properties": {"heat_all": (0, 1)}}, "know nothing of heat_all"),
    ],
)
def test_impossible_wishes_fail_before_the_first(learnt: FlowTrainer, constraints: Any, message: str) -> None:
    generator = make_generator("flow", weights=learnt.weights_file)
    with pytest.raises(GeneratorError, match=message):
        generator.sample(1, Constraints(**constraints), 0)


def test_options_and_files_that_cannot_be(learnt: FlowTrainer, data: Path, tmp_path: Path) -> None:
    for options, message in (
        ({"steps": 0}, "steps"),
        ({"guidance": -1.0}, "guidance"),
        ({"attempts": 0}, "attempts"),
        ({"temperature": 0.0}, "temperature must be a positive number"),
        ({"temperature": float("nan")}, "temperature must be a positive number"),
    ):
        with pytest.raises(GeneratorError, match=message):
            make_generator("flow", weights=learnt.weights_file, **options)
    with pytest.raises(ModelFileError, match="no weights file"):
        make_generator("flow", weights=tmp_path / "no.safetensors")
    shipped = Path(__file__).parents[2] / "mlcalc" / "generators" / "weights" / "wyckoff.safetensors"
    with pytest.raises(ModelFileError, match="no weights of the generator `flow`"):
        make_generator("flow", weights=shipped)
    with pytest.raises(TrainingError, match="no crystal has the label 'heat'; there are: band_gap"):
        trainer(data, tmp_path / "run", properties=["heat"])
    with pytest.raises(TrainingError, match="too large, are too few"):
        trainer(data, tmp_path / "run", most_atoms=1)
    with pytest.raises(TrainingError, match="start: no weights file"):
        trainer(data, tmp_path / "run", start=str(tmp_path / "no.safetensors"))
    for values, message in (({"most_atoms": 0}, "most_atoms"), ({"drop_property": 2.0}, "drop_property")):
        with pytest.raises(TrainingError, match=message):
            generator_settings({**SMALL, "data": ["x"], **values})


PEROVSKITE = Atoms(
    "SrTiO3",
    cell=np.eye(3) * 3.9,
    scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
    pbc=True,
)


@pytest.mark.parametrize(
    ("name", "target"), [("flow", bulk("NaCl", "rocksalt", a=5.64)), ("flow-perov", PEROVSKITE)], ids=["flow", "perov"]
)
def test_weights_that_ship_are_small_quick_and_have_a_card(name: str, target: Atoms) -> None:
    path = find_weights("flow", name)
    assert path.stat().st_size < 5_000_000
    loaded, card = load_flow(path), path.with_suffix(".md").read_text(encoding="utf-8")
    assert loaded.model_hash in card
    assert loaded.facts["licence"] in card
    generator = make_generator("flow", weights=name)
    start, n = time.process_time(), len(target)
    drawn = list(generator.sample(64, Constraints(formula=target.get_chemical_formula(), n_atoms=(n, n)), seed=0))
    assert 64 / (time.process_time() - start) > 5  # crystals per second of one core
    assert sum(match_error(c.atoms, target) is not None for c in drawn) > 15
