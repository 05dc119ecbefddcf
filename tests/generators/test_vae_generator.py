"""The generator `vae`: its bound, training that resumes, drawing under constraints, the way back."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from _perovskites import GAN, VAE, cube
from ase import Atoms
from ase.build import bulk
from scipy import stats

from mlcalc.crystals import closest_pair, find_space_group
from mlcalc.crystals.coordinate_image import CoordinateImage
from mlcalc.crystals.io import read_crystals
from mlcalc.errors import CodecError, GeneratorError, ModelFileError, TrainingError
from mlcalc.generators import Constraints, Generator, make_generator, read_candidates, write_candidates
from mlcalc.generators._image_conditions import Conditions
from mlcalc.generators._image_setting import standard_setting
from mlcalc.generators._vae_network import (
    Decoded,
    VaeNetwork,
    VaeSettings,
    divergence,
    log_mixture,
    reconstruction,
)
from mlcalc.generators._vae_weights import load_vae
from mlcalc.generators._weights import find_weights, read_weights, save_weights
from mlcalc.generators.training import generator_settings, make_trainer
from mlcalc.generators.vae import VaeGenerator

SHIPPED = find_weights("vae")


def test_reconstruction_is_the_log_density() -> None:
    """Against scipy's distributions, with a column without an atom, whose coordinates do not count."""
    rng = np.random.default_rng(0)
    codec = CoordinateImage(("Sr", "O"), max_atoms=2)
    atoms = Atoms("O", cell=[4, 5, 6], pbc=True, scaled_positions=[[0.1, 0.7, 0.4]])
    image = torch.from_numpy(codec.encode(atoms)).double()[None]
    angles, kappa = rng.uniform(0, 2 * np.pi, (2, 3)), rng.uniform(1, 50, (2, 3))
    mean, sigma = rng.normal(size=6), rng.uniform(0.1, 1, 6)
    logs = np.log(rng.dirichlet(np.ones(3), size=2))
    directions = torch.from_numpy(np.stack([np.cos(angles), np.sin(angles)], axis=2))[None]
    decoded = Decoded(
        torch.from_numpy(mean)[None],
        torch.from_numpy(np.log(sigma))[None],
        torch.from_numpy(logs)[None],
        directions,
        torch.from_numpy(np.log(kappa))[None],
    )
    lattice, elements, coordinates = reconstruction(decoded, image)[0].tolist()
    assert lattice == pytest.approx(stats.norm.logpdf(image[0, :6, 0].numpy(), mean, sigma).sum())
    assert elements == pytest.approx(logs[0, 2] + logs[1, 0])
    true = 2 * np.pi * np.array([0.1, 0.7, 0.4])
    assert coordinates == pytest.approx(stats.vonmises.logpdf(true, kappa[0], loc=angles[0]).sum(), rel=1e-5)


def test_divergence_is_unbiased() -> None:
    """Its mean over samples is KL(q || mixture) by quadrature, in one dimension."""
    generator = torch.Generator().manual_seed(0)
    mean, log_width = torch.tensor([[0.4]]), torch.tensor([[-0.7]])
    prior = (torch.tensor([[0.3, 0.7]]).log(), torch.tensor([[[-1.0], [1.0]]]), torch.tensor([[[0.1], [-0.4]]]))
    z = mean + log_width.exp() * torch.randn(200_000, 1, generator=generator)
    estimate = divergence(
        mean.expand(len(z), 1), log_width.expand(len(z), 1), z, tuple(p.expand(len(z), *p.shape[1:]) for p in prior)
    )
    x = np.linspace(-6, 6, 20_001)
    q = stats.norm.pdf(x, 0.4, math.exp(-0.7))
    p = 0.3 * stats.norm.pdf(x, -1, math.exp(0.1)) + 0.7 * stats.norm.pdf(x, 1, math.exp(-0.4))
    exact = np.trapezoid(q * np.log(np.maximum(q, 1e-300) / p), x)
    assert float(estimate.mean()) == pytest.approx(exact, abs=4 * float(estimate.std()) / math.sqrt(len(z)))
    at = log_mixture(torch.tensor([[0.5]]), prior)
    assert float(at) == pytest.approx(math.log(np.interp(0.5, x, p)), abs=1e-5)


