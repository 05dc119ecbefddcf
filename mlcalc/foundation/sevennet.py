"""SevenNet (Park et al., J. Chem. Theory Comput. 20, 4857 (2024)): published checkpoints on our own network.

A checkpoint is recognised by the hash of its bytes, so what is read is what was published. It names its tensors by
layer: ``k_self_interaction_1`` is the linear map before, ``_2`` that after the convolution, ``k_self_connection_intro``
the self-connection. e3nn stores the linear maps of all degrees in one vector, degree after degree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from ase.data import chemical_symbols
from e3nn import o3
from torch import Tensor

from mlcalc.errors import ModelFileError
from mlcalc.potentials.base import PotentialInfo
from mlcalc.potentials.nequip import NequIPNetwork, product_paths
from mlcalc.potentials.neural import NeuralPotential
from mlcalc.potentials.registry import build

# What the published networks have in common and ours does. A checkpoint that says otherwise is not read.
_EXPECTED: dict[str, Any] = {
    "_model_type": "E3_equivariant_model",
    "interaction_type": "nequip",
    "self_connection_type": "linear",
    "is_parity": False,
    "act_radial": "silu",
    "_normalize_sph": True,
    "use_bias_in_linear": False,
    "readout_as_fcn": False,
    "lmax_edge": -1,
    "lmax_node": -1,
}


def from_checkpoint(
    checkpoint: dict[str, Any], info: dict[str, Any], dtype: torch.dtype | None = None
) -> NeuralPotential:
    """Return the potential of a checkpoint.

    Args:
        checkpoint: ``{"config": …, "model_state_dict": …}`` as the authors saved it.
        info: fields of ``PotentialInfo`` that the checkpoint does not say: name, licence, energy scale, ….
        dtype: float32 or float64; None is float32, that of the checkpoint.

    Raises:
        ModelFileError: the checkpoint describes another network than those rebuilt here.
    """
    try:
        config, tensors = dict(checkpoint["config"]), dict(checkpoint["model_state_dict"])
        different = {key: config.get(key) for key, value in _EXPECTED.items() if config.get(key) != value}
        if different:
            raise ModelFileError(f"a SevenNet with other settings than those rebuilt here: {different}")
        settings = _settings(config)
        symbols = [chemical_symbols[z] for z, _ in sorted(config["_type_map"].items(), key=lambda item: item[1])]
        declared = PotentialInfo(
            elements=tuple(symbols), cutoff=float(config["cutoff"]), layers=settings["layers"], **info
        )
        potential = build({"architecture": "nequip", "network": settings}, declared, dtype or torch.float32)
        network = potential.network
        assert isinstance(network, NequIPNetwork)
        _fill(network, _Reader(tensors), settings["channels"])
        scale = tensors["rescale_atomic_energy.scale"].double().unique()
        if scale.numel() != 1:
            raise ModelFileError("a SevenNet with a scale for each element, which is not rebuilt here")
        potential.set_energies(tensors["rescale_atomic_energy.shift"].double(), float(scale))
    except (KeyError, AttributeError, TypeError, RuntimeError) as error:
        raise ModelFileError(f"not a checkpoint of SevenNet ({type(error).__name__}: {error})") from error
    return potential.eval().requires_grad_(False)


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of the network."""
    layers = int(config["num_convolution_layer"])
    irreps = [o3.Irreps(text) for text in config["irreps_manual"]]
    channels = [mul for mul, _ in irreps[1]]
    regular = [o3.Irreps([(c, (l, 1)) for l, c in enumerate(channels)])] * (layers - 1)  # noqa: E741
    scalars = o3.Irreps([(channels[0], (0, 1))])
    if irreps != [scalars, *regular, scalars]:
        raise ModelFileError(f"a SevenNet with features {config['irreps_manual']}, which is not rebuilt here")
    switch = config["cutoff_function"]
    xplor = switch["cutoff_function_name"] == "XPLOR"
    if not xplor and (switch["cutoff_function_name"], switch["poly_cut_p_value"]) != ("poly_cut", 6):
        raise ModelFileError(f"a SevenNet with the cutoff function {switch}, which is not rebuilt here")
    return {
        "channels": channels,
        "layers": layers,
        "n_radial": int(config["radial_basis"]["bessel_basis_num"]),
        "radial_hidden": [int(width) for width in config["weight_nn_hidden_neurons"]],
        "cutoff_on": float(switch["cutoff_on"]) if xplor else None,
    }


@dataclass
class _Reader:
    """The tensors of a checkpoint, cut up into matrices."""

    tensors: dict[str, Tensor]

    def linear(self, name: str, weights: torch.nn.ParameterList) -> None:
        """Copy the matrices of one linear map, which lie one after the other."""
        flat = self.tensors[f"{name}.linear.weight"]
        for weight, part in zip(weights, flat.split([w.numel() for w in weights]), strict=True):
            weight.copy_(part.reshape(weight.shape))

    def last_radial(self, layer: int, channels: list[int], l_edge: int, l_out: int) -> Tensor:
        """Return the last matrix of a radial network, with the signs of today's Wigner 3j symbols.

        Those of e3nn have changed sign once; a checkpoint holds the ones it was trained with.
        """
        prefix = f"{layer}_convolution"
        signs = []
        for l1, count in enumerate(channels):
            for l2, l3 in product_paths(l1, l_edge, l_out):
                stored = self.tensors.get(f"{prefix}.convolution._compiled_main_left_right._w3j_{l1}_{l2}_{l3}")
                sign = 1.0
                if stored is not None:
                    today = o3.wigner_3j(l1, l2, l3, dtype=torch.float64)
                    sign = math.copysign(1.0, float((stored.double() * today).sum()))
                    if not torch.allclose(stored.double() * sign, today, atol=1e-6):
                        raise ModelFileError(f"the Wigner symbol of degrees {l1} {l2} {l3} is not that of e3nn")
                signs += [sign] * count
        matrix = self.tensors[f"{prefix}.weight_nn.layer2.weight"]
        return matrix * torch.tensor(signs, dtype=matrix.dtype)


@torch.no_grad()
def _fill(network: NequIPNetwork, read: _Reader, channels: list[int]) -> None:
    tensors = read.tensors
    l_max, last = len(channels) - 1, network.layers - 1
    network.radial.frequencies.copy_(tensors["edge_embedding.basis_function.coeffs"])
    network.embedding.copy_(tensors["onehot_to_feature_x.linear.weight"].reshape(network.embedding.shape))
    for k, layer in enumerate(network.interactions):
        convolution = layer.convolution
        read.linear(f"{k}_self_connection_intro", layer.self_connection.weights)
        read.linear(f"{k}_self_interaction_1", layer.before.weights)
        read.linear(f"{k}_self_interaction_2", convolution.linear.weights)
        first, second, third = convolution.radial.weights
        first.copy_(tensors[f"{k}_convolution.weight_nn.layer0.weight"])
        second.copy_(tensors[f"{k}_convolution.weight_nn.layer1.weight"])
        third.copy_(read.last_radial(k, channels if k else channels[:1], l_max, 0 if k == last else l_max))
        convolution.denominator.copy_(tensors[f"{k}_convolution.denominator"].squeeze())
    network.readout.copy_(tensors["reduce_input_to_hidden.linear.weight"].reshape(network.readout.shape))
    network.energy.copy_(tensors["reduce_hidden_to_energy.linear.weight"].reshape(network.energy.shape))
