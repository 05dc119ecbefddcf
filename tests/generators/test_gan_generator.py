"""The generator `gan`: penalty, networks for images of any shape, collapse, training that resumes, drawing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _perovskites import GAN
from ase import Atoms
from torch import Tensor, nn

from mlcalc.crystals.codec import CODECS, Codec
from mlcalc.crystals.coordinate_image import GEOMETRY, CoordinateImage
from mlcalc.errors import CodecError, GeneratorError, ModelFileError, TrainingError
from mlcalc.generators import Constraints, make_generator
from mlcalc.generators._gan_network import GanNetwork, GanSettings, critics_for, gradient_penalty
from mlcalc.generators._gan_training import GanTrainer
from mlcalc.generators._gan_weights import load_gan, save_gan
from mlcalc.generators._image_conditions import Conditions
from mlcalc.generators._precision_recall import features, precision_and_recall
from mlcalc.generators._weights import find_weights
from mlcalc.generators.training import generator_settings, make_trainer

SHIPPED = find_weights("gan")

TOLD = Conditions(("Sr", "Ti", "O"), ("gap",), (0.0,), (1.0,), (0.0,), (1.0,))
SMALL = GanSettings(width=8, blocks=1, noise=4)


class Blank(Codec):
    """Arrays of any shape, all of which mean one atom of polonium, or every other time nothing."""

    name = "blank"

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def encode(self, atoms: Atoms) -> np.ndarray:
        return np.zeros(self.shape, np.float32)

    def decode(self, array: np.ndarray) -> Atoms:
        if int(1e4 * abs(array.sum())) % 2:
            raise CodecError("the image holds no atoms")
        return Atoms("Po", cell=[3.3] * 3, pbc=True)

    def options(self) -> dict[str, Any]:
        return {}


class Voxels(Blank):
    """The same for cubes of numbers."""

    def __init__(self) -> None:
        super().__init__(2, 8, 8, 8)


class Smooth(nn.Module):
    """A critic with curvature everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 5).double(), nn.Linear(5, 1).double()

    def forward(self, images: Tensor, conditions: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(images.flatten(1))) + conditions[:, :1]
        verdict: Tensor = self.second(hidden)[:, 0]
        return verdict


def test_penalty_and_its_gradient_by_finite_differences() -> None:
    torch.manual_seed(3)
    critic = Smooth()
    real, fake = torch.randn(4, 2, 3, dtype=torch.float64), torch.randn(4, 2, 3, dtype=torch.float64)
    told, at = torch.randn(4, 2, dtype=torch.float64), torch.rand(4, dtype=torch.float64)

    def by_differences() -> float:
        """The penalty with slopes from differences of the critic's verdicts."""
        between = at.view(-1, 1, 1) * real + (1 - at).view(-1, 1, 1) * fake
        slopes, h = torch.zeros(4, 6, dtype=torch.float64), 1e-5
        with torch.no_grad():
            for k in range(6):
                step = torch.zeros(6, dtype=torch.float64)
                step[k] = h
                up, down = (critic(between + s * step.view(2, 3), told) for s in (1, -1))
                slopes[:, k] = (up - down) / (2 * h)
        return float(((slopes.norm(dim=1) - 1) ** 2).mean())

    penalty = gradient_penalty(critic, real, fake, told, at)
    assert float(penalty.detach()) == pytest.approx(by_differences(), rel=1e-8)
    penalty.backward()
    for parameter in (critic.first.weight, critic.second.weight, critic.first.bias):
        assert parameter.grad is not None
        where = (0,) * parameter.dim()
        values, h = [], 1e-5
        for sign in (1, -1):
            with torch.no_grad():
                parameter[where] += sign * h
            values.append(by_differences())
            with torch.no_grad():
                parameter[where] -= sign * h
        assert float(parameter.grad[where]) == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("shape", [(10, 6), (7, 21), (5, 8, 8), (5, 6, 6), (3, 16, 16, 16), (2, 32, 32, 32)])
