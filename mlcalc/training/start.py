"""Where fine-tuning begins: the network of another potential, with energies shifted to the labels at hand."""

from __future__ import annotations

import dataclasses

import torch

from mlcalc.errors import MlcalcError, TrainingError
from mlcalc.potentials.neural import NeuralPotential
from mlcalc.potentials.registry import build
from mlcalc.training.settings import ModelSettings
from mlcalc.zoo import load


def read_start(model: ModelSettings, elements: tuple[str, ...]) -> NeuralPotential:
    """Return a float32 copy of ``model.start`` for some of its elements, without a grade, its weights to be trained.

    Args:
        model: settings; what a network is made of must be left to the potential it starts from.
        elements: symbols of the training data, in the order that the result is to have.

    Raises:
        TrainingError: there is no such potential, it is not a network with weights, does not cover the elements or
            cannot give others up, or the settings ask for another network.
    """
    changed = [
        field.name
        for field in dataclasses.fields(ModelSettings)
        if field.name not in ("start", "grade") and getattr(model, field.name) != getattr(ModelSettings(), field.name)
    ]
    if changed:
        raise TrainingError(
            f"model.start takes the network of {model.start} as it is; leave model.{', model.'.join(changed)} away"
        )
    try:
        found = load(model.start, "float32", elements=elements)
    except MlcalcError as error:
        raise TrainingError(f"model.start: {error}") from error
    if not isinstance(found, NeuralPotential) or "architecture" not in found.config:
        raise TrainingError(
            f"model.start: {model.start} is not a single network with weights to train; "
            "give a name or a .safetensors file (of a family: with elements of one member)"
        )
    return _chosen(found, elements, model.start)


def _chosen(found: NeuralPotential, elements: tuple[str, ...], name: str) -> NeuralPotential:
    """Rebuild with ``elements`` in their order."""
    index = [found.info.elements.index(symbol) for symbol in elements]
    config = {key: value for key, value in found.config.items() if key != "grade"}
    info = dataclasses.replace(found.info, elements=elements, outputs=())
    state = {key: value for key, value in found.network.state_dict().items()}
    if index != list(range(len(found.info.elements))):
        select = getattr(found.network, "select_species", None)
        if select is None:
            raise TrainingError(
                f"model.start: {name} is made for {', '.join(found.info.elements)} together; set data.elements so"
            )
        state = select(index)
    result = build(config, info, torch.float32)
    result.network.load_state_dict(state)
    result.set_energies(found.reference_energies.double()[index], float(found.scale))
    return result.requires_grad_(True)
