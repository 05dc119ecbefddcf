"""Potentials on disk: weights files (safetensors) and model files (TorchScript) that check themselves."""

from mlcalc.deploy.export import export
from mlcalc.deploy.load import ScriptedPotential, load_model, read_document
from mlcalc.deploy.weights import load_weights, save_weights

__all__ = ["ScriptedPotential", "export", "load_model", "load_weights", "read_document", "save_weights"]