def test_prior_alone_reads_the_conditions() -> None:
    codec = CoordinateImage(("Sr", "O"), max_atoms=2)
    conditions = Conditions(codec.elements, ("gap",), (0.0,), (1.0,), (0.0,), (1.0,))
    torch.manual_seed(0)
    network = VaeNetwork(codec, conditions, VaeSettings(width=8, layers=1, heads=2, latent=3, mixture=2)).eval()
    told = torch.zeros(1, conditions.width)
    told[0, 0] = 1
    one, two = network.prior(told), network.prior(torch.zeros(1, conditions.width))
    assert not torch.allclose(one[1], two[1])
    decoded = network.decode(torch.zeros(1, 3))
    norms = decoded.directions.norm(dim=3)
    torch.testing.assert_close(norms, torch.ones_like(norms))
    torch.testing.assert_close(decoded.kinds.exp().sum(dim=2), torch.ones(1, 2))


def test_training_resumes_to_the_bit(perovskites: Path, tmp_path: Path) -> None:
    hashes = []
    for name, stops in (("once", [None]), ("twice", [2, None])):
        for stop in stops:
            generator, settings = generator_settings(
                {**VAE, "epochs": 4, "data": [str(perovskites)], "out": str(tmp_path / name)}
            )
            trainer = make_trainer(generator, settings)
            trainer.run(stop_after=stop)
        hashes.append(load_vae(trainer.weights_file).model_hash)
    assert hashes[0] == hashes[1]
    assert "45 with labels" not in trainer.describe()  # some are held out
    assert "(gap, heat)" in trainer.describe()


def test_transfer_keeps_codec_and_knows_its_elements(perovskites: Path, vae_weights: Path, tmp_path: Path) -> None:
    values = {**VAE, "epochs": 1, "data": [str(perovskites)], "out": str(tmp_path / "more"), "start": str(vae_weights)}
    name, settings = generator_settings({**values, "learning_rate": 1e-7})
    trainer = make_trainer(name, settings)
    assert trainer.network.codec.to_dict() == load_vae(vae_weights).network.codec.to_dict()
    trainer.run()
    # The same crystals are held out, and so little training changes nothing.
    before = load_vae(vae_weights).facts["best"]["validation_loss"]
    assert trainer.history[0]["validation_loss"] == pytest.approx(before, abs=1e-2)
    import ase.io

    ase.io.write(tmp_path / "other.extxyz", [cube("Cs", "Ti", "O"), cube("Sr", "Ti", "O")])
    with pytest.raises(TrainingError, match="know no Cs"):
        make_trainer(name, dataclasses.replace(settings, data=(str(tmp_path / "other.extxyz"),)))


@pytest.mark.parametrize("values", [VAE, {**GAN, "codec": {}}], ids=["vae", "gan"])
def test_crystals_whose_atoms_clash_are_left_out(values: dict, perovskites: Path, tmp_path: Path) -> None:
    atoms = cube("Sr", "Ti", "O")
    atoms.positions[2] = atoms.positions[1] + 0.2
    row = {"cell": atoms.cell.tolist(), "species": list(atoms.symbols), "frac": atoms.get_scaled_positions().tolist()}
    clash = tmp_path / "clash.jsonl"
    clash.write_text(json.dumps(row) + "\n", encoding="utf-8")
    data = [str(perovskites), str(clash)]
    trainer = make_trainer(*generator_settings({**values, "data": data, "out": str(tmp_path / "run")}))
    assert trainer.left_out == 1
    assert "1 left out" in trainer.describe()