def test_images_of_any_shape(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    codec = Blank(*shape)
    network, critics = GanNetwork(codec, TOLD, SMALL), critics_for(codec, TOLD, SMALL)
    told = torch.zeros(2, TOLD.width)
    images = network.finished(network(torch.randn(2, 4), told))
    assert images.shape == (2, *shape)
    assert list(critics) == ["structure"]
    assert critics["structure"](images, told).shape == (2,)


def test_coordinate_images_look_like_those_of_the_codec() -> None:
    torch.manual_seed(1)
    codec = CoordinateImage(TOLD.elements, max_atoms=5)
    network = GanNetwork(codec, TOLD, SMALL)
    raw = network(torch.randn(8, 4), torch.zeros(8, TOLD.width))
    images = network.finished(raw, network.gumbel(8))
    kinds = images[:, GEOMETRY:, 1:]
    assert set(kinds.detach().round(decimals=5).unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(kinds.sum(dim=1), torch.ones(8, 5))
    there = 1 - kinds[:, 0]
    for axis in range(3):
        norm = images[:, 2 * axis : 2 * axis + 2, 1:].norm(dim=1)
        torch.testing.assert_close(norm, there.detach() + 0 * norm, atol=1e-5, rtol=0)
    assert (images[:, GEOMETRY:, 0] == 0).all()
    kinds[:, 1].sum().backward()  # elements pass a gradient all the same
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    critics = critics_for(codec, TOLD, SMALL)
    assert list(critics) == ["structure", "composition"]
    mixed = images.detach()[:, :, [0, 3, 1, 5, 2, 4]]
    told = torch.zeros(8, TOLD.width)
    torch.testing.assert_close(critics["composition"](mixed, told), critics["composition"](images.detach(), told))
    moved = images.detach().clone()
    moved[:, :GEOMETRY] += 1.0
    torch.testing.assert_close(critics["composition"](moved, told), critics["composition"](images.detach(), told))


def test_precision_and_recall_see_collapse() -> None:
    rng = np.random.default_rng(0)
    held = np.concatenate([rng.normal(size=(200, 3)), rng.normal(size=(200, 3)) + 8])
    same = np.concatenate([rng.normal(size=(200, 3)), rng.normal(size=(200, 3)) + 8])
    half, apart = rng.normal(size=(400, 3)), rng.normal(size=(400, 3)) - 30
    precision, recall = precision_and_recall(same, held)
    assert precision > 0.9
    assert recall > 0.9
    precision, recall = precision_and_recall(half, held)
    assert precision > 0.9
    assert 0.4 < recall < 0.55
    assert precision_and_recall(apart, held) == (0.0, 0.0)
    one = np.repeat(held[:1], 400, axis=0)
    assert precision_and_recall(one, held)[1] < 0.01
    assert precision_and_recall(held[:0], held) == (0.0, 0.0)
    assert features(np.ones((2, 3, 32, 32, 32), np.float32), Blank(3, 32, 32, 32)).shape == (2, 3 * 8**3)


def test_gan_resumes_to_the_bit_with_its_critics(perovskites: Path, tmp_path: Path) -> None:
    hashes, critics = [], []
    for folder, stops in (("once", [None]), ("twice", [1, None])):
        for stop in stops:
            name, settings = generator_settings(
                {**GAN, "epochs": 3, "data": [str(perovskites)], "out": str(tmp_path / folder)}
            )
            trainer = make_trainer(name, settings)
            trainer.run(stop_after=stop)
        hashes.append(load_gan(trainer.weights_file).model_hash)
        critics.append(trainer.extra_state()["critics"])
    assert hashes[0] == hashes[1]
    assert all(torch.equal(critics[0][key], critics[1][key]) for key in critics[0])
    row = trainer.history[-1]
    assert 0 <= row["precision"] <= 1
    assert 0 <= row["recall"] <= 1
    assert row["structure"] != 0
    assert row["composition"] != 0
    assert "collapsed_epochs" in trainer.facts()


def test_critics_keep_their_share_of_the_learning_rate_in_every_step(
    perovskites: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {**GAN, "epochs": 3, "warmup": 2, "critic_rate": 0.5, "data": [str(perovskites)], "out": str(tmp_path)}
    trainer = make_trainer(*generator_settings(values))
    assert isinstance(trainer, GanTrainer)
    rates: dict[str, list[float]] = {"critics": [], "generator": []}
    for name, optimizer in (("critics", trainer.critic_optimizer), ("generator", trainer.optimizer)):

        def step(name: str = name, optimizer: Any = optimizer, original: Any = optimizer.step) -> None:
            rates[name].append(optimizer.param_groups[0]["lr"])
            original()

        monkeypatch.setattr(optimizer, "step", step)
    trainer.run()
    per_epoch = len(rates["generator"]) // 3
    assert per_epoch > 2
    assert len(set(rates["generator"])) == len(rates["generator"])
    # The generator steps after the first of each turn of two; the last turn of an epoch may be a single step.
    shown = len(rates["critics"]) // 3
    turns = [epoch * per_epoch + number // 2 for epoch in range(3) for number in range(shown)]
    assert rates["critics"] == pytest.approx([0.5 * rates["generator"][turn] for turn in turns], rel=1e-12)


def test_gan_settings_are_checked(perovskites: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="critic_steps"):
        generator_settings({**GAN, "data": ["x"], "critic_steps": 0})
    values = {**GAN, "data": [str(perovskites)], "out": str(tmp_path / "run"), "codec": {"name": "pixels"}}
    with pytest.raises(TrainingError, match="codec: unknown codec 'pixels'"):
        make_trainer(*generator_settings(values))


def test_constraints_of_gan_hold(gan_weights: Path) -> None:
    gan = make_generator("gan", weights=gan_weights, min_distance=0.0, symprec=0.0, attempts=20)
    cases: list[dict] = [
        {},
        {"elements": ("Sr", "Ti", "O"), "n_atoms": (5, 5)},
        {"formula": "KNbF3", "n_atoms": (5, 5)},
        {"chemical_system": ("Ca", "Zr", "O", "F"), "elements": ("O",), "n_atoms": (4, 6)},
        {"volume_per_atom": (14.0, 14.4), "properties": {"gap": (2.5, 3.5)}},
    ]
    for case in cases:
        constraints = Constraints(**{"n_atoms": (1, 6), **case})
        for candidate in gan.sample(6, constraints, seed=1):
            atoms = candidate.atoms
            assert constraints.n_atoms[0] <= len(atoms) <= constraints.n_atoms[1]
            if constraints.species():
                assert set(constraints.elements) <= set(atoms.symbols) <= set(constraints.species())
            if constraints.formula:
                assert atoms.symbols.formula.count() == {"K": 1, "Nb": 1, "F": 3}
            if constraints.volume_per_atom:
                assert 14.0 <= atoms.get_volume() / len(atoms) <= 14.4
            assert candidate.provenance.model_hash == load_gan(gan_weights).model_hash
    long, short = (
        list(gan.sample(65, Constraints(n_atoms=(1, 6)), 5)),
        list(gan.sample(2, Constraints(n_atoms=(1, 6)), 5)),
    )
    assert all(a.atoms == b.atoms and a.provenance == b.provenance for a, b in zip(long, short, strict=False))
    with pytest.raises(GeneratorError, match="Fe did not occur"):
        gan.sample(1, Constraints(elements=("Fe",)), 0)


def test_undecodable_images_are_counted(gan_weights: Path) -> None:
    gan = make_generator("gan", weights=gan_weights, min_distance=2.0, symprec=0.0, attempts=3)
    with pytest.raises(GeneratorError, match=r"no crystal in 3 attempts \(.*: \d.*\); loosen the constraints"):
        list(gan.sample(1, Constraints(n_atoms=(1, 6)), 0))


def test_images_of_other_codecs_are_decoded_and_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CODECS, "blank", (__name__, "Voxels"))
    torch.manual_seed(0)
    conditions = Conditions(("Po", "O"))
    save_gan(GanNetwork(Voxels(), conditions, SMALL).eval(), tmp_path / "v.safetensors", {})
    gan = make_generator("gan", weights=tmp_path / "v.safetensors", attempts=30)
    drawn = list(gan.sample(8, Constraints(elements=("Po",)), 0))
    assert all(str(c.atoms.symbols) == "Po" for c in drawn)
    with pytest.raises(GeneratorError, match="elements not allowed"):
        list(gan.sample(1, Constraints(elements=("O",)), 0))
    with pytest.raises(GeneratorError, match="Sr did not occur"):
        gan.sample(1, Constraints(elements=("Sr",)), 0)


def test_weights_of_gan_are_no_weights_of_vae(gan_weights: Path, vae_weights: Path) -> None:
    with pytest.raises(ModelFileError, match="no weights of the generator `vae`"):
        make_generator("vae", weights=gan_weights)
    with pytest.raises(ModelFileError, match="no weights of the generator `gan`"):
        make_generator("gan", weights=vae_weights)


def test_weights_of_gan_are_small_and_have_a_card() -> None:
    assert SHIPPED.stat().st_size < 5_000_000
    loaded, card = load_gan(SHIPPED), SHIPPED.with_suffix(".md").read_text(encoding="utf-8")
    assert loaded.model_hash in card
    assert loaded.facts["licence"] in card
    drawn = list(make_generator("gan").sample(20, Constraints(n_atoms=(1, 5)), 0))
    assert len({str(c.atoms.symbols) for c in drawn}) > 15
