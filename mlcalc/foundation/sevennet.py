"""SevenNet (Park et al., J. Chem. Theory Comput. 20, 4857 (2024)): published checkpoints on our own network.

A checkpoint is recognised by the hash of its bytes, so what is read is what was published. It names its tensors by
layer: ``k_self_interaction_1`` is the linear map before, ``_2`` that after the convolution, ``k_self_connection_intro``
the self-connection. e3nn stores the linear maps of all degrees in one vector, degree after degree.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from ase.data import chemical_symbols
from e3nn import o3
from torch import Tensor

from mlcalc.errors import ModelFileError
from mlcalc.ops.convolution import product_paths
from mlcalc.potentials.base import PotentialInfo
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
    checkpoint: dict[str, Any], info: PotentialInfo, dtype: torch.dtype | None = None
) -> NeuralPotential:
    """Return the potential of a checkpoint.

    Args:
        checkpoint: ``{"config": …, "model_state_dict": …}`` as the authors saved it.
        info: what the potential declares; elements, cutoff and layers must be those of the checkpoint.
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
        if (tuple(symbols), float(config["cutoff"]), settings["layers"]) != (info.elements, info.cutoff, info.layers):
            raise ModelFileError(f"a SevenNet with other elements, cutoff or layers than {info.name}")
        potential = build({"architecture": "nequip", "network": settings}, info, dtype or torch.float32)
        potential.network.load_state_dict(_translate(tensors, potential.network.state_dict(), settings))
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
    regular = [o3.Irreps([(c, (l, 1)) for l, c in enumerate(channels)])] * (layers - 1)
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


def _translate(tensors: dict[str, Tensor], template: dict[str, Tensor], settings: dict[str, Any]) -> dict[str, Tensor]:
    """Return a state for our network, in the shapes of ``template``, from the checkpoint's tensors."""
    state: dict[str, Tensor] = {}

    def cut(name: str, flat: Tensor) -> None:
        """Cut a vector into the matrices of one linear map, which lie one after the other."""
        names = [key for key in template if key.startswith(f"{name}.")]
        parts = flat.split([template[key].numel() for key in names])
        state.update({key: part.reshape(template[key].shape) for key, part in zip(names, parts, strict=True)})

    for ours, theirs in (
        ("radial.frequencies", "edge_embedding.basis_function.coeffs"),
        ("embedding", "onehot_to_feature_x.linear.weight"),
        ("readout", "reduce_input_to_hidden.linear.weight"),
        ("energy", "reduce_hidden_to_energy.linear.weight"),
    ):
        state[ours] = tensors[theirs].reshape(template[ours].shape)
    channels, layers = settings["channels"], settings["layers"]
    for k in range(layers):
        ours = f"interactions.{k}"
        cut(f"{ours}.self_connection.weights", tensors[f"{k}_self_connection_intro.linear.weight"])
        cut(f"{ours}.before.weights", tensors[f"{k}_self_interaction_1.linear.weight"])
        cut(f"{ours}.convolution.linear.weights", tensors[f"{k}_self_interaction_2.linear.weight"])
        state[f"{ours}.convolution.denominator"] = tensors[f"{k}_convolution.denominator"].squeeze()
        depth = len(settings["radial_hidden"])
        for m in range(depth + 1):
            state[f"{ours}.convolution.radial.weights.{m}"] = tensors[f"{k}_convolution.weight_nn.layer{m}.weight"]
        l_out = 0 if k == layers - 1 else len(channels) - 1
        signs = _signs(tensors, k, channels if k else channels[:1], len(channels) - 1, l_out)
        last = f"{ours}.convolution.radial.weights.{depth}"
        state[last] = state[last] * signs
    return state


def _signs(tensors: dict[str, Tensor], layer: int, channels: list[int], l_edge: int, l_out: int) -> Tensor:
    """Return for each radial weight of a layer the sign of its Wigner 3j symbol against that of today's e3nn.

    Some changed sign between versions; a checkpoint holds those that it was trained with.
    """
    signs = []
    for l1, count in enumerate(channels):
        for l2, l3 in product_paths(l1, l_edge, l_out):
            name = f"{layer}_convolution.convolution._compiled_main_left_right._w3j_{l1}_{l2}_{l3}"
            sign = 1.0
            if name in tensors:
                today, stored = o3.wigner_3j(l1, l2, l3, dtype=torch.float64), tensors[name].double()
                sign = math.copysign(1.0, float((stored * today).sum()))
                if not torch.allclose(stored * sign, today, atol=1e-6):
                    raise ModelFileError(f"the Wigner 3j symbol of degrees {l1} {l2} {l3} is not that of e3nn")
            signs += [sign] * count
    return torch.tensor(signs)
