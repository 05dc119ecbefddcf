"""CHGNet (Deng et al., Nat. Mach. Intell. 5, 1031 (2023)): the published checkpoint on our own network.

The checkpoint keeps core and gate of a gated layer apart, and the first layer as one matrix over all inputs side by
side; ours keeps core and gate side by side, and the inputs apart.
"""

from __future__ import annotations

from typing import Any

import torch
from ase.data import atomic_numbers
from torch import Tensor

from mlcalc.errors import ModelFileError
from mlcalc.potentials.base import PotentialInfo
from mlcalc.potentials.neural import NeuralPotential
from mlcalc.potentials.registry import build

# What the published network is like and ours can be. A checkpoint that says otherwise is not read.
_EXPECTED: dict[str, Any] = {
    "composition_model": "MPtrj",
    "update_bond": True,
    "update_angle": True,
    "read_out": "ave",
    "mlp_first": True,
    "is_intensive": True,
    "learnable_rbf": True,
    "angle_layer_hidden_dim": 0,
    "non_linearity": "silu",
    "gMLP_norm": "layer",
    "readout_norm": "layer",
}
_WIDTHS = ("atom_fea_dim", "bond_fea_dim", "angle_fea_dim", "atom_conv_hidden_dim", "bond_conv_hidden_dim")


def from_checkpoint(
    checkpoint: dict[str, Any], info: PotentialInfo, dtype: torch.dtype | None = None
) -> NeuralPotential:
    """Return the potential of a checkpoint.

    Args:
        checkpoint: ``{"model": {"model_args": …, "state_dict": …}}`` as the authors saved it.
        info: what the potential declares; cutoff and layers must be those of the checkpoint.
        dtype: float32 or float64; None is float32, that of the checkpoint.

    Raises:
        ModelFileError: the checkpoint describes another network than the one rebuilt here.
    """
    try:
        config, tensors = dict(checkpoint["model"]["model_args"]), dict(checkpoint["model"]["state_dict"])
        different = {key: config.get(key) for key, value in _EXPECTED.items() if config.get(key) != value}
        width = int(config["atom_fea_dim"])
        different |= {key: config[key] for key in _WIDTHS if config[key] != width}
        if config["mlp_hidden_dims"] != [width] * 3:
            different["mlp_hidden_dims"] = config["mlp_hidden_dims"]
        if different:
            raise ModelFileError(f"a CHGNet with other settings than those rebuilt here: {different}")
        if (float(config["atom_graph_cutoff"]), int(config["n_conv"])) != (info.cutoff, info.layers):
            raise ModelFileError(f"a CHGNet with another cutoff or other layers than {info.name}")
        settings = {
            "width": width,
            "layers": int(config["n_conv"]),
            "n_radial": int(config["num_radial"]),
            "n_angular": int(config["num_angular"]),
            "short": float(config["bond_graph_cutoff"]),
            "power": int(config["cutoff_coeff"]),
        }
        numbers = torch.tensor([atomic_numbers[e] - 1 for e in info.elements])
        potential = build({"architecture": "chgnet", "network": settings}, info, dtype or torch.float32)
        potential.network.load_state_dict(_translate(tensors, numbers, potential.network.state_dict()))
        potential.set_energies(tensors["composition_model.fc.weight"][0, numbers].double(), 1.0)
    except (KeyError, AttributeError, TypeError, RuntimeError) as error:
        raise ModelFileError(f"not a checkpoint of CHGNet ({type(error).__name__}: {error})") from error
    return potential.eval().requires_grad_(False)


def _translate(tensors: dict[str, Tensor], numbers: Tensor, template: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state for our network, with the names of ``template``, from the checkpoint's tensors."""
    state = {
        "embedding": tensors["atom_embedding.embedding.weight"][numbers],
        "radial.frequencies": tensors["bond_basis_expansion.rbf_expansion_ag.frequencies"],
        "radial_short.frequencies": tensors["bond_basis_expansion.rbf_expansion_bg.frequencies"],
        "angular.frequencies": tensors["angle_basis_expansion.fourier_expansion.frequencies"],
        "bond_embedding.weight": tensors["bond_embedding.weight"],
        "bond_weights.weight": tensors["bond_weights_ag.weight"],
        "short_weights.weight": tensors["bond_weights_bg.weight"],
        "angle_embedding.weight": tensors["angle_embedding.weight"],
        "norm.weight": tensors["readout_norm.weight"],
        "norm.bias": tensors["readout_norm.bias"],
    }
    for place, theirs_at in ((0, 0), (2, 2), (4, 4), (6, 7)):
        for part in ("weight", "bias"):
            state[f"readout.{place}.{part}"] = tensors[f"mlp.layers.{theirs_at}.{part}"]
    updates = {
        "atom_updates": ("atom_conv_layers", "twoBody_atom"),
        "bond_updates": ("bond_conv_layers", "twoBody_bond"),
        "angle_updates": ("angle_layers", "twoBody_bond"),
    }
    for ours, (theirs, gated) in updates.items():
        for k in range(len({name.split(".")[1] for name in template if name.startswith(ours)})):
            prefix = f"{ours}.{k}.message"
            state |= {f"{prefix}.{n}": t for n, t in _gated(tensors, f"{theirs}.{k}.{gated}", template, prefix).items()}
            if f"{ours}.{k}.out.weight" in template:
                state[f"{ours}.{k}.out.weight"] = tensors[f"{theirs}.{k}.mlp_out.layers.1.weight"]
    return state


def _gated(tensors: dict[str, Tensor], theirs: str, template: dict[str, Tensor], ours: str) -> dict[str, Tensor]:
    """Return the tensors of one gated layer."""
    inputs, width, _ = template[f"{ours}.first"].shape
    hidden = f"{theirs}.mlp_core.layers.3.weight" in tensors
    halves = [f"{theirs}.{half}.layers" for half in ("mlp_core", "mlp_gate")]
    first = 0 if hidden else 1  # a dropout layer comes before where there is no hidden layer
    # (width, inputs · width) each becomes (inputs, width, 2 · width).
    matrices = [tensors[f"{half}.{first}.weight"].reshape(width, inputs, width).permute(1, 2, 0) for half in halves]
    state = {
        "first": torch.cat(matrices, dim=2),
        "first_bias": torch.cat([tensors[f"{half}.{first}.bias"] for half in halves]),
        # Without a hidden layer nothing reads these.
        "second": torch.zeros_like(template[f"{ours}.second"]),
        "second_bias": torch.zeros_like(template[f"{ours}.second_bias"]),
    }
    if hidden:
        state["second"] = torch.stack([tensors[f"{half}.3.weight"].T for half in halves])
        state["second_bias"] = torch.stack([tensors[f"{half}.3.bias"] for half in halves])
    for k in range(2):
        for part in ("weight", "bias"):
            state[f"norms.{k}.{part}"] = tensors[f"{theirs}.bn{k + 1}.{part}"]
    return state