def test_training_refuses(perovskites: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="property_rate"):
        generator_settings({**VAE, "data": ["x"], "property_rate": 0})
    name, settings = generator_settings(
        {**VAE, "max_atoms": 1, "data": [str(perovskites)], "out": str(tmp_path / "small")}
    )
    with pytest.raises(TrainingError, match="takes none of 108 crystals"):
        make_trainer(name, settings)


def quick(weights: Path, **options: object) -> Generator:
    """The little network draws badly: let atoms come close, and leave symmetry alone."""
    return make_generator("vae", weights=weights, **{"min_distance": 0.3, "symprec": 0.0, **options})


def test_constraints_of_vae_hold(vae_weights: Path, tmp_path: Path) -> None:
    vae = quick(vae_weights)
    cases: list[dict] = [
        {"elements": ("Sr", "Ti", "O")},
        {"formula": "KNbF3", "n_atoms": (5, 5)},
        {"formula": "BaN", "n_atoms": (2, 3)},
        {"chemical_system": ("Ca", "Zr", "O", "F"), "elements": ("O",), "n_atoms": (5, 5)},
        {"volume_per_atom": (12.0, 12.4)},
        {"properties": {"gap": (2.5, 3.5)}},
    ]
    for case in cases:
        constraints = Constraints(**{"n_atoms": (1, 6), **case})
        drawn = list(vae.sample(8, constraints, seed=1))
        for candidate in drawn:
            atoms = candidate.atoms
            low, high = constraints.n_atoms
            assert low <= len(atoms) <= high
            assert closest_pair(atoms, 0.3) is None
            if constraints.species():
                assert set(constraints.elements) <= set(atoms.symbols) <= set(constraints.species())
            if constraints.formula:
                assert atoms.symbols.formula.reduce()[0].count() == Atoms(constraints.formula).symbols.formula.count()
            if constraints.volume_per_atom:
                assert 12.0 <= atoms.get_volume() / len(atoms) <= 12.4
            found = find_space_group(atoms)
            assert candidate.provenance.found_space_group == (found.number if found else None)
            assert set(candidate.provenance.details["predicted"]) == {"gap", "heat"}
        write_candidates(tmp_path / "drawn.extxyz", drawn)
        assert [c.provenance for c in read_candidates(tmp_path / "drawn.extxyz")] == [c.provenance for c in drawn]


def test_same_seed_same_crystals_of_vae(vae_weights: Path) -> None:
    vae = quick(vae_weights)
    constraints = Constraints(n_atoms=(1, 6))
    state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # type: ignore[union-attr,call-overload] # noqa: NPY002
    long, short = list(vae.sample(70, constraints, 5)), list(vae.sample(3, constraints, 5))
    assert all(a.atoms == b.atoms and a.provenance == b.provenance for a, b in zip(long, short, strict=False))
    assert [c.provenance.index for c in long] == list(range(70))
    other = list(vae.sample(3, constraints, 6))
    assert not all(a.atoms == b.atoms for a, b in zip(short, other, strict=True))
    assert (state == np.random.get_state()[1]).all()  # type: ignore[index] # noqa: NPY002 - global state untouched
    assert torch.equal(torch_state, torch.get_rng_state())


def test_what_vae_refuses(vae_weights: Path) -> None:
    vae = make_generator("vae", weights=vae_weights)
    for constraints, message in (
        (Constraints(elements=("Fe",)), "Fe did not occur"),
        (Constraints(n_atoms=(7, 9)), "at most 6 atoms"),
        (Constraints(band_gap_ev=(1.0, 2.0)), "know nothing of band_gap_ev; they know gap, heat"),
    ):
        with pytest.raises(GeneratorError, match=message):
            vae.sample(1, constraints, 0)
    hopeless = quick(vae_weights, attempts=2, min_distance=2.0)
    with pytest.raises(GeneratorError, match=r"no crystal in 2 attempts \(atoms too close: 2\)"):
        list(hopeless.sample(1, Constraints(n_atoms=(1, 6)), 0))
    with pytest.raises(GeneratorError, match="attempts"):
        make_generator("vae", weights=vae_weights, attempts=0)


