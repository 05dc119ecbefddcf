import pytest
import torch

from mlcalc.potentials import ZBL, NeuralPotential, PotentialInfo, architectures, build, register

INFO = PotentialInfo(elements=("Si", "C"), cutoff=4.0, layers=2)
SCHNET = {"architecture": "schnet", "network": {"channels": 8, "layers": 2, "n_radial": 8}, "zbl": True}
DIMER = (
    torch.tensor([0, 1, 1]),
    torch.tensor([[0, 1], [1, 0]]),
    torch.tensor([[0.7, 0.0, 0.9], [-0.7, 0.0, -0.9]], dtype=torch.float64),
)


def test_energy_is_scale_times_network_plus_references_plus_repulsion() -> None:
    potential = build(SCHNET, INFO, torch.float64)
    potential.set_energies([-5.4, -9.1], 0.7)
    zbl = ZBL(INFO.elements, dtype=torch.float64)(*DIMER)
    assert zbl[0] > 0.1
    expected = 0.7 * potential.network(*DIMER) + torch.tensor([-5.4, -9.1, -9.1], dtype=torch.float64) + zbl
    torch.testing.assert_close(potential(*DIMER), expected, rtol=0, atol=1e-12)
    assert potential.exchange_width == 8


def test_reference_energies_are_not_trained() -> None:
    potential = build(SCHNET, INFO)
    trained = {name for name, _ in potential.named_parameters()}
    assert "reference_energies" not in trained
    assert "scale" not in trained
    assert {"reference_energies", "scale"} <= set(potential.state_dict())


def test_rebuilt_from_its_config() -> None:
    first = build(SCHNET, INFO, torch.float64)
    first.set_energies([-5.4, -9.1], 0.7)
    second = build(first.config, PotentialInfo.from_dict(first.info.to_dict()), torch.float64)
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(second(*DIMER), first(*DIMER), rtol=0, atol=0)


@pytest.mark.parametrize("zbl", [True, False])
def test_scripted_equals_eager(zbl: bool) -> None:
    potential = build({**SCHNET, "zbl": zbl}, INFO, torch.float64)
    torch.testing.assert_close(torch.jit.script(potential)(*DIMER), potential(*DIMER), rtol=0, atol=1e-12)


def test_errors_name_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"unknown architecture 'painn'; known: .*schnet"):
        build({"architecture": "painn"}, INFO)
    with pytest.raises(ValueError, match=r"do not fit.*chanels"):
        build({"architecture": "schnet", "network": {"chanels": 8}}, INFO)
    with pytest.raises(ValueError, match="info says 2 layers, the schnet network has 3"):
        build({"architecture": "schnet", "network": {"layers": 3}}, INFO)
    with pytest.raises(ValueError, match="2 elements"):
        build(SCHNET, INFO).set_energies([-5.4], 1.0)
    short = PotentialInfo(elements=("Si",), cutoff=1.0, layers=2)
    with pytest.raises(ValueError, match="repulsion"):
        build(SCHNET, short)


def test_register() -> None:
    register("schnet", "mlcalc.potentials.schnet:SchNetNetwork")  # again: no harm
    with pytest.raises(ValueError, match="already"):
        register("schnet", "other.module:Network")
    with pytest.raises(ValueError, match="form"):
        register("new", "module.Network")
    assert "new" not in architectures()


def test_neural_potential_from_parts() -> None:
    network = build(SCHNET, INFO, torch.float64).network
    potential = NeuralPotential(network, INFO, {**SCHNET, "zbl": False}, reference_energies=[1.0, 2.0], scale=3.0)
    assert potential.zbl is None
    assert potential.dtype == torch.float64
    assert potential.reference_energies.tolist() == [1.0, 2.0]
    assert potential.scale.item() == 3.0
