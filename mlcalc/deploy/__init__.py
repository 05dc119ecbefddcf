"""Potentials on disk: weights files (safetensors) and model files (TorchScript, AOTInductor) that check themselves."""

from mlcalc.deploy._aotinductor import CompiledPotential
from mlcalc.deploy._torchscript import ScriptedPotential
from mlcalc.deploy.export import export
from mlcalc.deploy.load import load_model, read_document
from mlcalc.deploy.weights import load_weights, save_weights

__all__ = [
    "CompiledPotential",
    "ScriptedPotential",
    "export",
    "load_model",
    "load_weights",
    "read_document",
    "save_weights",
]