def test_reconstruction_and_interpolation(vae_weights: Path) -> None:
    vae = VaeGenerator(vae_weights)
    start, end = cube("Sr", "Ti", "O"), cube("Ba", "Nb", "N")
    assert vae.latent(start).shape == (6,)
    # The way of writing a crystal does not matter.
    other = start[[3, 1, 4, 0, 2]]
    other.positions += [0.3, 1.0, -2.0]
    np.testing.assert_allclose(vae.latent(other), vae.latent(start), atol=1e-4)
    assert len(vae.reconstruct(start)) == 5
    line, failed = vae.interpolate(start, end, n=5)
    assert len(line) + failed.total() == 5
    ends = [c for c in line if c.provenance.details["at"] in (0.0, 1.0)]
    assert ends[0].atoms.symbols.formula.count() == vae.reconstruct(start).symbols.formula.count()
    fixed, _ = vae.interpolate(start, end, n=3, constraints=Constraints(formula="SrTiO3", n_atoms=(5, 5)))
    assert all(c.atoms.symbols.formula.count() == {"Sr": 1, "Ti": 1, "O": 3} for c in fixed)
    with pytest.raises(GeneratorError, match="at least two points"):
        vae.interpolate(start, end, n=1)
    with pytest.raises(CodecError, match="Cu: not among"):
        vae.latent(bulk("Cu"))


def test_only_labels_that_are_known_count(perovskites: Path, tmp_path: Path) -> None:
    name, settings = generator_settings({**VAE, "data": [str(perovskites)], "out": str(tmp_path / "run")})
    trainer = make_trainer(name, settings)
    batch = trainer.training.take(range(40))
    predicted = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    loss, known = trainer._property_loss(predicted, batch)
    true = (batch.properties.numpy() - trainer.conditions.middle) / np.array(trainer.conditions.spread)
    assert 0 < known < 80
    assert known == (~np.isnan(true)).sum()
    assert float(loss) == pytest.approx(np.nansum((predicted.numpy() - true) ** 2), rel=1e-5)


def test_weights_of_another_codec_or_generator(vae_weights: Path, tmp_path: Path) -> None:
    document, state = read_weights(vae_weights, "vae")
    document.pop("format")
    other = {**document, "codec": {**document["codec"], "elements": document["codec"]["elements"][:-1]}}
    save_weights(tmp_path / "other.safetensors", "vae", other, state)
    with pytest.raises(ModelFileError, match="damaged"):
        load_vae(tmp_path / "other.safetensors")
    save_weights(tmp_path / "gan.safetensors", "gan", document, state)
    with pytest.raises(ModelFileError, match="no weights of the generator `vae`"):
        make_generator("vae", weights=tmp_path / "gan.safetensors")


def test_weights_of_vae_are_small_and_have_a_card() -> None:
    assert SHIPPED.stat().st_size < 5_000_000
    loaded, card = load_vae(SHIPPED), SHIPPED.with_suffix(".md").read_text(encoding="utf-8")
    assert loaded.model_hash in card
    assert loaded.facts["licence"] in card
    assert len(loaded.known) > 1000


def test_perovskites_that_ship(data_folder: Path) -> None:
    """Real perovskites come back, and heats are predicted, half of them for crystals whose labels were never seen."""
    crystals = read_crystals(data_folder / "crystals" / "perov_5_val.jsonl.gz")[::40]
    vae = VaeGenerator()
    wrong = [abs(vae.properties_of(c.atoms)["heat_all"] - c.labels["heat_all"]) for c in crystals]
    assert np.mean(wrong) < 0.22  # the spread is 0.74
    same = 0
    for item in crystals[:50]:
        before, after = standard_setting(item.atoms), vae.reconstruct(item.atoms)
        assert abs(after.cell.lengths() / before.cell.lengths() - 1).max() < 0.1
        same += before.get_chemical_symbols() == after.get_chemical_symbols()
    assert same > 30
