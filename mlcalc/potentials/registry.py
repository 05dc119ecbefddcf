"""Architectures by name. A new one is one new file and one line here, or a call of ``register``."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

import torch

from mlcalc.potentials.base import PotentialInfo
from mlcalc.potentials.neural import NeuralPotential

# Import paths, so that asking for one architecture does not import the others' dependencies.
_NETWORKS: dict[str, str] = {
    "chgnet": "mlcalc.potentials.chgnet:CHGNetNetwork",
    "equivariant": "mlcalc.potentials.equivariant:EquivariantNetwork",
    "nequip": "mlcalc.potentials.nequip:NequIPNetwork",
    "schnet": "mlcalc.potentials.schnet:SchNetNetwork",
}


def register(name: str, path: str) -> None:
    """Make a network known under ``name``.

    Args:
        name: what ``config["architecture"]`` says.
        path: ``"package.module:Class"``; the class takes ``(n_elements, cutoff, **network)`` and has the integer
            attributes ``layers`` and ``exchange_width``.

    Raises:
        ValueError: if the name is taken by another class, or the path has no colon.
    """
    if ":" not in path:
        raise ValueError(f"{path!r} is not of the form 'package.module:Class'")
    if _NETWORKS.get(name, path) != path:
        raise ValueError(f"architecture {name!r} is already {_NETWORKS[name]}")
    _NETWORKS[name] = path


def architectures() -> tuple[str, ...]:
    """Return the known names."""
    return tuple(sorted(_NETWORKS))


def network_traits(config: dict[str, Any]) -> tuple[int, tuple[str, ...]]:
    """Return message-passing layers and wanted index tables of a configured network; arguments as in ``build``."""
    with torch.random.fork_rng(devices=[]):  # first weights of a throw-away network
        network = _network(config, 1, 1.0)
    return int(network.layers), tuple(getattr(network, "needs", ()))  # type: ignore[arg-type]


def completed(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration with every keyword of the network spelt out, so that later defaults cannot change it."""
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(_network_class(config)).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    return {**config, "network": {**defaults, **config.get("network", {})}}


def _network_class(config: dict[str, Any]) -> type[torch.nn.Module]:
    name = config.get("architecture")
    if name not in _NETWORKS:
        raise ValueError(f"unknown architecture {name!r}; known: {', '.join(architectures())}")
    module, _, attribute = _NETWORKS[name].partition(":")
    network_class: type[torch.nn.Module] = getattr(import_module(module), attribute)
    return network_class


def _network(config: dict[str, Any], n_elements: int, cutoff: float) -> torch.nn.Module:
    try:
        return _network_class(config)(n_elements, cutoff, **config.get("network", {}))
    except TypeError as error:
        raise ValueError(f"settings of architecture {config.get('architecture')!r} do not fit: {error}") from error


def build(config: dict[str, Any], info: PotentialInfo, dtype: torch.dtype | None = None) -> NeuralPotential:
    """Build a potential with fresh weights, zero reference energies and scale 1.

    Args:
        config: ``{"architecture": name, "network": keyword arguments of the network, "zbl": bool}``.
        info: elements, cutoff and the rest; its ``layers`` must be that of the network.
        dtype: of weights and tables (coupling coefficients are then exact to that type); None leaves torch's default.

    Raises:
        ValueError: if the architecture is unknown, its arguments do not fit, or ``info.layers`` is wrong.
    """
    network = _network(config, len(info.elements), info.cutoff)
    if network.layers != info.layers:
        raise ValueError(f"info says {info.layers} layers, the {config['architecture']} network has {network.layers}")
    return NeuralPotential(network if dtype is None else network.to(dtype), info, config)
